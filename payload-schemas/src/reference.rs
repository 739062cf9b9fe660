//! Names of images, by the grammar that registries and the Docker engine share (`distribution/reference`).
//!
//! ```text
//! name       = [ registry "/" ] path [ ":" tag ] [ "@" digest ]
//! registry   = host [ ":" port ]      told from a first path component by a `.`, a `:`, a capital letter, or by being `localhost`
//! path       = component *( "/" component )
//! component  = 1*[a-z0-9] *( ( "." | "_" | "__" | 1*"-" ) 1*[a-z0-9] )
//! tag        = [A-Za-z0-9_] *127[A-Za-z0-9_.-]
//! digest     = "sha256:" 64 hex       (also sha384 and sha512)
//! ```
//!
//! A name without a registry is one of `docker.io`, and there a name without an owner belongs to `library`.

use std::fmt;

/// The registry of names that have none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// What people called it before.
const FORMER_REGISTRY: &str = "index.docker.io";
/// The owner of names in it that have none.
const DEFAULT_OWNER: &str = "library/";
/// Longest path, and longest registry with path, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Longest tag in bytes.
const MAX_TAG_BYTES: usize = 128;
/// Algorithms of digests, and how many hexadecimal digits each has.
const ALGORITHMS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// The name of an image, with everything filled in that people leave out except the tag.
///
/// `Display` writes it in full: `docker.io/library/debian:12`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Host, perhaps with a port: `docker.io`, `quay.io`, `localhost:5000`, `[::1]:5000`.
    pub registry: String,
    /// Path in the registry: `library/debian`.
    pub repository: String,
    /// The tag, if one was written. Without one and without a digest, `latest` is meant.
    pub tag: Option<String>,
    /// The digest with its algorithm, `sha256:…`, if one was written. It outranks the tag.
    pub digest: Option<String>,
}

impl Reference {
    /// Reads a name, or says what is wrong with it, as a fragment to follow the name.
    pub fn parse(text: &str) -> Result<Reference, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.len() == 64 && text.bytes().all(is_lower_hex) {
            return Err("is the identifier of an image, not a name".to_owned());
        }
        if text.starts_with('-') {
            // Somebody hopes that it ends up as an option on a command line.
            return Err("begins with a dash".to_owned());
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(read_digest(digest)?)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(rest)?;
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(read_tag(tag)?)),
            None => (rest, None),
        };
        read_path(path)?;
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{DEFAULT_OWNER}{path}")
        } else {
            path.to_owned()
        };
        if registry.len() + 1 + repository.len() > MAX_NAME_BYTES {
            return Err(format!("is longer than {MAX_NAME_BYTES} characters"));
        }
        Ok(Reference { registry, repository, tag, digest })
    }

    /// Whether a text can stand in [`Reference::registry`].
    pub fn is_registry(text: &str) -> bool {
        text == DEFAULT_REGISTRY || (text != FORMER_REGISTRY && is_host(text) && is_registry(text))
    }

    /// The one name of the image that all its names stand for: registry, path, and the digest or else the tag that is meant.
    /// An image is looked up by nothing else.
    pub fn canonical(&self) -> String {
        match (&self.digest, self.tag_or_latest()) {
            (Some(digest), _) => format!("{}/{}@{digest}", self.registry, self.repository),
            (None, tag) => format!("{}/{}:{}", self.registry, self.repository, tag.unwrap_or("latest")),
        }
    }

    /// The tag that is meant: the one that was written, or `latest`. None if a digest says which image it is.
    pub fn tag_or_latest(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (_, Some(_)) => None,
            (Some(tag), None) => Some(tag),
            (None, None) => Some("latest"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The registry and what follows it.
fn split_registry(text: &str) -> Result<(String, &str), String> {
    let is_host =
        |first: &str| first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase());
    match text.split_once('/').filter(|(first, _)| is_host(first)) {
        Some((FORMER_REGISTRY | DEFAULT_REGISTRY, rest)) => Ok((DEFAULT_REGISTRY.to_owned(), rest)),
        Some((registry, rest)) => {
            if !is_registry(registry) {
                return Err(format!("has a registry {registry:?}, which is no host with an optional port"));
            }
            Ok((registry.to_owned(), rest))
        }
        None => Ok((DEFAULT_REGISTRY.to_owned(), text)),
    }
}

/// Whether the first part of a name is meant as a registry.
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// A host as it may stand in a name: letters, digits, dashes and dots, or an address of IPv6 in brackets.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') => {
                return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            }
            _ => return false,
        },
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_label(label: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(is_inner)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

fn read_path(path: &str) -> Result<(), String> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("has capital letters in its path".to_owned());
    }
    if path.len() > MAX_NAME_BYTES {
        return Err(format!("is longer than {MAX_NAME_BYTES} characters"));
    }
    match path.split('/').find(|component| !is_component(component)) {
        None => Ok(()),
        Some("") => Err("has an empty part in its path".to_owned()),
        Some(component) => Err(format!(
            "has a part {component:?}; parts are small letters and digits with single dots, one or two underscores, or dashes between them"
        )),
    }
}

fn is_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edges = component.bytes().next().is_some_and(is_word) && component.bytes().next_back().is_some_and(is_word);
    let separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    edges
        && separators.into_iter().all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

fn read_tag(tag: &str) -> Result<String, String> {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let is_tag = !tag.is_empty() && tag.len() <= MAX_TAG_BYTES && !tag.starts_with(['.', '-']) && tag.bytes().all(is_inner);
    if is_tag { Ok(tag.to_owned()) } else { Err(format!("has a tag {:?}, which is none", start_of(tag))) }
}

