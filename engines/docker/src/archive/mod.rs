//! Reading what a container left behind, through the engine's archive API.
//!
//! ```text
//! read(path) ─▶ GET archive ─┬─ a file ────────▶ small: its bytes; else a stream, which asks again when it is opened
//!                            ├─ a symbolic link ▶ HEAD: where it leads to inside of the container ─▶ GET archive …
//!                            ├─ a directory ───▶ one walk through the whole archive (see `walk`)
//!                            └─ 404, 500, …  ──▶ a fault, after further attempts unless it is about the path
//! ```
//!
//! The container's paths are resolved by the engine and inside of the container: a link to `/etc/shadow` is the container's own.
//! Volumes and binds are part of what is seen, also when the container has stopped. Sockets in a directory are not: archives
//! cannot hold them, and the engine leaves them out without a word.
//!
//! **One request at a time.** The engine (20.10 and 28.5 were tried) locks a container while one of its archives is being read;
//! every other request for that container waits, be it for an archive, for `inspect` or for removal. So there is one [`Archive`]
//! for each container, all requests go through its `turn`, and nobody who has the turn waits for anybody who wants it.

mod request;
mod source;
pub(crate) mod tar;
#[cfg(test)]
mod tests;
mod turn;
mod walk;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tc_engine::{Content, Entry, EntryFault, Kind};
use tokio::sync::mpsc;

use self::{
    request::{Fault, Found},
    tar::{Event, Owner},
    turn::Turns,
};
use crate::{Connection, connection::Failure};

/// How many entries may wait for their reader.
const ENTRIES_AHEAD: usize = 2;
/// Files up to this size are kept in memory from the moment they are found.
const IN_MEMORY: u64 = 1 << 20;
/// So often is a lost engine asked again, after waits that begin with [`FIRST_WAIT`]: half a minute in all.
const LOSSES: u32 = 8;
/// First wait for an engine that went away.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The files of one stopped container. There must be no second value for the same container. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    container_id: String,
    /// Where files of medium size may lie, without a name, until they are uploaded.
    spool_dir: PathBuf,
    turns: Turns,
}

impl Archive {
    /// The files of this container.
    pub fn new(connection: Connection, container_id: impl Into<String>, spool_dir: impl Into<PathBuf>) -> Self {
        let (container_id, spool_dir) = (container_id.into(), spool_dir.into());
        Self { inner: Arc::new(Inner { connection, container_id, spool_dir, turns: Turns::default() }) }
    }

    /// Everything at `path`, as [`tc_engine::Quiet::read`] wants it. A relative path begins at the container's root.
    ///
    /// Entries of a directory come in two parts: first, in the order of a depth-first walk with the names of each directory
    /// sorted as bytes, what could be read on the way; then, in the same order, links and large files.
    pub fn read(&self, path: &str, kind: Kind) -> mpsc::Receiver<Entry> {
        let (send, receive) = mpsc::channel(ENTRIES_AHEAD);
        let (archive, shown) = (self.clone(), clean(path));
        let task = tokio::spawn(async move {
            let entry = |content| Entry { relative: String::new(), shown: shown.clone(), content };
            let content = match (kind, archive.find_patiently(&shown).await) {
                (Kind::Directory, Ok(Found::Directory { answer, path, name })) => {
                    walk::run(&archive, &shown, walk::Top { answer, path, name }, &send).await;
                    return;
                }
                (Kind::File, Ok(Found::Directory { .. })) => Err(EntryFault::IsDirectory),
                (Kind::Directory, Ok(Found::File { .. })) => Err(EntryFault::NotDirectory),
                (_, found) => archive.content(found).await,
            };
            // Nobody may want it any more.
            drop(send.send(entry(content)).await);
        });
        watch(task, receive, clean(path))
    }

    /// What to make of one file.
    async fn content(&self, found: Result<Found, Fault>) -> Result<Content, EntryFault> {
        match found {
            Ok(Found::File { answer, path, bytes }) if bytes <= IN_MEMORY => source::small(self, answer, path, bytes).await,
            Ok(Found::File { path, bytes, .. }) => Ok(source::large(self, path, bytes)),
            Ok(Found::Directory { .. }) => Err(EntryFault::IsDirectory),
            Ok(Found::Special(what)) => Err(EntryFault::Special(what)),
            Err(fault) => Err(fault.into()),
        }
    }

    /// What a directory of the container looks like; none if there is none at this path.
    pub(crate) async fn directory(&self, path: &str) -> Result<Option<Directory>, Failure> {
        let (mut answer, path) = match self.find(path).await {
            Ok(Found::Directory { answer, path, .. }) => (answer, path),
            Ok(Found::File { .. } | Found::Special(_)) | Err(Fault::Missing) => return Ok(None),
            Err(fault) => return Err(fault.into()),
        };
        let owner = answer.owner().ok_or_else(|| Failure::Garbage(format!("nobody owns {path}")))?;
        // What else it would send stays where it is.
        let is_empty = answer.next().await? == Event::End;
        Ok(Some(Directory { path, owner, is_empty }))
    }

    fn spool_dir(&self) -> &Path {
        &self.inner.spool_dir
    }
}

/// A directory of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Where it is when links at its end are followed.
    pub(crate) path: String,
    pub(crate) owner: Owner,
    pub(crate) is_empty: bool,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        if let Fault::Lost(_) | Fault::Ended = fault {
            Self::Broken(fault.to_string())
        } else {
            Self::answer(500, &fault.to_string())
        }
    }
}

/// The way back of entries. A walk that breaks off must not look like one that is complete.
fn watch(task: tokio::task::JoinHandle<()>, mut entries: mpsc::Receiver<Entry>, shown: String) -> mpsc::Receiver<Entry> {
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let entry = tokio::select! {
                biased; // An entry that nobody will take ends it all.
                () = send.closed() => { task.abort(); return; }
                entry = entries.recv() => entry,
            };
            let Some(entry) = entry else { break };
            if send.send(entry).await.is_err() {
                task.abort();
                return;
            }
        }
        if task.await.is_err() {
            let fault = EntryFault::Unreadable(std::io::Error::other("the worker failed while reading it"));
            drop(send.send(Entry { relative: String::new(), shown, content: Err(fault) }).await);
        }
    });
    receive
}

/// An absolute path without `.`, `..`, doubled and trailing slashes, as people see it and as the engine would read it.
pub(crate) fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The path of something in a directory.
fn join(directory: &str, relative: &str) -> String {
    format!("{}/{relative}", directory.trim_end_matches('/'))
}
