//! The store: the table and the directory, changed together.
//!
//! Each change is made in an order in which a death in the middle loses at most a cache, never shows a half-written one:
//! the directory gets its busy name before the table is written and before a task gets it, and its free name before the
//! table says so.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use tracing::warn;

use super::{
    lease::{Lease, Returned, Verdict},
    locked::{Known, Locked, Places},
    places::{self, DATA, LOCK, Location, Unit},
    table::{Entry, PurgeRequest},
    trash::{Powers, Trash},
};
use crate::seam::{Clock, Disk, Random, slugid};

/// What a store is made of.
pub struct Options {
    /// The directory for caches; absolute. It is made when the first cache is.
    pub dir: PathBuf,
    /// Tables of the reference worker, read if there is none of ours.
    pub import: Vec<PathBuf>,
    /// For dates.
    pub clock: Arc<dyn Clock>,
    /// For names.
    pub random: Arc<dyn Random>,
    /// For the table, and to see how much room there is.
    pub disk: Arc<dyn Disk>,
    /// Who can delete files that are not the worker's, if anybody.
    pub powers: Option<Powers>,
}

/// Why a cache cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("make a cache in {}: {source}", dir.display())]
pub struct CacheError {
    dir: PathBuf,
    source: io::Error,
}

impl CacheError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// The writable caches of a worker. All calls block for a few renames and a small write, unless they say otherwise.
pub struct CacheStore {
    inner: Arc<Inner>,
}

/// What leases and threads share.
pub struct Inner {
    pub(super) places: Places,
    pub(super) known: Mutex<Known>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) disk: Arc<dyn Disk>,
    trash: Mutex<Option<Arc<Trash>>>,
}

impl CacheStore {
    /// A store. Returns at once: what earlier workers left is looked at in the background.
    pub fn open(options: Options) -> Self {
        let Options { dir, import, clock, random, disk, powers } = options;
        let dir: PathBuf = dir.components().collect();
        let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let places = Places { dir: dir.clone(), import, cwd };
        let inner = Arc::new(Inner { places, known: Mutex::default(), clock, random, disk, trash: Mutex::default() });
        let trash = {
            let inner = Arc::downgrade(&inner);
            Trash::start(&dir, powers, move || {
                if let Some(inner) = inner.upgrade() {
                    inner.recover();
                }
            })
        };
        *inner.trash.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(trash);
        Self { inner }
    }

    /// Caches of these names, each for one task alone: the most recently used free one, else a new one. A name may be
    /// wanted several times.
    ///
    /// # Errors
    /// When a new one cannot be made, or the table not be written. None is in use then.
    pub fn lease(&self, names: &[&str]) -> Result<Vec<Lease>, CacheError> {
        let mut leases = Vec::with_capacity(names.len());
        match self.inner.lease(names, &mut leases) {
            Ok(()) => Ok(leases),
            Err(source) => {
                // Nobody has had them. Those that cannot be given back are discarded, which was said then.
                for lease in leases {
                    drop(lease.give_back(Verdict::Unused));
                }
                Err(CacheError { dir: self.inner.places.dir.clone(), source })
            }
        }
    }

    /// Does what purge requests want. Returns a sentence for each cache that is gone now, or will be when its task ends.
    pub fn purge(&self, requests: &[PurgeRequest]) -> Vec<String> {
        self.inner.discard_some(|locked| locked.table().purge(requests))
    }

    /// Discards caches that are not in use, the longest unused first, until no name has more than `most` of them. Returns a
    /// sentence for each.
    pub fn trim(&self, most: usize) -> Vec<String> {
        self.inner.discard_some(|locked| locked.table().trim(most))
    }

    /// Discards caches that are not in use, the longest unused first, until about this many bytes more are free on their
    /// disk. Takes as long as their deletion takes. Returns a sentence for each.
    pub fn make_room(&self, bytes: u64) -> Vec<String> {
        super::room::make_room(&self.inner, bytes)
    }

    /// How many caches there are, with those in use.
    pub fn count(&self) -> usize {
        if !self.inner.places.dir.exists() {
            return 0;
        }
        self.inner.locked().map_or(0, |mut locked| locked.table().entries().count())
    }

    /// Discards everything that is not in use and waits until it is deleted. Whether all of it is.
    pub fn clear(&self, patience: Duration) -> bool {
        if self.inner.places.dir.exists() {
            self.trim(0);
        }
        self.settle(patience)
    }