fn read_digest(digest: &str) -> Result<String, String> {
    let known = digest.split_once(':').and_then(|(algorithm, hex)| {
        ALGORITHMS
            .iter()
            .find(|(name, _)| *name == algorithm)
            .map(|(_, digits)| hex.len() == *digits && hex.bytes().all(is_lower_hex))
    });
    match known {
        Some(true) => Ok(digest.to_owned()),
        _ => Err(format!("has a digest {:?}, which is none; one is sha256: and 64 hexadecimal digits", start_of(digest))),
    }
}

fn is_lower_hex(b: u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
}

/// As much of a text as a sentence has room for.
fn start_of(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::Reference;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_filled_in() {
        let digest = format!("sha256:{HEX}");
        for (text, full) in [
            ("debian", "docker.io/library/debian"),
            ("debian:12", "docker.io/library/debian:12"),
            ("owner/name", "docker.io/owner/name"),
            ("docker.io/debian", "docker.io/library/debian"),
            ("index.docker.io/debian:x", "docker.io/library/debian:x"),
            ("quay.io/a/b/c:v1.2-3_4", "quay.io/a/b/c:v1.2-3_4"),
            ("quay.io/a", "quay.io/a"),
            ("localhost/a", "localhost/a"),
            ("localhost:5000/a:b", "localhost:5000/a:b"),
            ("host:5000/a", "host:5000/a"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a"),
            ("[::1]:5000/a", "[::1]:5000/a"),
            ("[2001:db8::1]/a", "[2001:db8::1]/a"),
            ("Registry/a", "Registry/a"),
            ("a__b/c--d/e.f_g", "docker.io/a__b/c--d/e.f_g"),
            ("a/b/c", "docker.io/a/b/c"),
            ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com"),
            (&format!("a@{digest}"), &format!("docker.io/library/a@{digest}")),
            (&format!("q.io/a:b@{digest}"), &format!("q.io/a:b@{digest}")),
            (&format!("a{HEX}"), &format!("docker.io/library/a{HEX}")),
            (&format!("a:{}", "x".repeat(128)), &format!("docker.io/library/a:{}", "x".repeat(128))),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), *full);
            assert_eq!(Reference::parse(full).unwrap(), reference, "{full} is not its own full form");
        }
    }

    #[test]
    fn the_tag_that_is_meant() {
        let tag = |text: &str| Reference::parse(text).unwrap().tag_or_latest().map(str::to_owned);
        assert_eq!(tag("debian"), Some("latest".to_owned()));
        assert_eq!(tag("debian:12"), Some("12".to_owned()));
        assert_eq!(tag(&format!("debian:12@sha256:{HEX}")), None);
    }

    #[test]
    fn all_names_of_an_image_have_one_that_they_stand_for() {
        let digest = format!("sha256:{HEX}");
        let (pinned, tagged) = (format!("debian@{digest}"), format!("index.docker.io/debian:12@{digest}"));
        let full = format!("docker.io/library/debian@{digest}");
        for (names, canonical) in [
            (
                &["debian:12", "library/debian:12", "docker.io/library/debian:12", "index.docker.io/library/debian:12"][..],
                "docker.io/library/debian:12",
            ),
            (&["debian", "docker.io/debian", "library/debian:latest"], "docker.io/library/debian:latest"),
            (&["quay.io/a", "quay.io/a:latest"], "quay.io/a:latest"),
            (&["quay.io/library/debian:12"], "quay.io/library/debian:12"),
            (&[pinned.as_str(), tagged.as_str()], full.as_str()),
        ] {
            for name in names {
                assert_eq!(Reference::parse(name).unwrap().canonical(), canonical, "{name}");
            }
            assert_eq!(Reference::parse(canonical).unwrap().canonical(), canonical);
        }
    }

    #[test]
    fn registries_that_names_can_have() {
        for text in ["docker.io", "quay.io", "localhost", "localhost:5000", "host:1", "[::1]:5000", "10.0.0.1"] {
            assert!(Reference::is_registry(text), "{text}");
            assert_eq!(Reference::parse(&format!("{text}/a/b")).unwrap().registry, text);
        }
        for text in ["", "host", "index.docker.io", "https://quay.io", "quay.io/", "quay.io/a", "a b.c", ":5000"] {
            assert!(!Reference::is_registry(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long_tag = format!("a:{}", "x".repeat(129));
        let long = "a".repeat(256);
        let deep = format!("quay.io/{}", "a/".repeat(130) + "a");
        let short_digest = format!("a@sha256:{}", &HEX[1..]);
        let capital_digest = format!("a@sha256:{}", HEX.to_uppercase());
        let other_digest = format!("a@md5:{HEX}");
        for text in [
            "",
            "--privileged",
            "-a",
            "-v/:/x",
            "a b",
            "a\n",
            "a\0",
            "A",
            "quay.io/A",
            "a/B",
            "owner/",
            "/a",
            "a//b",
            "quay.io/",
            "a:",
            ":a",
            "a:-b",
            "a:.b",
            "a:b:c",
            "a:b/c",
            "a@",
            "a@b",
            "a@b@c",
            "@sha256:0",
            "a.",
            "a_",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "_a/b",
            "a/-b",
            "host:x/a",
            "host:/a",
            "-host.x/a",
            "ho_st.x/a",
            "a..b.com/c",
            "[::1/a",
            "[]/a",
            "[x]/a",
            "[::1]x/a",
            "http://a/b",
            "ä",
            "a:ä",
            "a,ro",
            "a;b",
            "$(a)",
            HEX,
            &long_tag,
            &long,
            &deep,
            &short_digest,
            &capital_digest,
            &other_digest,
        ] {
            let refused = Reference::parse(text);
            assert!(refused.is_err(), "{text:?} is read as {refused:?}");
        }
        assert_eq!(Reference::parse("--privileged").unwrap_err(), "begins with a dash");
    }
}
