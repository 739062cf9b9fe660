//! Opening what a path means without being led out of a directory, without waiting, and without touching devices.
//!
//! The kernel does the confinement (`openat2` with `RESOLVE_BENEATH`). It refuses absolute links even when they lead back
//! into the directory, and old kernels do not know the call; in both cases the path is walked here, one component at a
//! time, never following a link that was not read and judged first.

use std::{
    collections::VecDeque,
    ffi::{CStr, CString, OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Component, Path, PathBuf},
};

pub use crate::status::Status;

use crate::{check, check_long, fd::own};

/// Links followed in one path before it counts as a loop, as in the kernel.
const MAX_LINKS: usize = 40;

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// A regular file, open for reading at its start, and its size in bytes.
    File(File, u64),
    /// A directory, open for listing.
    Directory(OwnedFd),
}

/// Why nothing was opened.
#[derive(Debug)]
pub enum Fault {
    /// Nothing is there, or a link leads to nothing.
    Missing,
    /// Something is there that is neither a file nor a directory.
    Special(&'static str),
    /// A link or `..` leads out of the directory.
    Outward,
    /// The operating system refused.
    Refused(io::Error),
}

impl Fault {
    fn from_error(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Self::Missing,
            _ => Self::Refused(error),
        }
    }
}

/// A directory that paths may not leave.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    /// Absolute paths under which links may mean this directory.
    known_as: Vec<PathBuf>,
}

impl Root {
    /// Opens the directory at an absolute path, following links on the way to it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let directory = open_at(cwd(), &c_path(path)?, flags)?;
        let mut known_as = vec![path.to_owned()];
        if let Ok(canonical) = path.canonicalize()
            && canonical != path
        {
            known_as.push(canonical);
        }
        Ok(Self { directory, known_as })
    }

    /// The directory itself. Good for `*at` calls only, not for listing.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The part of an absolute path below this directory, if it is below. Purely by its letters.
    pub fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        self.known_as.iter().find_map(|known| path.strip_prefix(known).ok())
    }

    /// Opens what a relative path means.
    pub fn find(&self, relative: &Path) -> Result<Found, Fault> {
        let path = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let Ok(name) = c_path(path) else { return Err(Fault::Missing) };
        let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
        let open = |flags| open_at2(self.as_fd(), &name, flags, resolve);
        match open(libc::O_PATH) {
            Ok(thing) => finish(&thing, open),
            // Led out, or refused to say (old kernel, seccomp filter, a rename under way, a very long path).
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EXDEV | libc::ENOSYS | libc::EPERM | libc::EINVAL | libc::EAGAIN | libc::ENAMETOOLONG)
                ) =>
            {
                self.walk(path)
            }
            Err(error) => Err(Fault::from_error(error)),
        }
    }

    /// The same as [`Root::find`], component by component.
    fn walk(&self, path: &Path) -> Result<Found, Fault> {
        let mut pending = VecDeque::new();
        // Names of the real directories between the root and where we are.
        let mut trail: Vec<CString> = Vec::new();
        let mut here = self.reopen(&trail)?;
        let mut links = 0;
        self.push_front(&mut pending, path)?;
        while let Some(step) = pending.pop_front() {
            if step.as_bytes() == b".." {
                // Above the root is outside, even when the rest of the path leads back in.
                trail.pop().ok_or(Fault::Outward)?;
                here = self.reopen(&trail)?;
                continue;
            }
            let Ok(name) = CString::new(step.into_vec()) else { return Err(Fault::Missing) };
            let thing =
                open_at(here.as_fd(), &name, libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC).map_err(Fault::from_error)?;
            let status = Status::of(thing.as_fd()).map_err(Fault::Refused)?;
            if status.is_link() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Fault::Refused(io::Error::from_raw_os_error(libc::ELOOP)));
                }
                let target = read_link(thing.as_fd()).map_err(Fault::Refused)?;
                if target.is_absolute() {
                    trail.clear();
                    here = self.reopen(&trail)?;
                }
                self.push_front(&mut pending, &target)?;
            } else if status.is_directory() {
                trail.push(name);
                here = thing;
            } else if pending.is_empty() {
                let parent = here;
                return finish(&thing, |flags| open_at(parent.as_fd(), &name, flags | libc::O_NOFOLLOW));
            } else {
                return Err(Fault::Missing);
            }
        }
        let again = |flags| open_at(here.as_fd(), c".", flags);
        finish(&here, again)
    }

    /// Puts the steps of a path in front of those still to be taken.
    fn push_front(&self, pending: &mut VecDeque<OsString>, path: &Path) -> Result<(), Fault> {
        let relative = if path.is_absolute() { self.below(path).ok_or(Fault::Outward)? } else { path };
        for component in relative.components().rev() {
            match component {
                Component::CurDir => {}
                Component::Normal(name) => pending.push_front(name.to_owned()),
                Component::ParentDir => pending.push_front(OsString::from("..")),
                Component::RootDir | Component::Prefix(_) => return Err(Fault::Outward),
            }
        }
        Ok(())
    }

    fn reopen(&self, trail: &[CString]) -> Result<OwnedFd, Fault> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let mut here = self.directory.try_clone().map_err(Fault::Refused)?;
        for name in trail {
            here = open_at(here.as_fd(), name, flags).map_err(Fault::from_error)?;
        }
        Ok(here)
    }
}

