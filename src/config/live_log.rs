//! Whether `livelogExecutable` is meant to serve logs.
//!
//! This worker serves live logs itself and starts no helper for it. But pools whose logs nobody may watch set the helper to
//! `/bin/false`, after which the reference worker publishes no live log and its tasks run all the same. That has to stay so.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Whether the setting names something that exists and is no livelog. A missing file is fine: it is not needed.
pub(super) fn is_switched_off(executable: &str, search_path: &OsStr) -> bool {
    let Some(found) = find(executable, search_path) else { return false };
    let target = found.canonicalize().unwrap_or_else(|_| found.clone());
    // The name decides, the link's or its target's: all livelogs are called so, and multi-call binaries are linked under the name.
    ![found, target].iter().any(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("livelog")))
}

fn find(executable: &str, search_path: &OsStr) -> Option<PathBuf> {
    if executable.contains('/') {
        return Some(PathBuf::from(executable)).filter(|path| path.exists());
    }
    std::env::split_paths(search_path).map(|dir: PathBuf| dir.join(Path::new(executable))).find(|path| path.is_file())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::is_switched_off;
    use std::ffi::OsStr;

    #[test]
    fn only_an_existing_program_of_another_name_switches_it_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("livelog"), "").unwrap();
        std::fs::write(path("false"), "").unwrap();
        std::os::unix::fs::symlink(path("livelog"), path("link-to-it")).unwrap();
        let none = OsStr::new("");
        let here = dir.path().as_os_str();
        assert!(!is_switched_off("livelog", none));
        assert!(!is_switched_off("livelog", here));
        assert!(!is_switched_off(&path("livelog"), none));
        assert!(!is_switched_off(&path("link-to-it"), none));
        assert!(!is_switched_off(&path("missing"), none));
        assert!(!is_switched_off("missing", here));
        assert!(is_switched_off(&path("false"), none));
        assert!(is_switched_off("false", here));
        assert!(is_switched_off("/dev/null", none));
    }
}
