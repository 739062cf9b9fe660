//! Images: what a container starts from, and how the engine gets at the bytes of one.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::EngineError;

/// Which image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageWant {
    /// A name that a registry knows, such as `debian:12` or `quay.io/a/b@sha256:…`. Its form was checked.
    Registry {
        /// As the author wrote it.
        name: String,
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

impl fmt::Display for ImageWant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { name, .. } => write!(f, "image {name:?}"),
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
