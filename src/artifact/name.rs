//! Names of artifacts: which the queue takes, and which are plain paths besides.
//!
//! The queue takes nearly any text. What is no plain path reaches it, too, but can neither be saved below a directory nor be
//! written into an address without care.

use tc_payload::{Problem, escape_pointer_segment, native::ArtifactSpec};

use crate::local::check::ARTIFACT_NAME;

/// Why the queue refuses a name, if it does.
pub fn refused(name: &str) -> Option<String> {
    ARTIFACT_NAME.problem(name)
}

/// The components of a name that is a path which stays below its directory, or why it is none, as a fragment to follow the name.
pub fn parts(name: &str) -> Result<Vec<&str>, &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if name.starts_with('/') {
        return Err("begins with a slash");
    }
    if name.ends_with('/') {
        return Err("ends with a slash");
    }
    let parts: Vec<&str> = name.split('/').collect();
    parts.iter().try_for_each(|part| match *part {
        "" => Err("has two slashes in a row"),
        "." | ".." => Err("has a part that is `.` or `..`"),
        part if part.contains('\0') => Err("has a NUL character"),
        _ => Ok(()),
    })?;
    Ok(parts)
}

/// Why the artifacts of a payload that have this name, or begin with it, are no plain paths.
pub fn odd(name: &str) -> Option<&'static str> {
    // The name of a directory may end with a slash, which is not there twice before what is in it.
    parts(name.strip_suffix('/').unwrap_or(name)).err()
}

/// Where in a payload an artifact is, and where its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The artifact.
    pub at: String,
    named: String,
    is_key: bool,
}

impl Written {
    /// Where the artifact with this number is. Containers have an object of them, whose keys are the names.
    pub fn of(spec: &ArtifactSpec, number: usize, container: bool) -> Self {
        if container {
            let at = format!("/artifacts/{}", escape_pointer_segment(spec.published_name()));
            return Self { named: at.clone(), at, is_key: true };
        }
        let at = format!("/artifacts/{number}");
        let field = if spec.name.as_ref().is_some_and(|name| !name.is_empty()) { "name" } else { "path" };
        Self { named: format!("{at}/{field}"), at, is_key: false }
    }

    /// A problem with its name.
    pub fn about_name(&self, message: impl Into<String>) -> Problem {
        let problem = Problem::new(&self.named, message);
        if self.is_key { problem.about_key() } else { problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_leave_the_directory() {
        for name in ["..", "a/../b", "/etc/passwd", "a//b", "a/", "", "./a", "a\0b", "../../x"] {
            assert!(parts(name).is_err(), "{name:?}");
        }
        for name in ["a", "public/a b.txt", "..a", "a..", "ä\\..\\b"] {
            assert_eq!(parts(name).map(|parts| parts.join("/")).as_deref(), Ok(name));
        }
        assert_eq!((odd("public/"), odd("public//"), odd("/")), (None, Some("ends with a slash"), Some("is empty")));
    }

    #[test]
    fn the_queue_takes_paths_that_are_not_plain_but_no_control_characters() {
        for name in ["../x", "/x", "a//b", "ä"] {
            assert_eq!(refused(name), None, "{name:?}");
        }
        for name in ["", "a\nb", "a\0b", &"x".repeat(1025)] {
            assert!(refused(name).is_some(), "{name:?}");
        }
    }
}
