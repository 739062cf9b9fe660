//! Images: what a container starts from, and how the engine gets at the bytes of one.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::EngineError;

/// Which image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageWant {
    /// A name that a registry knows. Its form was checked.
    Registry {
        /// The one name that all names of the image stand for, such as `docker.io/library/debian:12` or `quay.io/a/b@sha256:…`.
        name: String,
        /// As the author wrote it, for people.
        shown: String,
        /// Whether an image that is there is taken as it is. Otherwise a tag is compared with the registry from time to time.
        as_it_is: bool,
    },
    /// An archive, as `docker save` and other builders write it, perhaps compressed.
    Artifact {
        /// Names the bytes for ever, for instance `artifact:<taskId>/<runId>/<name>`: under one key they never change.
        key: String,
        /// For people.
        shown: String,
    },
}

impl ImageWant {
    /// By what the image is looked up: the same for all who want the same in the same way, whatever they call it.
    pub fn key(&self) -> WantKey {
        match self {
            Self::Registry { name, as_it_is, .. } => WantKey::Registry { name: name.clone(), as_it_is: *as_it_is },
            Self::Artifact { key, .. } => WantKey::Artifact(key.clone()),
        }
    }
}

/// What is the same in all [`ImageWant`]s that one acquisition satisfies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WantKey {
    /// An image of a registry.
    Registry {
        /// The name that all its names stand for.
        name: String,
        /// Whether it is taken as it is.
        as_it_is: bool,
    },
    /// That of an archive, by its key.
    Artifact(String),
}

impl fmt::Display for ImageWant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { shown, .. } => write!(f, "image {shown:?}"),
            Self::Artifact { shown, .. } => write!(f, "image {shown}"),
        }
    }
}

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// By which containers are made from it: the engine's own identifier, `sha256:…`.
    pub id: String,
    /// A name for people, if it has one.
    pub name: Option<String>,
    /// SHA-256 of the archive as it was downloaded, if it came from one.
    pub artifact_sha256: Option<[u8; 32]>,
    /// Whether the engine had it already.
    pub was_there: bool,
}

/// Where the archive of an image comes from.
#[async_trait]
pub trait ImageBytes: Send + Sync + 'static {
    /// Begins at the first byte.
    async fn open(&self) -> Result<Box<dyn ImageStream>, EngineError>;
}

/// An archive on its way: decompressed, while the digest of what was downloaded is computed.
#[async_trait]
pub trait ImageStream: Send {
    /// The next bytes of the tar archive; none after its verified end. An error says whose fault it is.
    async fn next(&mut self) -> Result<Option<Bytes>, EngineError>;

    /// SHA-256 of the archive as it was downloaded; known once [`ImageStream::next`] has returned none.
    fn sha256(&self) -> Option<[u8; 32]>;

    /// Bytes downloaded so far and, if known, in all.
    fn downloaded(&self) -> (u64, Option<u64>);
}

/// Where an engine tells how an acquisition goes on.
pub trait Progress: Send + Sync + 'static {
    /// Takes one line for the task's log. The engine says at most one in five seconds.
    fn line(&self, text: &str);

    /// Takes one line about something that is not as it should be, and that the acquisition gets over.
    fn warning(&self, text: &str) {
        self.line(text);
    }
}

#[cfg(test)]
mod tests {
    use super::ImageWant;

    #[test]
    fn what_an_image_is_called_makes_no_other_image_of_it() {
        let registry = |name: &str, shown: &str, as_it_is| {
            let (name, shown) = (name.to_owned(), shown.to_owned());
            ImageWant::Registry { name, shown, as_it_is }
        };
        let short = registry("docker.io/library/debian:12", "debian:12", false);
        let full = registry("docker.io/library/debian:12", "index.docker.io/library/debian:12", false);
        assert_eq!(short.key(), full.key());
        assert_ne!(short.to_string(), full.to_string(), "each is told in the words of its author");
        assert_ne!(short.key(), registry("docker.io/library/debian:12", "debian:12", true).key());
        let archive = ImageWant::Artifact { key: "docker.io/library/debian:12".to_owned(), shown: "debian:12".to_owned() };
        assert_ne!(short.key(), archive.key());
    }
}
