//! The store over real directories, and the table against a slow model.

mod crash;
mod disk;
mod file;
mod histories;
mod start;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::seam::{Clock as _, SystemDisk, SystemRandom, TestClock};

/// Longest wait for the thread that deletes.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory for caches that several stores can share.
pub(super) struct Rig {
    pub(super) dir: PathBuf,
    pub(super) clock: Arc<TestClock>,
    _home: Option<tempfile::TempDir>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        Self { _home: Some(home), ..Self::at(Path::new("/")) }.moved()
    }

    fn moved(mut self) -> Self {
        self.dir = self._home.as_ref().expect("a directory").path().join("caches");
        self
    }

    pub(super) fn at(dir: &Path) -> Self {
        let start = "2026-11-24T12:00:00Z".parse().expect("a date");
        Self { dir: dir.to_owned(), clock: Arc::new(TestClock::starting_at(start)), _home: None }
    }

    /// A store as a worker that starts has it.
    pub(super) fn open(&self) -> CacheStore {
        self.open_with(Vec::new())
    }

    pub(super) fn open_with(&self, import: Vec<PathBuf>) -> CacheStore {
        CacheStore::open(Options {
            dir: self.dir.clone(),
            import,
            clock: self.clock.clone(),
            random: Arc::new(SystemRandom),
            disk: Arc::new(SystemDisk),
            powers: None,
        })
    }

    /// Lets time pass, so that uses have an order.
    pub(super) fn later(&self) -> Timestamp {
        self.clock.jump(SignedDuration::from_secs(1));
        self.clock.wall()
    }

    /// Names in the directory.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.dir)
            .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    /// Names of directories.
    pub(super) fn units(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| name != TABLE).collect()
    }
}

/// One cache of this name.
pub(super) fn one(store: &CacheStore, name: &str) -> Lease {
    store.lease(&[name]).expect("a cache").pop().expect("one")
}

pub(super) fn put(lease: &Lease, content: &str) {
    fs::write(lease.directory().join("file"), content).expect("written");
}

pub(super) fn content(lease: &Lease) -> Option<String> {
    fs::read_to_string(lease.directory().join("file")).ok()
}

/// A cache of this name that holds this content and is free.
pub(super) fn kept(rig: &Rig, store: &CacheStore, name: &str, text: &str) {
    let lease = one(store, name);
    put(&lease, text);
    rig.later();
    assert_eq!(lease.give_back(Verdict::Keep), Ok(Returned::Kept));
}
