//! Removing what a task left behind, whatever it is: trees of any depth, directories without permissions, names that are no
//! text. Links are removed, never followed.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, openat},
    sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat},
    unistd::{UnlinkatFlags, unlinkat},
};
use tc_engine::Swept;

/// Names of directories that are runs'.
const PREFIX: &str = "task_";
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Removes a directory and everything in it. It is no error if it is gone already.
///
/// One directory is open at a time and nothing recurses, so depth costs neither descriptors nor stack.
pub fn tree(path: &Path) -> io::Result<()> {
    let mut here = match openat(AT_FDCWD, path, DIRECTORY, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => return Ok(()),
        // The task replaced its directory by something else.
        Err(Errno::ENOTDIR | Errno::ELOOP) => return std::fs::remove_file(path),
        Err(Errno::EACCES) => {
            fchmodat(AT_FDCWD, path, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            openat(AT_FDCWD, path, DIRECTORY, Mode::empty())?
        }
        Err(error) => return Err(error.into()),
    };
    // Names of the directories from the top down to where we are.
    let mut down: Vec<CString> = Vec::new();
    loop {
        if let Some(name) = empty(&here)? {
            here = descend(&here, &name)?;
            down.push(name);
            continue;
        }
        let Some(name) = down.pop() else { break };
        here = openat(&here, "..", DIRECTORY, Mode::empty())?;
        unlinkat(&here, name.as_c_str(), UnlinkatFlags::RemoveDir)?;
    }
    drop(here);
    match std::fs::remove_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes all entries of a directory that can be removed at once. Returns the first directory that is not empty.
fn empty(here: &OwnedFd) -> io::Result<Option<CString>> {
    let mut listing = Dir::openat(here.as_fd(), ".", DIRECTORY, Mode::empty())?;
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let unlink = || match unlinkat(here, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR | Errno::EPERM) => unlinkat(here, name, UnlinkatFlags::RemoveDir),
            done => done,
        };
        let mut unlinked = unlink();
        if unlinked == Err(Errno::EACCES) {
            // The directory that we are in does not let its entries go.
            fchmod(here, Mode::S_IRWXU)?;
            unlinked = unlink();
        }
        match unlinked {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => return Ok(Some(name.to_owned())),
            Err(error) => return Err(io::Error::other(format!("{}: {}", name.to_string_lossy(), error.desc()))),
        }
    }
    Ok(None)
}

fn descend(here: &OwnedFd, name: &CString) -> io::Result<OwnedFd> {
    match openat(here, name.as_c_str(), DIRECTORY, Mode::empty()) {
        Err(Errno::EACCES) => {
            fchmodat(here, name.as_c_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            Ok(openat(here, name.as_c_str(), DIRECTORY, Mode::empty())?)
        }
        other => Ok(other?),
    }
}

/// Removes directories of runs that are over. Files, and directories of other names, are none of ours.
pub fn sweep(tasks_dir: &Path, keep: &[String], swept: &mut Swept) {
    let Ok(entries) = std::fs::read_dir(tasks_dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name.starts_with(PREFIX) && !keep.contains(&name) && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !ours {
            continue;
        }
        match tree(&entry.path()) {
            Ok(()) => swept.removed.push(name),
            Err(error) => swept.failed.push(format!("Could not remove {}: {error}", entry.path().display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn depth_permissions_and_links_do_not_matter() {
        let dir = tempfile::tempdir().expect("a directory");
        let (outside, top) = (dir.path().join("outside"), dir.path().join("top"));
        std::fs::create_dir(&outside).expect("made");
        std::fs::write(outside.join("kept"), "").expect("written");
        std::fs::create_dir(&top).expect("made");
        symlink(&outside, top.join("link")).expect("linked");
        // Deeper than a path can be long, and than descriptors can be open.
        let mut here = openat(AT_FDCWD, &top, DIRECTORY, Mode::empty()).expect("open");
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&here, "deeper", Mode::S_IRWXU).expect("made");
            here = openat(&here, "deeper", DIRECTORY, Mode::empty()).expect("open");
        }
        drop(here);
        for name in ["closed", "closed/in", "closed/in/side"] {
            std::fs::create_dir(top.join(name)).expect("made");
        }
        std::fs::set_permissions(top.join("closed/in"), std::fs::Permissions::from_mode(0o000)).expect("set");
        std::fs::set_permissions(top.join("closed"), std::fs::Permissions::from_mode(0o000)).expect("set");
        tree(&top).expect("removed");
        assert!(!top.exists());
        assert!(outside.join("kept").exists(), "a link was followed");
        tree(&top).expect("gone already");
    }

    #[test]
    fn a_sweep_takes_only_directories_of_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["task_a_0", "task_b_0", "other"] {
            std::fs::create_dir(dir.path().join(name)).expect("made");
        }
        std::fs::write(dir.path().join("task_file"), "").expect("written");
        let mut swept = Swept::default();
        sweep(dir.path(), &["task_b_0".to_owned()], &mut swept);
        assert_eq!((swept.removed, swept.failed), (vec!["task_a_0".to_owned()], Vec::new()));
        let mut left: Vec<_> = std::fs::read_dir(dir.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["other", "task_b_0", "task_file"]);
    }
}
