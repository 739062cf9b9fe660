//! What the binary is called. Pools have its forerunners' names in their images, scripts and monitors, so it answers to them.
//!
//! | name | is |
//! |---|---|
//! | `tc-worker`, or anything else | this worker |
//! | `generic-worker`, also with an engine and a platform behind it | this worker, whose version line has the form that inventories parse |
//! | `…-multiuser…` | this worker, which does not `run`: tasks would not get what the name promises |
//! | `start-worker`, `livelog`, `taskcluster-proxy` | parts that come later; they tell their version and nothing else |

use std::{ffi::OsStr, path::Path};

use super::{engine, problems::Failure};

/// This version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The name of this program, and of the reference whose place it takes.
const OURS: &str = "tc-worker";
const REFERENCE: &str = "generic-worker";
/// Programs whose parts come later.
const LATER: [&str; 3] = ["start-worker", "livelog", "taskcluster-proxy"];
/// Exit code of a part that comes later: it cannot be used.
const NOT_YET: u8 = 64;

/// The name under which the binary was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The worker.
    Worker,
    /// The program of this name, which comes later.
    Later(&'static str),
}

impl Name {
    /// The last part of the path in `argv[0]`.
    pub fn of(argv0: Option<&OsStr>) -> Self {
        let name = argv0.and_then(|path| Path::new(path).file_name()).map(|name| name.to_string_lossy().into_owned());
        Self(name.unwrap_or_else(|| OURS.to_owned()))
    }

    /// What it stands for.
    pub fn role(&self) -> Role {
        LATER.into_iter().find(|later| self.is(later)).map_or(Role::Worker, Role::Later)
    }

    /// Whether it is this program, perhaps with an engine or a platform behind it, as in names of release assets.
    fn is(&self, program: &str) -> bool {
        self.0.strip_prefix(program).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Whether the name promises tasks that run as users of their own.
    pub fn promises_multiuser(&self) -> bool {
        [OURS, REFERENCE].iter().any(|program| self.is(&format!("{program}-multiuser")))
    }

    /// What `--version` prints.
    pub fn version(&self) -> String {
        match self.role() {
            Role::Later(program) => format!("{program} {VERSION}"),
            Role::Worker if self.is(REFERENCE) => format!("{REFERENCE} ({} engine) {VERSION}", engine::NAME),
            Role::Worker => format!("{OURS} ({} engine) {VERSION}", engine::NAME),
        }
    }

    /// What `--short-version` prints.
    pub fn short_version() -> &'static str {
        VERSION
    }

    /// What a program says whose part comes later: its version, or that it is not there.
    pub fn answer_for_later(&self, program: &str, argument: Option<&OsStr>) -> Result<String, Failure> {
        match argument.and_then(OsStr::to_str) {
            Some("--version") => Ok(self.version()),
            Some("--short-version") => Ok(Self::short_version().to_owned()),
            _ => Err(Failure::new(NOT_YET, format!("{program} is a part of this worker that comes with a later version"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> Name {
        Name::of(Some(OsStr::new(path)))
    }

    #[test]
    fn the_version_line_has_the_form_that_the_name_promises() {
        let generic = format!("generic-worker (insecure engine) {VERSION}");
        assert_eq!(name("/usr/local/bin/generic-worker").version(), generic);
        assert_eq!(name("generic-worker-insecure-linux-amd64").version(), generic);
        let ours = format!("tc-worker (insecure engine) {VERSION}");
        assert_eq!(name("./tc-worker").version(), ours);
        assert_eq!(name("worker").version(), ours);
        assert_eq!(Name::of(None).version(), ours);
    }

    #[test]
    fn names_are_told_apart() {
        assert_eq!(name("/usr/bin/start-worker").role(), Role::Later("start-worker"));
        assert_eq!(name("livelog-linux-arm64").role(), Role::Later("livelog"));
        assert_eq!(name("livelogger").role(), Role::Worker);
        assert_eq!(name("generic-worker").role(), Role::Worker);
        for multiuser in ["generic-worker-multiuser-linux-amd64", "generic-worker-multiuser", "tc-worker-multiuser"] {
            assert!(name(multiuser).promises_multiuser(), "{multiuser}");
        }
        for other in ["generic-worker-insecure", "generic-worker", "tc-worker", "multiuser"] {
            assert!(!name(other).promises_multiuser(), "{other}");
        }
    }

    #[test]
    fn parts_that_come_later_tell_their_version_only() {
        let answer = |argument| name("livelog").answer_for_later("livelog", argument);
        assert_eq!(answer(Some(OsStr::new("--version"))), Ok(format!("livelog {VERSION}")));
        assert_eq!(answer(Some(OsStr::new("--short-version"))), Ok(VERSION.to_owned()));
        let refused = answer(None).expect_err("not there");
        assert_eq!(refused.code, 64);
        assert!(refused.text().contains("livelog") && refused.text().contains("later version"), "{}", refused.text());
    }
}