/// Opens what a path means, wherever links lead.
pub fn find_anywhere(path: &Path) -> Result<Found, Fault> {
    let Ok(name) = c_path(path) else { return Err(Fault::Missing) };
    let thing = open_at(cwd(), &name, libc::O_PATH | libc::O_CLOEXEC).map_err(Fault::from_error)?;
    finish(&thing, |flags| open_at(cwd(), &name, flags))
}

/// What stands in a directory under a name, without following it if it is a link.
#[derive(Debug)]
pub enum Named {
    /// A file or directory.
    Found(Found),
    /// A symbolic link.
    Link,
}

/// Opens one entry of a directory.
pub fn find_entry(directory: BorrowedFd<'_>, name: &CStr) -> Result<Named, Fault> {
    let thing = open_at(directory, name, libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC).map_err(Fault::from_error)?;
    if Status::of(thing.as_fd()).map_err(Fault::Refused)?.is_link() {
        return Ok(Named::Link);
    }
    finish(&thing, |flags| open_at(directory, name, flags | libc::O_NOFOLLOW)).map(Named::Found)
}

/// Looks at something through a descriptor that has opened nothing yet, and opens it if it is harmless.
fn finish(thing: &OwnedFd, open: impl Fn(libc::c_int) -> io::Result<OwnedFd>) -> Result<Found, Fault> {
    let seen = Status::of(thing.as_fd()).map_err(Fault::Refused)?;
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let (flags, is_directory) = match seen {
        seen if seen.is_file() => (flags, false),
        seen if seen.is_directory() => (flags | libc::O_DIRECTORY, true),
        seen if seen.is_link() => return Err(Fault::Outward),
        seen => return Err(Fault::Special(seen.special())),
    };
    let opened = open(flags).map_err(Fault::from_error)?;
    let got = Status::of(opened.as_fd()).map_err(Fault::Refused)?;
    if got.identity != seen.identity {
        return Err(Fault::Refused(io::Error::other("was replaced while it was being opened")));
    }
    Ok(if is_directory { Found::Directory(opened) } else { Found::File(File::from(opened), got.bytes) })
}

/// The directory that a directory is in.
pub(crate) fn open_parent(directory: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    open_at(directory, c"..", libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC | libc::O_NOFOLLOW)
}

/// Goes up from an open directory, if what is above is the directory that it should be.
pub fn ascend(directory: BorrowedFd<'_>, expected: (u64, u64)) -> io::Result<OwnedFd> {
    let parent = open_parent(directory)?;
    if Status::of(parent.as_fd())?.identity == expected {
        Ok(parent)
    } else {
        Err(io::Error::other("a directory was moved while it was being read"))
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// "Relative to the working directory", for `*at` calls.
fn cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is not a descriptor that could be closed, and not -1.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

pub(crate) fn open_at(directory: BorrowedFd<'_>, name: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    crate::uninterrupted(|| {
        // SAFETY: the name ends with a NUL byte by its type.
        check(unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC) })
    })
    .map(own)
}

pub(crate) fn open_at2(directory: BorrowedFd<'_>, name: &CStr, flags: libc::c_int, resolve: u64) -> io::Result<OwnedFd> {
    // SAFETY: all fields of this C structure may be zero.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
    how.resolve = resolve;
    let fd = crate::uninterrupted(|| {
        // SAFETY: the name ends with a NUL byte, and the structure is valid for its size.
        check_long(unsafe {
            libc::syscall(libc::SYS_openat2, directory.as_raw_fd(), name.as_ptr(), &raw const how, size_of::<libc::open_how>())
        })
    })?;
    i32::try_from(fd).map(own).map_err(io::Error::other)
}

