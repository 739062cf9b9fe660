//! The directory for caches while it is ours: the table was read, nobody else changes it, and it can be written.
//!
//! Several processes may use one directory (`exec` does), so the lock is the kernel's, on the directory itself. It is held
//! for a few renames and one small write, never while a tree is deleted.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};
use tracing::{info, warn};

use super::{file, places::TABLE, table::Table};
use crate::seam::{Disk, Lasting};

/// Longest wait for another process that uses the directory at the same time.
const LOCK_BOUND: Duration = Duration::from_secs(20);
/// Between two attempts.
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// Largest table that is read: two hundred thousand entries.
const TABLE_BYTES: u64 = 64 << 20;

/// What is known of the table between two uses of the directory.
#[derive(Debug, Default)]
pub struct Known {
    table: Table,
    /// Which file that was.
    stamp: Option<Stamp>,
    /// Tables of the reference worker were looked for.
    imported: bool,
}

/// Tells one file from another that took its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self { inode: found.ino(), bytes: found.len(), modified: (found.mtime(), found.mtime_nsec()) })
    }
}

/// Where things are.
pub struct Places {
    /// The directory for caches.
    pub dir: PathBuf,
    /// Tables of the reference worker, to be read when there is none of ours.
    pub import: Vec<PathBuf>,
    /// From where relative paths in those count.
    pub cwd: PathBuf,
}

/// The directory, locked.
pub struct Locked<'a> {
    places: &'a Places,
    disk: &'a dyn Disk,
    known: MutexGuard<'a, Known>,
    /// After the mutex, so that threads of one process do not poll for it.
    _lock: Flock<File>,
}

impl<'a> Locked<'a> {
    /// Locks the directory and reads the table. Makes the directory if it is missing: anyone may delete it at any time.
    pub fn take(places: &'a Places, disk: &'a dyn Disk, known: &'a Mutex<Known>) -> io::Result<Self> {
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = lock(&places.dir)?;
        let mut locked = Self { places, disk, known, _lock: lock };
        locked.refresh();
        Ok(locked)
    }

    /// The table.
    pub fn table(&mut self) -> &mut Table {
        &mut self.known.table
    }

    /// Writes the table.
    pub fn save(&mut self) -> io::Result<()> {
        let path = self.places.dir.join(TABLE);
        let written = self.disk.replace(&path, &file::serialize(&self.known.table), 0o600, Lasting::Process);
        // After a failure the file is what counts.
        self.known.stamp = if written.is_ok() { Stamp::of(&path) } else { None };
        written
    }

    /// Reads the table if it is not the one we know.
    fn refresh(&mut self) {
        let path = self.places.dir.join(TABLE);
        let stamp = Stamp::of(&path);
        if stamp.is_some() && stamp == self.known.stamp {
            return;
        }
        let first = !std::mem::replace(&mut self.known.imported, true);
        self.known.table = match stamp {
            Some(_) => self.read(&path).unwrap_or_default(),
            None if first => self.import(),
            None => Table::default(),
        };
        self.known.stamp = stamp;
        if stamp.is_none()
            && self.known.table != Table::default()
            && let Err(error) = self.save()
        {
            warn!("Could not write {}: {error}", path.display());
        }
    }

    fn import(&self) -> Table {
        let found = self.places.import.iter().filter(|path| path.parent() != Some(&self.places.dir));
        let Some((path, table)) = found.filter_map(|path| Some((path, self.read(path)?))).next() else {
            return Table::default();
        };
        info!("Took over the caches that {} names: {}", path.display(), table.entries().count());
        table
    }

    /// Reads a table; nothing if it is missing or none.
    fn read(&self, path: &Path) -> Option<Table> {
        let unusable = |why: &dyn std::fmt::Display| {
            warn!("Starting without the caches that {} names: {why}", path.display());
        };
        match fs::metadata(path) {
            Ok(found) if found.len() > TABLE_BYTES => {
                unusable(&format!("it has {} bytes", found.len()));
                return None;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            _ => {}
        }
        let bytes = self.disk.read(path).map_err(|error| unusable(&error)).ok()??;
        let parsed = file::parse(&bytes, &self.places.dir, &self.places.cwd).map_err(|error| unusable(&error)).ok()?;
        for dropped in parsed.dropped {
            warn!("Ignored in {}: {dropped}", path.display());
        }
        Some(parsed.table)
    }
}

/// Locks the directory that has this path now.
fn lock(dir: &Path) -> io::Result<Flock<File>> {
    let deadline = Instant::now() + LOCK_BOUND;
    loop {
        // Only its owner gets into it: caches are private data of tasks.
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let opened = match File::open(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            // Somebody may have deleted it and made another one meanwhile.
            Ok(lock) if is_at(&lock, dir) => return Ok(lock),
            Ok(_) => {}
            Err((_, nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR)) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err((_, nix::errno::Errno::EAGAIN)) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another process keeps it locked"));
            }
            Err((_, errno)) => return Err(errno.into()),
        }
    }
}

fn is_at(opened: &File, path: &Path) -> bool {
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    opened.metadata().ok().map(identity) == fs::metadata(path).ok().map(identity)
}
