//! A directory into which one layer is unpacked, and out of which nothing leads.
//!
//! Every step goes through the descriptor of a directory and one name in it, and no link is ever followed by the kernel:
//! where a path of the archive passes through a symbolic link of the same layer, the link is read here and taken as relative
//! to this directory, as it will be in a container. Nobody else writes below the directory, so what was looked at stays.

use std::{
    collections::VecDeque,
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat},
    io::Errno,
};

/// Directories within one another. Each is held open.
const DEPTH: usize = 128;
/// Symbolic links followed for one path, as many as the engine follows.
const LINKS: usize = 255;
/// Longest path, as in the kernel.
const PATH_BYTES: usize = 4095;
/// Longest that something already unpacked may take to be removed again.
const REMOVAL_BOUND: Duration = Duration::from_secs(120);

/// The components of a path below a directory. No component is empty, `.`, `..` or contains a slash.
pub(super) type Steps = Vec<Vec<u8>>;

/// The components of a path as an archive writes it, which is below the root wherever `..` or a first slash would lead.
pub(super) fn steps(path: &[u8]) -> io::Result<Steps> {
    if path.len() > PATH_BYTES {
        return Err(Errno::NAMETOOLONG.into());
    }
    let mut steps = Steps::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                steps.pop();
            }
            name => steps.push(name.to_vec()),
        }
    }
    Ok(steps)
}

/// Steps as one path.
pub(super) fn joined(steps: &[Vec<u8>]) -> Vec<u8> {
    steps.join(&b'/')
}

/// An open directory below which everything happens.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    /// The directories that were gone through last, from the root on.
    trail: Vec<(Vec<u8>, OwnedFd)>,
}

/// Where a directory below a tree is.
#[derive(Debug)]
pub(super) struct Place {
    /// Where it really is.
    pub steps: Steps,
    /// How many of its last components were made for it.
    pub made: usize,
}

/// Opens a directory, which is no link.
pub(super) fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// What is under a name, without following it.
pub(super) fn look(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether it is a directory.
pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Removes whatever is under a name.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let name = CString::new(name).map_err(io::Error::other)?;
    tc_sys::removal::remove(parent, &name, tc_sys::removal::What::Everything, Instant::now() + REMOVAL_BOUND)
        .map_err(|left| left.error)
}

