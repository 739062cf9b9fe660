//! Reading a file or a directory that a task has left, for somebody who publishes what is found.
//!
//! Relative paths stay in the task directory. A path outside of it can only be one that the payload's author has written
//! down as an absolute path; what that path names may be anything, but in a directory named so no link may lead out of it.
//! The order is that of a depth-first walk with the names of each directory sorted as bytes.

use std::{
    ffi::{CString, OsStr, OsString},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use tc_engine::{Content, Entry, EntryFault, Kind, OpenFile, leads_out};
use tc_sys::{
    beneath::{self, Fault, Found, Named, Root, Status},
    directory,
};
use tokio::sync::mpsc::Sender;

/// Directories nested deeper than this are not read. Artifact names end long before.
const MAX_DEPTH: usize = 1000;

/// Sends everything at `path`. Blocks while the receiver is busy; ends early when it is gone.
pub(crate) fn read(task_root: &Root, task_dir: &Path, path: &str, kind: Kind, send: &Sender<Entry>) {
    let given = Path::new(path);
    let shown = clean(&task_dir.join(given));
    // An absolute way of writing a path in the task directory means the same as the relative one.
    let inside = if given.is_absolute() { task_root.below(&shown).map(Path::to_owned) } else { Some(given.to_owned()) };
    let single = |content| Entry { relative: String::new(), shown: shown.display().to_string(), content };
    if leads_out(path) {
        // No link is needed for that, and what is there is nobody's business.
        send_entry(send, single(Err(EntryFault::Above)));
        return;
    }
    let found = match &inside {
        Some(relative) => task_root.find(relative),
        None => beneath::find_anywhere(given),
    };
    let entry = match (kind, found) {
        (Kind::File, found) => single(content_of(found)),
        (Kind::Directory, Ok(Found::File(..))) => single(Err(EntryFault::NotDirectory)),
        (Kind::Directory, Err(fault)) => single(Err(fault_of(fault))),
        (Kind::Directory, Ok(Found::Directory(top))) => {
            let outside;
            let (root, prefix) = match inside {
                Some(relative) => (task_root, relative),
                None => match Root::open(given) {
                    Ok(opened) => {
                        outside = opened;
                        (&outside, PathBuf::new())
                    }
                    Err(error) => {
                        send_entry(send, single(Err(EntryFault::Unreadable(error))));
                        return;
                    }
                },
            };
            Walk { root, prefix, shown, send }.run(top);
            return;
        }
    };
    send_entry(send, entry);
}

/// Returns whether anybody still wants entries.
fn send_entry(send: &Sender<Entry>, entry: Entry) -> bool {
    send.blocking_send(entry).is_ok()
}

fn content_of(found: Result<Found, Fault>) -> Result<Content, EntryFault> {
    match found {
        Ok(Found::File(file, bytes)) => Ok(Content::File(OpenFile { file, bytes })),
        Ok(Found::Directory(_)) => Err(EntryFault::IsDirectory),
        Err(fault) => Err(fault_of(fault)),
    }
}

fn fault_of(fault: Fault) -> EntryFault {
    match fault {
        Fault::Missing => EntryFault::Missing,
        Fault::Special(what) => EntryFault::Special(what),
        Fault::Outward => EntryFault::Outward,
        Fault::Refused(error) => EntryFault::Unreadable(error),
    }
}

/// Resolves `.` and `..` by their letters, as names are shown to people.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

struct Walk<'a> {
    /// Where links may lead.
    root: &'a Root,
    /// The way from the root to the directory that is walked.
    prefix: PathBuf,
    shown: PathBuf,
    send: &'a Sender<Entry>,
}

/// One directory on the way down: what is still to be visited in it, last first.
struct Level {
    identity: (u64, u64),
    pending: Vec<CString>,
}

/// The receiver is gone.
struct Unwanted;

impl Walk<'_> {
    /// Keeps one directory open at a time, however deep the tree is.
    fn run(&self, top: OwnedFd) {
        let mut here = top;
        let mut way: Vec<OsString> = Vec::new();
        let mut levels = match level(&here) {
            Ok(level) => vec![level],
            Err(error) => {
                send_entry(self.send, self.entry(&way, Err(EntryFault::Unreadable(error))));
                return;
            }
        };
        while let Some(current) = levels.last_mut() {
            let Some(name) = current.pending.pop() else {
                levels.pop();
                way.pop();
                let Some(above) = levels.last() else { return };
                match beneath::ascend(here.as_fd(), above.identity) {
                    Ok(parent) => here = parent,
                    Err(error) => {
                        send_entry(self.send, self.entry(&way, Err(EntryFault::Unreadable(error))));
                        return;
                    }
                }
                continue;
            };
            way.push(OsStr::from_bytes(name.to_bytes()).to_owned());
            match self.visit(&here, &name, &way) {
                Ok(Some(child)) if levels.len() < MAX_DEPTH => match level(&child) {
                    Ok(level) => {
                        levels.push(level);
                        here = child;
                        continue;
                    }
                    Err(error) => {
                        if !send_entry(self.send, self.entry(&way, Err(EntryFault::Unreadable(error)))) {
                            return;
                        }
                    }
                },
                Ok(Some(_too_deep)) => {
                    let error = io::Error::other(format!("is nested in more than {MAX_DEPTH} directories"));
                    if !send_entry(self.send, self.entry(&way, Err(EntryFault::Unreadable(error)))) {
                        return;
                    }
                }
                Ok(None) => {}
                Err(Unwanted) => return,
            }
            way.pop();
        }
    }

    /// Sends one thing, or returns the directory that it is.
    fn visit(&self, here: &OwnedFd, name: &CString, way: &[OsString]) -> Result<Option<OwnedFd>, Unwanted> {
        let content = match beneath::find_entry(here.as_fd(), name) {
            Ok(Named::Found(Found::Directory(child))) => return Ok(Some(child)),
            Ok(Named::Found(file)) => content_of(Ok(file)),
            Ok(Named::Link) => content_of(self.root.find(&self.prefix.join(way.iter().collect::<PathBuf>()))),
            Err(fault) => Err(fault_of(fault)),
        };
        if send_entry(self.send, self.entry(way, content)) { Ok(None) } else { Err(Unwanted) }
    }

    fn entry(&self, way: &[OsString], content: Result<Content, EntryFault>) -> Entry {
        let relative: PathBuf = way.iter().collect();
        let shown = self.shown.join(&relative).display().to_string();
        match relative.to_str() {
            Some(text) => Entry { relative: text.to_owned(), shown, content },
            // Artifact names are text; a name made up for it might belong to another file.
            None => Entry {
                relative: relative.to_string_lossy().into_owned(),
                shown,
                content: Err(EntryFault::Unreadable(io::Error::new(
                    io::ErrorKind::InvalidFilename,
                    "its name is not valid UTF-8",
                ))),
            },
        }
    }
}

fn level(directory: &OwnedFd) -> io::Result<Level> {
    let identity = Status::of(directory.as_fd())?.identity;
    let mut pending: Vec<CString> = directory::list(directory.as_fd())?.into_iter().map(|item| item.name).collect();
    pending.sort_unstable_by(|left, right| right.cmp(left));
    Ok(Level { identity, pending })
}
