//! The directory of a session, in which tasks run and the worker keeps its state.
//!
//! It is locked as long as the session lives, and removed at its end. A session that was killed could not do that, so each
//! session removes what it finds beside its own directory and nobody holds.

use std::{
    ffi::{CString, OsStr},
    fs::{self, File},
    io,
    os::{
        fd::AsFd as _,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};
use tc_sys::removal::{self, What};
use tempfile::TempDir;
use tracing::{debug, info};

use super::summary::USAGE;
use crate::cli::problems::Failure;

/// Where tasks run unless `TMPDIR` says otherwise. `/tmp` is often in memory, and tasks are large.
const USUAL_BASE: &str = "/var/tmp";
/// The names of all sessions' directories begin with this.
const PREFIX: &str = "tc-worker-exec-";
/// How often a directory is made that another session takes for one that nobody holds, in the moment before it is locked.
const ATTEMPTS: usize = 8;
/// Longest time for the removal of one that was left; the next session goes on with it.
const REMOVAL_BOUND: Duration = Duration::from_secs(600);

/// A session's directory. Removed when it is dropped.
pub struct Home {
    dir: TempDir,
    _lock: Flock<File>,
}

impl Home {
    /// Makes one, and has those removed that dead sessions left, in a thread that nobody waits for.
    pub fn make() -> Result<Self, Failure> {
        let base = std::env::var_os("TMPDIR").filter(|value| !value.is_empty());
        let base = base.map_or_else(|| USUAL_BASE.into(), PathBuf::from);
        let made = std::path::absolute(&base).and_then(|base| Ok((Self::make_in(&base)?, base)));
        let (home, base) = made.map_err(|error| {
            Failure::new(USAGE, format!("make a directory for tasks in \"{}\"", base.display()))
                .because(&error)
                .with_hint("the environment variable TMPDIR names another place")
        })?;
        let sweeping = std::thread::Builder::new().name("exec-sweep".to_owned()).spawn(move || sweep(&base));
        if let Err(error) = sweeping {
            debug!("Directories of earlier sessions are not looked for: {error}");
        }
        Ok(home)
    }

    fn make_in(base: &Path) -> io::Result<Self> {
        for _attempt in 0..ATTEMPTS {
            let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base)?;
            if let Some(lock) = hold(dir.path()) {
                return Ok(Self { dir, _lock: lock });
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "others remove it again"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Locks a directory; nothing if somebody has it, or it is not at this path any more.
fn hold(path: &Path) -> Option<Flock<File>> {
    let lock = Flock::lock(File::open(path).ok()?, FlockArg::LockExclusiveNonblock).ok()?;
    let (held, there) = (lock.metadata().ok()?, fs::symlink_metadata(path).ok()?);
    ((held.dev(), held.ino()) == (there.dev(), there.ino())).then_some(lock)
}

/// Removes what dead sessions of this user left in `base`. What cannot be removed stays: a container may have made it, and
/// somebody with more rights has to.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    let is_ours = |name: &OsStr| name.as_bytes().starts_with(PREFIX.as_bytes());
    for path in entries.flatten().filter(|entry| is_ours(&entry.file_name())).map(|entry| entry.path()) {
        match remove(base, &path) {
            Ok(true) => info!("Removed what an earlier session left behind: {}", path.display()),
            Ok(false) => {}
            Err(why) => debug!("{} was left behind and cannot be removed: {why}", path.display()),
        }
    }
}

/// Removes one, unless somebody holds it. Whether it did.
fn remove(base: &Path, path: &Path) -> Result<bool, String> {
    let is_own = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw());
    let Some(_lock) = is_own.then(|| hold(path)).flatten() else { return Ok(false) };
    // Sessions of earlier versions lock only this.
    let state = path.join("state");
    let _state = match state.exists().then(|| hold(&state)) {
        Some(None) => return Ok(false),
        held => held,
    };
    let name = path.file_name().and_then(|name| CString::new(name.as_bytes()).ok()).ok_or("it has no name")?;
    let base = File::open(base).map_err(|error| error.to_string())?;
    removal::remove(base.as_fd(), &name, What::Everything, Instant::now() + REMOVAL_BOUND)
        .map(|()| true)
        .map_err(|left| format!("{}: {}", left.path.display(), left.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_goes_and_all_else_stays() {
        let base = tempfile::tempdir().expect("a directory");
        let home = Home::make_in(base.path()).expect("a directory in it");
        let make = |name: &str| {
            let path = base.path().join(name);
            fs::create_dir_all(path.join("state")).expect("directories");
            path
        };
        let (dead, old, other) = (make("tc-worker-exec-dead"), make("tc-worker-exec-old"), make("other"));
        fs::write(dead.join("state/file"), "x").expect("a file");
        let file = base.path().join("tc-worker-exec-file");
        fs::write(&file, "x").expect("a file");
        let link = base.path().join("tc-worker-exec-link");
        std::os::unix::fs::symlink(&other, &link).expect("a link");
        // A session of an earlier version lives.
        let held = hold(&old.join("state")).expect("nobody has it");
        sweep(base.path());
        assert!(!dead.exists());
        for path in [home.path(), &old, &other, &other.join("state"), &file] {
            assert!(path.exists(), "{}", path.display());
        }
        assert!(link.is_symlink());
        drop(held);
        sweep(base.path());
        assert!(!old.exists());
        let path = home.path().to_owned();
        drop(home);
        assert!(!path.exists());
    }
}
