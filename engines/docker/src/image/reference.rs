//! Names that registries know, in full.
//!
//! The form was checked before; here the parts are told apart, so that an engine is only ever asked for a full name. A
//! short one could be taken for the identifier of an image (`sha256:…`, or any hexadecimal digits), and by identifier a
//! task could have the image of another task.

use std::fmt;

/// Where names without a registry come from.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// A name in full.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Registry, perhaps with a port.
    pub registry: String,
    /// Path in it.
    pub path: String,
    /// Tag; `latest` if there is neither tag nor digest.
    pub tag: Option<String>,
    /// Digest, `sha256:…`. It outranks the tag.
    pub digest: Option<String>,
}

impl Reference {
    /// Takes a name apart. None if it is no name.
    pub fn parse(name: &str) -> Option<Self> {
        let name = tc_payload::Reference::parse(name).ok()?;
        let tag = name.tag_or_latest().map(str::to_owned);
        Some(Self { registry: name.registry, path: name.repository, tag, digest: name.digest })
    }

    /// Registry and path.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// What chooses among the images of the repository: the digest, else the tag.
    pub fn version(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// The same image in a mirror: a registry, perhaps with a path below which it keeps what it mirrors.
    pub fn at(&self, mirror: &str) -> Self {
        let (registry, path) = match mirror.trim_end_matches('/').split_once('/') {
            Some((registry, below)) => (registry, format!("{below}/{}", self.path)),
            None => (mirror.trim_end_matches('/'), self.path.clone()),
        };
        Self { registry: registry.to_owned(), path, ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.digest.is_some() { '@' } else { ':' };
        write!(f, "{}/{}{separator}{}", self.registry, self.path, self.version())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::Reference;

    #[test]
    fn names_become_full_names() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (name, full) in [
            ("debian", "docker.io/library/debian:latest".to_owned()),
            ("debian:12", "docker.io/library/debian:12".to_owned()),
            ("a/b", "docker.io/a/b:latest".to_owned()),
            ("localhost/b", "localhost/b:latest".to_owned()),
            ("127.0.0.1:5000/b/c:x", "127.0.0.1:5000/b/c:x".to_owned()),
            ("quay.io/a/b:1@DIGEST", "quay.io/a/b@DIGEST".to_owned()),
            ("sha256:abcd", "docker.io/library/sha256:abcd".to_owned()),
        ] {
            let parsed = Reference::parse(&name.replace("DIGEST", &digest)).unwrap();
            assert_eq!(parsed.to_string(), full.replace("DIGEST", &digest), "{name}");
        }
        for bad in ["", "--privileged", "a b", "A", "a:", "a@", "../a", "a//b", "a?b=c", "a/../../b"] {
            assert_eq!(Reference::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_mirror_keeps_path_and_version() {
        let reference = Reference::parse("debian:12").unwrap();
        assert_eq!(reference.at("127.0.0.1:5000").to_string(), "127.0.0.1:5000/library/debian:12");
        assert_eq!(reference.at("mirror.example/hub/").to_string(), "mirror.example/hub/library/debian:12");
    }
}
