//! Reading what a task left behind.
//!
//! Paths relative to the task's directory stay beneath it, whatever links stand on the way: the kernel itself refuses to
//! leave (`RESOLVE_BENEATH`). Absolute links that lead back into the directory are followed. Nothing is opened in a way that
//! could block, and only regular files give bytes.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::FileTypeExt as _,
    },
    path::{Component, Path, PathBuf},
};

use async_trait::async_trait;
use tc_engine::{EngineError, Entry, EntryFault, Fault, Gone, Kind, OpenFile, Quiet};
use tokio::sync::mpsc;

use crate::{cage::Group, removal};

/// Entries that are open ahead of the one that is taken.
const AHEAD: usize = 2;

/// A run in which nothing runs any more.
pub struct NativeQuiet {
    task_dir: PathBuf,
    group: Option<Group>,
}

impl NativeQuiet {
    /// A run whose group, if it has one, is empty.
    pub fn new(task_dir: PathBuf, group: Option<Group>) -> Self {
        Self { task_dir, group }
    }
}

#[async_trait]
impl Quiet for NativeQuiet {
    fn read(&self, path: &str, kind: Kind) -> mpsc::Receiver<Entry> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (task_dir, path) = (self.task_dir.clone(), path.to_owned());
        // It ends when all is sent or nobody listens any more.
        tokio::task::spawn_blocking(move || {
            let reading = Reading::new(&task_dir, &path);
            match kind {
                Kind::File => reading.send(&sender, "", reading.open("")),
                Kind::Directory => reading.walk(&sender),
            };
        });
        receiver
    }

    async fn destroy(self: Box<Self>, keep_files: bool) -> Result<Gone, EngineError> {
        let Self { task_dir, group } = *self;
        if let Some(group) = group {
            group.remove().map_err(|e| EngineError::new(Fault::Worker, format!("remove the task's control group: {e}")))?;
        }
        if keep_files {
            return Ok(Gone::verified());
        }
        let shown = task_dir.display().to_string();
        let removed = tokio::task::spawn_blocking(move || removal::tree(&task_dir)).await;
        match removed.map_err(io::Error::other).and_then(|removed| removed) {
            Ok(()) => Ok(Gone::verified()),
            Err(error) => Err(EngineError::new(Fault::Worker, format!("remove the task's directory {shown}: {error}"))),
        }
    }
}

/// Reading at one path of a payload.
struct Reading {
    /// What may not be left, and the path in it; or why there is nothing.
    place: Result<(File, PathBuf, PathBuf), EntryFault>,
    shown: String,
}

impl Reading {
    fn new(task_dir: &Path, path: &str) -> Self {
        let joined = task_dir.join(path);
        let shown = joined.display().to_string();
        let place = if let Ok(relative) = joined.strip_prefix(task_dir) {
            File::open(task_dir).map(|root| (root, task_dir.to_owned(), relative.to_owned()))
        } else {
            // An author who names a place outside the task's directory means it; links below it stay below it.
            let (root, relative) = split(&joined);
            File::open(&root).map(|opened| (opened, root, relative))
        };
        Self { place: place.map_err(fault), shown }
    }

    /// Sends one entry. Returns whether anybody listens.
    fn send(&self, sender: &mpsc::Sender<Entry>, relative: &str, content: Result<OpenFile, EntryFault>) -> bool {
        let shown =
            if relative.is_empty() { self.shown.clone() } else { format!("{}/{relative}", self.shown.trim_end_matches('/')) };
        sender.blocking_send(Entry { relative: relative.to_owned(), shown, content }).is_ok()
    }

