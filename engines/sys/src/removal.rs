//! Removing a tree that its owner may have tried to make irremovable.
//!
//! Works through descriptors only: no path that could be replaced, no link followed, any depth with one open directory at a
//! time, missing permissions taken back, and no mount point crossed. What is mounted in the tree is unmounted if that is
//! allowed and an error otherwise, since what is below it is not part of the tree.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Instant,
};

use crate::{
    beneath::{self, Status, open_at, open_at2},
    check,
    directory::{Item, Kind, list_some},
};

/// What is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Everything.
    Everything,
    /// Directories only, as in a control group, whose files disappear with their directory.
    Directories,
}

/// Why a tree is still there.
#[derive(Debug)]
pub struct Left {
    /// The first thing that could not be removed, relative to the tree.
    pub path: PathBuf,
    /// Why not.
    pub error: io::Error,
}

/// How often a tree is emptied in which something new appears: somebody is about to die, but not dead yet.
const ROUNDS: usize = 20;

/// One directory that is being emptied.
struct Level {
    name: CString,
    identity: (u64, u64),
    pending: Vec<Item>,
    /// Whether anything was removed since the directory was last listed.
    progress: bool,
}

/// Removes `name` in `parent`, whatever it is. Nothing there is success.
///
/// Goes on after an error and reports the first. Stops at `deadline`.
pub fn remove(parent: BorrowedFd<'_>, name: &CStr, what: What, deadline: Instant) -> Result<(), Left> {
    let at_top = |error| Left { path: PathBuf::new(), error };
    if what == What::Everything {
        match unlink(parent, name, 0) {
            Ok(()) => return Ok(()),
            Err(error) if is_missing(&error) => return Ok(()),
            // A directory; Linux says EISDIR, POSIX EPERM.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EISDIR | libc::EPERM | libc::EACCES)) => {}
            Err(error) => return Err(at_top(error)),
        }
    }
    match unlink(parent, name, libc::AT_REMOVEDIR) {
        Ok(()) => return Ok(()),
        Err(error) if is_missing(&error) => return Ok(()),
        Err(_) => {}
    }
    let mut last_error = None;
    for _round in 0..ROUNDS {
        let top = match enter(parent, name) {
            Err(error) if is_missing(&error) => return Ok(()),
            done => done.map_err(at_top)?,
        };
        empty(top, what, deadline)?;
        match unlink(parent, name, libc::AT_REMOVEDIR) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => last_error = Some(error),
            Err(error) if !is_missing(&error) => return Err(at_top(error)),
            _ => return Ok(()),
        }
    }
    Err(at_top(last_error.unwrap_or_else(|| io::ErrorKind::DirectoryNotEmpty.into())))
}

