//! Names in the directory for caches.
//!
//! ```text
//! <cachesDir>/directory-caches.json     the table
//! <cachesDir>/tc-<id>/data              a free cache
//! <cachesDir>/tc-<id>.busy/data         the same while a task has it
//! <cachesDir>/tc-<id>[.busy]/lock       locked by the process whose task has it
//! <cachesDir>/trash-<id>/…              waits for its deletion
//! <cachesDir>/<name>/                   a free cache that the reference worker has left
//! ```
//!
//! The name of the directory is the journal: it changes in one step, before a task gets at the cache and after the task was
//! done with it. So whatever happens to the worker or to the table, a cache under a free name is one that a finished task
//! left, and one under a busy name that nobody holds the lock of is half-written.
//!
//! The directory around `data` belongs to the worker alone, so that a worker without privileges can rename it, also after
//! a container has given `data` to root.

use std::path::{Component, Path, PathBuf};

/// The table. The reference has its own of this name in its current directory.
pub const TABLE: &str = "directory-caches.json";
/// What is mounted, in the directory around it.
pub const DATA: &str = "data";
/// The lock beside it.
pub const LOCK: &str = "lock";
const OURS: &str = "tc-";
const BUSY: &str = ".busy";
const TRASH: &str = "trash-";

/// What a name in the directory for caches says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// A free cache of ours.
    Free(&'a str),
    /// A cache of ours that a task has or had.
    Busy(&'a str),
    /// It waits for its deletion.
    Trash,
    /// Not of ours.
    Other,
}

/// Reads a name.
pub fn read(name: &str) -> Named<'_> {
    if name.starts_with(TRASH) {
        return Named::Trash;
    }
    match name.strip_prefix(OURS).map(|id| (id, id.strip_suffix(BUSY))) {
        Some((_, Some(id))) => Named::Busy(id),
        Some((id, None)) => Named::Free(id),
        None => Named::Other,
    }
}

/// Where the cache of an id is: in one place while it is free, in another while it is busy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The directory while it is free.
    pub free: PathBuf,
    /// The directory while it is busy.
    pub busy: PathBuf,
}

impl Unit {
    /// The places for an id.
    pub fn new(dir: &Path, id: &str) -> Self {
        Self { free: dir.join(format!("{OURS}{id}")), busy: dir.join(format!("{OURS}{id}{BUSY}")) }
    }

    /// The location that the table names.
    pub fn location(&self) -> PathBuf {
        self.free.join(DATA)
    }
}

/// A place for what is to be deleted.
pub fn trash(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{TRASH}{id}"))
}

/// What a location in a table means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A cache of ours.
    Ours(Unit),
    /// A directory of the reference's, which is the cache itself.
    Plain(PathBuf),
}

/// Reads a location. Nothing for one that is not where caches are: a table is input, and must not make us mount or delete
/// other directories.
pub fn locate(dir: &Path, location: &Path) -> Option<Location> {
    let mut below = location.strip_prefix(dir).ok()?.components();
    let (first, second) = (below.next()?, below.next());
    let Component::Normal(first) = first else { return None };
    if below.next().is_some() {
        return None;
    }
    let name = first.to_str()?;
    match (read(name), second) {
        (Named::Free(id), Some(Component::Normal(data))) if data == DATA => Some(Location::Ours(Unit::new(dir, id))),
        (Named::Other, None) if name != TABLE => Some(Location::Plain(dir.join(name))),
        _ => None,
    }
}