    /// Opens what is at `relative` below the path.
    fn open(&self, relative: &str) -> Result<OpenFile, EntryFault> {
        let file = self.open_any(relative)?;
        let metadata = file.metadata().map_err(EntryFault::Unreadable)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            Err(EntryFault::IsDirectory)
        } else if kind.is_file() {
            Ok(OpenFile { file, bytes: metadata.len() })
        } else if kind.is_fifo() {
            Err(EntryFault::Special("FIFO"))
        } else if kind.is_socket() {
            Err(EntryFault::Special("socket"))
        } else {
            Err(EntryFault::Special("device"))
        }
    }

    fn open_any(&self, relative: &str) -> Result<File, EntryFault> {
        let (root, root_path, path) = match &self.place {
            Ok(place) => place,
            Err(EntryFault::Unreadable(error)) => {
                return Err(fault(io::Error::new(error.kind(), error.to_string())));
            }
            Err(_) => return Err(EntryFault::Missing),
        };
        // Joining with nothing would add a slash, which only directories bear.
        let mut path = if relative.is_empty() { path.clone() } else { path.join(relative) };
        if path.as_os_str().is_empty() {
            path.push(".");
        }
        // Devices must not be opened to be looked at, and a socket cannot be.
        let named = tc_sys::open::name_beneath(root.as_fd(), &path, true);
        let path = match named {
            Err(error) if error.raw_os_error() == Some(nix::libc::EXDEV) => inside(root_path, &path)?,
            Err(error) => return Err(fault(error)),
            Ok(fd) => {
                let named = File::from(fd);
                let kind = named.metadata().map_err(EntryFault::Unreadable)?.file_type();
                if kind.is_socket() {
                    return Err(EntryFault::Special("socket"));
                }
                if kind.is_char_device() || kind.is_block_device() {
                    return Err(EntryFault::Special("device"));
                }
                path
            }
        };
        tc_sys::open::beneath(root.as_fd(), &path).map_err(fault)
    }

    /// Sends everything below the path, in lexical order.
    fn walk(&self, sender: &mpsc::Sender<Entry>) -> bool {
        let root = match self.open_any("") {
            Ok(root) if root.metadata().is_ok_and(|m| m.is_dir()) => root,
            Ok(_) | Err(EntryFault::Special(_)) => return self.send(sender, "", Err(EntryFault::NotDirectory)),
            Err(fault) => return self.send(sender, "", Err(fault)),
        };
        // Directories still to be listed, the next one last: their order in the walk is lexical.
        let mut open: Vec<(String, Option<File>)> = vec![(String::new(), Some(root))];
        while let Some((relative, directory)) = open.pop() {
            let directory = match directory {
                Some(directory) => Ok(directory),
                None => match self.kind(&relative) {
                    // A link is never descended into; what it leads to may be a file.
                    Some(kind) if !kind.is_dir() => {
                        if !self.send(sender, &relative, self.open(&relative)) {
                            return false;
                        }
                        continue;
                    }
                    _ => self.open_any(&relative),
                },
            };
            let listed = directory.and_then(|directory| list(&directory).map_err(EntryFault::Unreadable));
            match listed {
                Ok(names) => {
                    let child = |name: &String| if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
                    // Reversed, so that the first is taken first.
                    open.extend(names.iter().rev().map(|name| (child(name), None)));
                }
                Err(fault) => {
                    if !self.send(sender, &relative, Err(fault)) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// What is at `relative` itself; links are not followed.
    fn kind(&self, relative: &str) -> Option<std::fs::FileType> {
        let (root, _, path) = self.place.as_ref().ok()?;
        let fd = tc_sys::open::name_beneath(root.as_fd(), &path.join(relative), false).ok()?;
        Some(File::from(fd).metadata().ok()?.file_type())
    }
}

/// Names in a directory, sorted. Names that are not UTF-8 are shown as well as they can be, and are then not found.
fn list(directory: &File) -> io::Result<Vec<String>> {
    // The link leads to the directory that is open, whatever has its path by now.
    let entries = std::fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    let mut names = entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Directory and last component of an absolute path.
fn split(path: &Path) -> (PathBuf, PathBuf) {
    match (path.parent(), path.components().next_back()) {
        (Some(parent), Some(Component::Normal(name))) => {
            // A directory is its own bound; a file is bound by the directory it is in.
            if path.is_dir() { (path.to_owned(), PathBuf::new()) } else { (parent.to_owned(), name.into()) }
        }
        _ => (path.to_owned(), PathBuf::new()),
    }
}

/// Where a path leads that the kernel says leads out: an absolute link can lead back in.
fn inside(root: &Path, path: &Path) -> Result<PathBuf, EntryFault> {
    let real_root = root.canonicalize().map_err(fault)?;
    let real = root.join(path).canonicalize().map_err(fault)?;
    let relative = real.strip_prefix(&real_root).map_err(|_| EntryFault::Outward)?;
    Ok(if relative.as_os_str().is_empty() { ".".into() } else { relative.to_owned() })
}

fn fault(error: io::Error) -> EntryFault {
    match error.raw_os_error() {
        Some(nix::libc::EXDEV) => EntryFault::Outward,
        Some(nix::libc::ENXIO) => EntryFault::Special("socket"),
        _ if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => EntryFault::Missing,
        _ => EntryFault::Unreadable(error),
    }
}