    /// Waits until everything in the trash is deleted. Whether it is.
    pub fn settle(&self, patience: Duration) -> bool {
        self.inner.trash().is_none_or(|trash| trash.settle(patience))
    }

    /// Stops deleting. Waits for what the engine deletes just now; the next start goes on with the rest.
    pub fn leave(&self, patience: Duration) {
        if let Some(trash) = self.inner.trash() {
            trash.leave(patience);
        }
    }
}

impl Drop for CacheStore {
    fn drop(&mut self) {
        if let Some(trash) = self.inner.trash() {
            trash.close();
        }
    }
}

impl Inner {
    pub(super) fn locked(&self) -> io::Result<Locked<'_>> {
        Locked::take(&self.places, self.disk.as_ref(), &self.known)
    }

    pub(super) fn trash(&self) -> Option<Arc<Trash>> {
        self.trash.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn id(&self) -> String {
        slugid(self.random.as_ref())
    }

    fn lease(self: &Arc<Self>, names: &[&str], leases: &mut Vec<Lease>) -> io::Result<()> {
        let mut locked = self.locked()?;
        for name in names {
            let lease = match self.take_free(&mut locked, name) {
                Some(lease) => lease,
                None => self.make(&mut locked, name)?,
            };
            leases.push(lease);
        }
        locked.save()
    }

    /// The free cache of this name that is still there.
    fn take_free(self: &Arc<Self>, locked: &mut Locked<'_>, name: &str) -> Option<Lease> {
        while let Some(entry) = locked.table().acquire(name) {
            let location = entry.location.as_path();
            match self.take(locked, location) {
                Ok((unit, lock)) => {
                    return Some(Lease { name: name.to_owned(), unit, hit: true, lock: Some(lock), store: Arc::clone(self) });
                }
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        warn!("Cache {name:?} in {} cannot be used and is discarded: {error}", location.display());
                    }
                    locked.table().evict(location);
                    self.discard(location);
                }
            }
        }
        None
    }

    /// Gives a free cache its busy name.
    fn take(&self, locked: &mut Locked<'_>, location: &Path) -> io::Result<(Unit, Flock<File>)> {
        // Whatever else is there was not put there by us, and a link could lead anywhere.
        if !fs::symlink_metadata(location)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        match places::locate(&self.places.dir, location) {
            Some(Location::Ours(unit)) => {
                let lock = hold(&unit.free)?;
                fs::rename(&unit.free, &unit.busy)?;
                Ok((unit, lock))
            }
            Some(Location::Plain(plain)) => {
                let (unit, lock) = self.make_unit()?;
                if let Err(error) = fs::rename(&plain, unit.busy.join(DATA)) {
                    self.throw_away(&unit.busy);
                    return Err(error);
                }
                locked.table().relocate(location, unit.location());
                Ok((unit, lock))
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// A new cache, empty.
    fn make(self: &Arc<Self>, locked: &mut Locked<'_>, name: &str) -> io::Result<Lease> {
        let (unit, lock) = self.make_unit()?;
        let data = unit.busy.join(DATA);
        // Whatever the mask of this process: readable in the container for whoever runs there, writable for the worker's
        // user and for root. Outside of it, the directory around it keeps everybody else out.
        let made = DirBuilder::new().create(&data).and_then(|()| fs::set_permissions(&data, Permissions::from_mode(0o755)));
        if let Err(error) = made {
            self.throw_away(&unit.busy);
            return Err(error);
        }
        let now = self.clock.wall();
        let location = unit.location();
        let entry = Entry { location, created: now, last_used: now, hits: 0, sha256: String::new(), in_use: true };
        locked.table().insert(name, entry);
        Ok(Lease { name: name.to_owned(), unit, hit: false, lock: Some(lock), store: Arc::clone(self) })
    }

    /// An empty directory under a busy name.
    fn make_unit(&self) -> io::Result<(Unit, Flock<File>)> {
        let unit = Unit::new(&self.places.dir, &self.id());
        DirBuilder::new().mode(0o700).create(&unit.busy)?;
        match hold(&unit.busy) {
            Ok(lock) => Ok((unit, lock)),
            Err(error) => {
                self.throw_away(&unit.busy);
                Err(error)
            }
        }
    }

    /// Takes a cache back. A lease whose lock is gone was given back before.
    pub(super) fn give_back(&self, lease: &mut Lease, verdict: Verdict) -> Result<Returned, String> {
        let Some(lock) = lease.lock.take() else { return Ok(Returned::Discarded) };
        let (unit, location) = (&lease.unit, lease.unit.location());
        let mut locked = self.locked().map_err(|error| format!("lock {}: {error}", self.places.dir.display()))?;
        let now = self.clock.wall();
        let is_there = fs::symlink_metadata(unit.busy.join(DATA)).is_ok_and(|found| found.is_dir());
        let returned = match verdict {
            Verdict::Discard => Returned::Discarded,
            Verdict::Unused if !lease.hit => Returned::Discarded,
            _ if !is_there => Returned::Vanished,
            Verdict::Keep if locked.table().release(&location, Some(now)) => Returned::Kept,
            Verdict::Unused if locked.table().contains(&location) => {
                locked.table().release(&location, None);
                Returned::Kept
            }
            Verdict::Keep | Verdict::Unused => Returned::Outdated,
        };
        let moved = match returned {
            // From here on it is a free cache, whatever happens next.
            Returned::Kept => fs::rename(&unit.busy, &unit.free),
            _ => Ok(()),
        };
        if moved.is_err() || returned != Returned::Kept {
            locked.table().evict(&location);
        }
        if let Err(error) = locked.save() {
            warn!("Could not write the table of caches in {}: {error}", self.places.dir.display());
        }
        drop(lock);
        match moved {
            Ok(()) if returned == Returned::Kept => Ok(returned),
            Ok(()) => {
                self.throw_away(&unit.busy);
                Ok(returned)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Returned::Vanished),
            Err(error) => {
                self.throw_away(&unit.busy);
                Err(format!("rename {}: {error}", unit.busy.display()))
            }
        }
    }

    /// Takes caches out of the table and deletes those that nobody has. Returns a sentence for each.
    fn discard_some(&self, choose: impl FnOnce(&mut Locked<'_>) -> Vec<(String, Entry)>) -> Vec<String> {
        // A directory that is not there has no caches, and nobody needs it yet.
        if !self.places.dir.exists() {
            return Vec::new();
        }
        let chosen = match self.locked() {
            Ok(mut locked) => {
                let chosen = choose(&mut locked);
                // The table first: what it does not name is gone.
                if !chosen.is_empty()
                    && let Err(error) = locked.save()
                {
                    warn!("Could not write the table of caches in {}: {error}", self.places.dir.display());
                }
                for (_, entry) in chosen.iter().filter(|(_, entry)| !entry.in_use) {
                    self.discard(&entry.location);
                }
                chosen
            }
            Err(error) => {
                warn!("Could not lock {}: {error}", self.places.dir.display());
                return Vec::new();
            }
        };
        chosen.into_iter().map(|(name, entry)| gone(&name, &entry)).collect()
    }

    /// Puts a free cache into the trash. One that is gone already is what was wanted.
    fn discard(&self, location: &Path) {
        if let (Some(place), Some(trash)) = (self.discard_aside(location), self.trash()) {
            trash.add(place);
        }
    }

    /// Puts a directory into the trash.
    pub(super) fn throw_away(&self, path: &Path) {
        if let (Some(place), Some(trash)) = (self.put_aside(path), self.trash()) {
            trash.add(place);
        }
    }

    /// Gives a free cache the name of trash, and returns that.
    pub(super) fn discard_aside(&self, location: &Path) -> Option<PathBuf> {
        match places::locate(&self.places.dir, location)? {
            Location::Ours(unit) => self.put_aside(&unit.free),
            Location::Plain(plain) => self.put_aside(&plain),
        }
    }

    fn put_aside(&self, path: &Path) -> Option<PathBuf> {
        let place = places::trash(&self.places.dir, &self.id());
        match fs::rename(path, &place) {
            Ok(()) => return Some(place),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // The next start finds it: nothing names it.
            Err(error) => warn!("Could not put {} away: {error}", path.display()),
        }
        None
    }
}

/// What a person is told about a cache that is gone.
pub(super) fn gone(name: &str, entry: &Entry) -> String {
    let when = if entry.in_use { " (when its task is done)" } else { "" };
    format!("Discarded cache {name:?} of {} in {}{when}", entry.created, entry.location.display())
}

/// Locks a cache for this process.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if somebody has it.
pub(super) fn hold(around: &Path) -> io::Result<Flock<File>> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(around.join(LOCK))?;
    Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}