/// Empties an open directory.
pub fn empty(top: OwnedFd, what: What, deadline: Instant) -> Result<(), Left> {
    let mut first_error: Option<Left> = None;
    let mut levels: Vec<Level> = Vec::new();
    let mut here = top;
    let mut level = new_level(c"", &here).map_err(|error| Left { path: PathBuf::new(), error })?;
    loop {
        if Instant::now() >= deadline {
            let path = path_of(&levels, &level, None);
            return Err(Left { path, error: io::ErrorKind::TimedOut.into() });
        }
        if let Some(item) = level.pending.pop() {
            match remove_item(here.as_fd(), &item, what) {
                Ok(Removed::Gone) => level.progress = true,
                Ok(Removed::Kept) => {}
                Ok(Removed::Full(child)) => match new_level(&item.name, &child) {
                    Ok(below) => {
                        levels.push(std::mem::replace(&mut level, below));
                        here = child;
                    }
                    Err(error) => note(&mut first_error, path_of(&levels, &level, Some(&item.name)), error),
                },
                Err(error) => note(&mut first_error, path_of(&levels, &level, Some(&item.name)), error),
            }
            continue;
        }
        // The directory may have more than one list of names, but only as long as some of them go away.
        if level.progress {
            level.progress = false;
            match list_some(here.as_fd()) {
                Ok(items) => level.pending = items,
                Err(error) => note(&mut first_error, path_of(&levels, &level, None), error),
            }
            if !level.pending.is_empty() {
                continue;
            }
        }
        let Some(above) = levels.pop() else { break };
        match beneath::ascend(here.as_fd(), above.identity) {
            Ok(parent) => here = parent,
            Err(error) => return Err(Left { path: path_of(&levels, &above, Some(&level.name)), error }),
        }
        let emptied = std::mem::replace(&mut level, above);
        match unlink(here.as_fd(), &emptied.name, libc::AT_REMOVEDIR) {
            Ok(()) => level.progress = true,
            Err(error) => note(&mut first_error, path_of(&levels, &level, Some(&emptied.name)), error),
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn note(first: &mut Option<Left>, path: PathBuf, error: io::Error) {
    first.get_or_insert(Left { path, error });
}

fn new_level(name: &CStr, directory: &OwnedFd) -> io::Result<Level> {
    let identity = Status::of(directory.as_fd())?.identity;
    let pending = list_some(directory.as_fd())?;
    Ok(Level { name: name.to_owned(), identity, progress: !pending.is_empty(), pending })
}

fn path_of(levels: &[Level], level: &Level, last: Option<&CStr>) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    levels
        .iter()
        .chain([level])
        .map(|level| level.name.as_c_str())
        .chain(last)
        .map(|name| std::ffi::OsStr::from_bytes(name.to_bytes()))
        .collect()
}

enum Removed {
    Gone,
    /// Not to be removed.
    Kept,
    /// A directory that has to be emptied first.
    Full(OwnedFd),
}

fn remove_item(parent: BorrowedFd<'_>, item: &Item, what: What) -> io::Result<Removed> {
    if item.kind != Kind::Directory {
        if what == What::Directories {
            return Ok(Removed::Kept);
        }
        match unlink(parent, &item.name, 0) {
            Ok(()) => return Ok(Removed::Gone),
            Err(error) if is_missing(&error) => return Ok(Removed::Gone),
            Err(error) if item.kind == Kind::Unknown && error.raw_os_error() == Some(libc::EISDIR) => {}
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                permit(parent)?;
                unlink(parent, &item.name, 0)?;
                return Ok(Removed::Gone);
            }
            Err(error) => return Err(error),
        }
    }
    match unlink(parent, &item.name, libc::AT_REMOVEDIR) {
        Ok(()) => return Ok(Removed::Gone),
        Err(error) if is_missing(&error) => return Ok(Removed::Gone),
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => permit(parent)?,
        Err(_) => {}
    }
    enter(parent, &item.name).map(Removed::Full)
}

/// Opens a directory for emptying; takes permissions back and mounts away if it must.
fn enter(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    for _attempt in 0..8 {
        match open_at2(parent, name, flags, libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS) {
            Ok(directory) => return Ok(directory),
            Err(error) => match error.raw_os_error() {
                Some(libc::EACCES) => {
                    let closed = open_at(parent, name, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)?;
                    permit(closed.as_fd())?;
                }
                Some(libc::EXDEV) => unmount(parent, name)?,
                Some(libc::ENOSYS | libc::EPERM) => {
                    let directory = open_at(parent, name, flags)?;
                    if Status::of(directory.as_fd())?.identity.0 == Status::of(parent)?.identity.0 {
                        return Ok(directory);
                    }
                    unmount(parent, name)?;
                }
                Some(libc::EAGAIN) => {}
                _ => return Err(error),
            },
        }
    }
    Err(io::Error::other("could not be opened for removal"))
}

/// Gives the owner all permissions on an open directory, which may have been opened without any.
fn permit(directory: BorrowedFd<'_>) -> io::Result<()> {
    let path = through_proc(directory);
    // SAFETY: the path ends with a NUL byte. The link in /proc means the open directory and nothing else.
    check(unsafe { libc::chmod(path.as_ptr(), 0o700) })?;
    Ok(())
}

fn unmount(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let mounted = open_at(parent, name, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)?;
    let path = through_proc(mounted.as_fd());
    // SAFETY: the path ends with a NUL byte. Detaching works although we hold the mount open ourselves.
    let done = check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) });
    done.map(drop).map_err(|error| io::Error::new(error.kind(), format!("is a mount point: {error}")))
}