impl Tree {
    /// A tree whose root is an open directory.
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, trail: Vec::new() }
    }

    /// Opens the directory at an absolute path.
    pub(super) fn open(path: &std::path::Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::new(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
    }

    /// The directory itself.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Makes sure of the directory at a path, following links as a container would.
    pub(super) fn make(&mut self, steps: &[Vec<u8>]) -> io::Result<Place> {
        let mut steps = steps.to_vec();
        let made = if let Some(made) = self.walk(&steps, true)? {
            made
        } else {
            steps = self.resolve(&steps)?;
            self.walk(&steps, true)?.ok_or(Errno::NOTDIR)?
        };
        Ok(Place { steps, made })
    }

    /// The same for a directory that has to be there. No link is followed if `steps` are where something really is.
    pub(super) fn find(&mut self, steps: &[Vec<u8>]) -> io::Result<BorrowedFd<'_>> {
        if self.walk(steps, false)?.is_none() {
            let resolved = self.resolve(steps)?;
            self.walk(&resolved, false)?.ok_or(Errno::NOTDIR)?;
        }
        Ok(self.trail.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }

    /// Goes along directories. Returns how many it made; nothing if something else than a directory is in the way.
    fn walk(&mut self, steps: &[Vec<u8>], may_create: bool) -> io::Result<Option<usize>> {
        if steps.len() > DEPTH {
            return Err(io::Error::other(format!("more than {DEPTH} directories within one another")));
        }
        let common = self.trail.iter().zip(steps).take_while(|((name, _), step)| name == *step).count();
        self.trail.truncate(common);
        let mut made = 0;
        for step in &steps[common..] {
            let here = self.trail.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
            let opened = match open_directory(here, step) {
                Err(error) if may_create && error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                    made += 1;
                    rustix::fs::mkdirat(here, step.as_slice(), Mode::RWXU)?;
                    let opened = open_directory(here, step)?;
                    rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755))?;
                    opened
                }
                Err(error)
                    if [Errno::NOTDIR, Errno::LOOP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
                {
                    return Ok(None);
                }
                opened => opened?,
            };
            self.trail.push((step.clone(), opened));
        }
        Ok(Some(made))
    }

    /// Where a path really is, with every link on the way replaced by what it means. What is not there means itself.
    fn resolve(&mut self, steps: &[Vec<u8>]) -> io::Result<Steps> {
        let mut pending: VecDeque<Vec<u8>> = steps.iter().cloned().collect();
        let mut real = Steps::new();
        let mut links = 0;
        while let Some(step) = pending.pop_front() {
            match step.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    real.pop();
                    continue;
                }
                _ => {}
            }
            let target = match self.walk(&real, false) {
                Ok(Some(_)) => {
                    let here = self.trail.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
                    rustix::fs::readlinkat(here, step.as_slice(), Vec::new()).ok()
                }
                Ok(None) => return Err(Errno::NOTDIR.into()),
                // Nothing is there, so no link is.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            let Some(target) = target else {
                real.push(step);
                continue;
            };
            links += 1;
            if links > LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = target.as_bytes();
            if target.starts_with(b"/") {
                real.clear();
            }
            for part in target.split(|&byte| byte == b'/').rev() {
                pending.push_front(part.to_vec());
            }
        }
        Ok(real)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(path: &str) -> Steps {
        steps(path.as_bytes()).expect("short enough")
    }

    #[test]
    fn paths_stay_below_the_root_by_their_letters() {
        for (path, expected) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("../../etc/passwd", "etc/passwd"),
            ("a/../../b", "b"),
            ("..", ""),
            ("/", ""),
        ] {
            assert_eq!(joined(&names(path)), expected.as_bytes(), "{path}");
        }
        assert!(steps(&[b'a'; 5000]).is_err());
    }

    #[test]
    fn no_link_leads_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("usr/lib")).expect("made");
        for (name, target) in [
            ("lib", "usr/lib"),
            ("absolute", "/usr/lib"),
            ("up", "../../../../.."),
            ("out", "/../outside"),
            ("dangling", "/not/there"),
            ("usr/deeper", "/usr/lib"),
        ] {
            symlink(target, root.join(name)).expect("linked");
        }
        let mut tree = Tree::open(&root).expect("a tree");
        for (path, real, made) in [
            ("lib", "usr/lib", 0),
            ("absolute/x", "usr/lib/x", 1),
            ("up/etc", "etc", 1),
            ("out/y", "outside/y", 2),
            ("dangling/z", "not/there/z", 3),
            ("usr/lib/x", "usr/lib/x", 0),
            ("usr/deeper/w", "usr/lib/w", 1),
        ] {
            let place = tree.make(&names(path)).expect(path);
            assert_eq!((String::from_utf8(joined(&place.steps)).expect("text").as_str(), place.made), (real, made), "{path}");
            assert!(root.join(real).is_dir(), "{path}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1, "nothing was made outside");
    }

    #[test]
    fn loops_and_files_in_the_way_are_errors() {
        let dir = tempfile::tempdir().expect("a directory");
        symlink("b", dir.path().join("a")).expect("linked");
        symlink("a", dir.path().join("b")).expect("linked");
        std::fs::write(dir.path().join("file"), "").expect("written");
        let mut tree = Tree::open(dir.path()).expect("a tree");
        assert!(tree.make(&names("a/x")).is_err());
        assert!(tree.make(&names("file/x")).is_err());
        assert!(tree.find(&names("nothing")).is_err());
        assert!(tree.make(&vec![b"d".to_vec(); DEPTH + 1]).is_err());
    }
}