/// Where an open link leads.
fn read_link(link: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let mut buffer = vec![0_u8; 4096];
    // SAFETY: an empty name means the descriptor itself; the buffer is valid for its length.
    let length = check_long(unsafe {
        libc::readlinkat(link.as_raw_fd(), c"".as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) as libc::c_long
    })?;
    buffer.truncate(usize::try_from(length).map_err(io::Error::other)?);
    Ok(PathBuf::from(OsStr::from_bytes(&buffer)))
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::fs::symlink};

    use super::*;

    struct Place {
        _dir: tempfile::TempDir,
        root: Root,
        path: PathBuf,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("task");
        std::fs::create_dir_all(path.join("a/b")).expect("made");
        std::fs::write(path.join("a/b/file"), "content").expect("written");
        std::fs::write(dir.path().join("secret"), "secret").expect("written");
        symlink("../b/file", path.join("a/b/up")).expect("linked");
        symlink(path.join("a/b/file"), path.join("absolute")).expect("linked");
        symlink(path.join("a"), path.join("directory")).expect("linked");
        symlink("../secret", path.join("outward")).expect("linked");
        symlink(dir.path().join("secret"), path.join("outward-absolute")).expect("linked");
        symlink("nothing", path.join("dangling")).expect("linked");
        symlink("loop", path.join("loop")).expect("linked");
        symlink("/proc/self/root/etc/passwd", path.join("magic")).expect("linked");
        Place { root: Root::open(&path).expect("a root"), path, _dir: dir }
    }

    fn text(found: Result<Found, Fault>) -> String {
        match found {
            Ok(Found::File(mut file, bytes)) => {
                let mut text = String::new();
                file.read_to_string(&mut text).expect("read");
                assert_eq!(text.len() as u64, bytes);
                text
            }
            Ok(Found::Directory(_)) => "a directory".into(),
            Err(Fault::Missing) => "missing".into(),
            Err(Fault::Outward) => "outward".into(),
            Err(Fault::Special(what)) => what.into(),
            Err(Fault::Refused(error)) => format!("refused {}", error.raw_os_error().unwrap_or_default()),
        }
    }

    #[test]
    fn the_kernel_and_the_walk_agree() {
        let place = place();
        let expected = [
            ("a/b/file", "content"),
            ("./a//b/./file", "content"),
            ("a/../a/b/file", "content"),
            ("a/b/up", "content"),
            ("absolute", "content"),
            ("directory/b/file", "content"),
            ("directory", "a directory"),
            ("", "a directory"),
            (".", "a directory"),
            ("outward", "outward"),
            ("outward-absolute", "outward"),
            ("magic", "outward"),
            ("..", "outward"),
            ("../secret", "outward"),
            ("../task/a/b/file", "outward"),
            ("a/../../secret", "outward"),
            ("/etc/passwd", "outward"),
            ("dangling", "missing"),
            ("a/c", "missing"),
            ("a/b/file/x", "missing"),
            ("loop", "refused 40"),
        ];
        for (path, outcome) in expected {
            assert_eq!(text(place.root.find(Path::new(path))), outcome, "find {path}");
            assert_eq!(text(place.root.walk(Path::new(path))), outcome, "walk {path}");
        }
    }

    #[test]
    fn a_named_pipe_is_recognised_without_waiting_for_a_writer() {
        let place = place();
        let name = c_path(&place.path.join("pipe")).expect("a name");
        // SAFETY: the name ends with a NUL byte.
        check(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }).expect("a pipe");
        symlink("/dev/null", place.path.join("device")).expect("linked");
        assert_eq!(text(place.root.find(Path::new("pipe"))), "named pipe");
        assert_eq!(text(place.root.find(Path::new("device"))), "outward");
        assert_eq!(text(find_anywhere(Path::new("/dev/null"))), "character device");
        assert_eq!(text(find_anywhere(&place.path.join("outward"))), "secret");
    }

    #[test]
    fn an_entry_that_is_a_link_is_not_followed() {
        let place = place();
        let Ok(Found::Directory(open)) = place.root.find(Path::new("")) else { panic!("the root opens") };
        assert!(matches!(find_entry(open.as_fd(), c"absolute"), Ok(Named::Link)));
        assert!(matches!(find_entry(open.as_fd(), c"a"), Ok(Named::Found(Found::Directory(_)))));
        assert!(matches!(find_entry(open.as_fd(), c"none"), Err(Fault::Missing)));
    }
}
