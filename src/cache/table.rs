//! Which caches there are: a plain value, without a disk.
//!
//! ```text
//!             acquire                       release
//!   free ───────────────▶ in use ──────────────────────────▶ free
//!    │                      │ evicted or purged meanwhile:
//!    └──evict, purge, trim──┴──────▶ gone                     (release finds nothing)
//! ```
//!
//! A cache name has a pool of entries. No entry is in use twice; what the table does not name is gone.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};

/// The clocks of those who ask for a purge and of this machine may differ by this much; the reference allows as much.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(5);

/// One cache: a directory with what a task has left in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The directory. Absolute and unique in the table.
    pub location: PathBuf,
    /// When it was first made. Purge requests are compared with this, so use does not change it.
    pub created: Timestamp,
    /// When a task last gave it back.
    pub last_used: Timestamp,
    /// How often it was there when a task wanted it.
    pub hits: u64,
    /// Of the content it was made from; empty if it was made empty.
    pub sha256: String,
    /// Whether a task has it.
    pub in_use: bool,
}

/// Who wants caches of a name to be made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeRequest {
    /// The name of the caches.
    pub cache_name: String,
    /// Those that were made before are meant.
    pub before: Timestamp,
}

/// All caches by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pools: BTreeMap<String, Vec<Entry>>,
    /// The name for each location.
    names: HashMap<PathBuf, String>,
}

impl Table {
    /// Every pool with its name. No pool is empty.
    pub fn pools(&self) -> impl Iterator<Item = (&str, &[Entry])> {
        self.pools.iter().map(|(name, pool)| (name.as_str(), pool.as_slice()))
    }

    /// Every entry with its name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.pools().flat_map(|(name, pool)| pool.iter().map(move |entry| (name, entry)))
    }

    /// Adds an entry, unless its directory is taken.
    pub fn insert(&mut self, name: &str, entry: Entry) -> bool {
        let is_free = !self.contains(&entry.location);
        if is_free {
            self.names.insert(entry.location.clone(), name.to_owned());
            self.pools.entry(name.to_owned()).or_default().push(entry);
        }
        is_free
    }

    /// Whether an entry has this directory.
    pub fn contains(&self, location: &Path) -> bool {
        self.names.contains_key(location)
    }

    /// Takes the most recently used free cache of a name into use.
    pub fn acquire(&mut self, name: &str) -> Option<Entry> {
        let entry = self.pools.get_mut(name)?.iter_mut().filter(|entry| !entry.in_use).max_by_key(|entry| entry.last_used)?;
        entry.in_use = true;
        entry.hits = entry.hits.saturating_add(1);
        Some(entry.clone())
    }

    /// Makes a cache free that is in use. `now` is when a task has used it, if one has. Whether it is still wanted: an entry
    /// that was evicted or purged meanwhile is not.
    pub fn release(&mut self, location: &Path, now: Option<Timestamp>) -> bool {
        let Some(entry) = self.find(location).filter(|entry| entry.in_use) else { return false };
        entry.in_use = false;
        match now {
            Some(now) => entry.last_used = now,
            None => entry.hits = entry.hits.saturating_sub(1),
        }
        true
    }

    /// Gives an entry another directory.
    pub fn relocate(&mut self, from: &Path, to: PathBuf) {
        if let Some(entry) = self.find(from) {
            entry.location.clone_from(&to);
            if let Some(name) = self.names.remove(from) {
                self.names.insert(to, name);
            }
        }
    }

    /// Forgets an entry. Whether there was one.
    pub fn evict(&mut self, location: &Path) -> bool {
        let Some(name) = self.names.remove(location) else { return false };
        if let Some(pool) = self.pools.get_mut(&name) {
            pool.retain(|entry| !entry.is_at(location));
            if pool.is_empty() {
                self.pools.remove(&name);
            }
        }
        true
    }

    /// Forgets the caches that are meant by these requests, also those in use, and returns them with their names.
    pub fn purge(&mut self, requests: &[PurgeRequest]) -> Vec<(String, Entry)> {
        let meant = |name: &str, entry: &Entry| {
            requests.iter().any(|request| request.cache_name == name && is_before(entry.created, request.before))
        };
        self.take(meant)
    }

    /// Forgets the longest unused free caches of each pool that has more than `most` of them, and returns them.
    pub fn trim(&mut self, most: usize) -> Vec<(String, Entry)> {
        let mut extra = HashSet::new();
        for pool in self.pools.values() {
            let mut free: Vec<&Entry> = pool.iter().filter(|entry| !entry.in_use).collect();
            free.sort_by_key(|entry| std::cmp::Reverse(entry.last_used));
            extra.extend(free.into_iter().skip(most).map(|entry| entry.location.clone()));
        }
        self.take(|_, entry| extra.contains(&entry.location))
    }

    /// Forgets the longest unused of all free caches and returns it.
    pub fn evict_oldest(&mut self) -> Option<(String, Entry)> {
        let oldest = self.entries().filter(|(_, entry)| !entry.in_use).min_by_key(|(_, entry)| entry.last_used);
        let (name, entry) = oldest.map(|(name, entry)| (name.to_owned(), entry.clone()))?;
        self.evict(&entry.location);
        Some((name, entry))
    }

    fn take(&mut self, wanted: impl Fn(&str, &Entry) -> bool) -> Vec<(String, Entry)> {
        let meant = self.entries().filter(|(name, entry)| wanted(name, entry));
        let taken: Vec<_> = meant.map(|(name, entry)| (name.to_owned(), entry.clone())).collect();
        for (_, entry) in &taken {
            self.evict(&entry.location);
        }
        taken
    }

    fn find(&mut self, location: &Path) -> Option<&mut Entry> {
        let name = self.names.get(location)?;
        self.pools.get_mut(name)?.iter_mut().find(|entry| entry.is_at(location))
    }
}

impl Entry {
    /// Compares byte by byte, which is right for the tidy paths of a table and much faster than part by part.
    fn is_at(&self, location: &Path) -> bool {
        self.location.as_os_str() == location.as_os_str()
    }
}

/// Whether a cache made at `created` is older than a request says, with clocks that differ.
fn is_before(created: Timestamp, before: Timestamp) -> bool {
    created.saturating_sub(CLOCK_SLACK).unwrap_or(created) < before
}