fn through_proc(fd: BorrowedFd<'_>) -> CString {
    // The text has no NUL bytes, so the conversion cannot fail; an empty path would be refused by every call.
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

fn unlink(parent: BorrowedFd<'_>, name: &CStr, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the name ends with a NUL byte by its type.
    check(unsafe { libc::unlinkat(parent.as_raw_fd(), name.as_ptr(), flags) })?;
    Ok(())
}

fn is_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

    use super::*;

    fn remove_path(path: &Path) -> Result<(), Left> {
        let parent = fs::File::open(path.parent().expect("a parent")).expect("opened");
        let name = CString::new(path.file_name().expect("a name").as_encoded_bytes()).expect("no NUL");
        remove(parent.as_fd(), &name, What::Everything, Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("tree/sub")).expect("made");
        fs::create_dir(root.path().join("other")).expect("made");
        fs::write(root.path().join("other/kept"), "x").expect("written");
        std::os::unix::fs::symlink("../../other", root.path().join("tree/sub/link")).expect("linked");
        std::os::unix::fs::symlink("other", root.path().join("top")).expect("linked");
        remove_path(&root.path().join("tree")).expect("removed");
        remove_path(&root.path().join("top")).expect("removed");
        remove_path(&root.path().join("never-there")).expect("nothing to do");
        assert!(!root.path().join("tree").exists());
        assert!(root.path().join("other/kept").exists());
    }

    #[test]
    fn permissions_do_not_help_it() {
        let root = tempfile::tempdir().expect("a directory");
        let tree = root.path().join("tree");
        fs::create_dir_all(tree.join("closed/inner")).expect("made");
        fs::write(tree.join("closed/inner/file"), "x").expect("written");
        for path in ["closed/inner", "closed", ""] {
            fs::set_permissions(tree.join(path), fs::Permissions::from_mode(0o0)).expect("closed");
        }
        remove_path(&tree).expect("removed");
        assert!(!tree.exists());
    }

    #[test]
    fn a_tree_deeper_than_any_path_and_wider_than_one_listing_goes() {
        let root = tempfile::tempdir().expect("a directory");
        let tree = root.path().join("tree");
        fs::create_dir(&tree).expect("made");
        for number in 0..3000 {
            fs::write(tree.join(format!("{number:0100}")), "").expect("written");
        }
        let mut here: OwnedFd = fs::File::open(&tree).expect("opened").into();
        for _ in 0..2000 {
            // SAFETY: the name is a constant.
            check(unsafe { libc::mkdirat(here.as_raw_fd(), c"deeper".as_ptr(), 0o700) }).expect("made");
            here = open_at(here.as_fd(), c"deeper", libc::O_RDONLY | libc::O_DIRECTORY).expect("opened");
        }
        remove_path(&tree).expect("removed");
        assert!(!tree.exists());
    }

    #[test]
    fn what_is_mounted_in_the_tree_is_not_part_of_it() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("tree/sub/mounted")).expect("made");
        fs::create_dir(root.path().join("other")).expect("made");
        fs::write(root.path().join("other/kept"), "x").expect("written");
        // On the same device, so that only the mount itself tells.
        let mut mount = std::process::Command::new("mount");
        mount.arg("--bind").arg(root.path().join("other")).arg(root.path().join("tree/sub/mounted"));
        if !mount.output().is_ok_and(|done| done.status.success()) {
            return eprintln!("NOT RUN: nothing can be mounted here");
        }
        assert!(root.path().join("tree/sub/mounted/kept").exists());
        remove_path(&root.path().join("tree")).expect("removed");
        assert!(!root.path().join("tree").exists());
        assert!(root.path().join("other/kept").exists());
    }

    #[test]
    fn time_is_bounded() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("tree/sub")).expect("made");
        let parent = fs::File::open(root.path()).expect("opened");
        let left = remove(parent.as_fd(), c"tree", What::Everything, Instant::now()).expect_err("too late");
        assert_eq!(left.error.kind(), io::ErrorKind::TimedOut);
    }
}
