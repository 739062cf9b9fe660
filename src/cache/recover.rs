//! What earlier workers left, looked at in the background: nothing of it can be handed out before, because a cache in use is
//! not free, and what the table does not name is nobody's.

use std::{fs, io, path::Path};

use tracing::{info, warn};

use super::{
    places::{self, DATA, Location, Named, Unit},
    store::{Inner, hold},
};

/// Names that are looked at while the directory is locked.
const AT_ONCE: usize = 64;

impl Inner {
    /// Looks at everything once.
    pub(super) fn recover(&self) {
        if !self.places.dir.exists() {
            return;
        }
        if let Err(error) = self.end_dead_leases().and_then(|()| self.forget_vanished()).and_then(|()| self.remove_unknown()) {
            warn!("Could not look at what earlier workers left in {}: {error}", self.places.dir.display());
        }
    }

    /// Caches in use whose worker has died are half-written, so they go.
    fn end_dead_leases(&self) -> io::Result<()> {
        let mut locked = self.locked()?;
        let in_use = locked.table().entries().filter(|(_, entry)| entry.in_use);
        let in_use: Vec<_> = in_use.map(|(name, entry)| (name.to_owned(), entry.location.clone())).collect();
        let mut changed = false;
        for (name, location) in in_use {
            let Some(Location::Ours(unit)) = places::locate(&self.places.dir, &location) else { continue };
            if unit.busy.exists() {
                let Ok(lock) = hold(&unit.busy) else { continue };
                locked.table().evict(&location);
                self.throw_away(&unit.busy);
                drop(lock);
                info!("Discarded cache {name:?}: the worker has died while a task used it");
            } else if is_directory(&unit.free.join(DATA)) {
                // It was given back, and only the table does not know it yet.
                locked.table().release(&location, Some(self.clock.wall()));
            } else {
                locked.table().evict(&location);
            }
            changed = true;
        }
        if changed { locked.save() } else { Ok(()) }
    }

    /// Free caches that somebody has deleted.
    fn forget_vanished(&self) -> io::Result<()> {
        let free: Vec<_> = {
            let mut locked = self.locked()?;
            let free = locked.table().entries().filter(|(_, entry)| !entry.in_use);
            free.map(|(_, entry)| entry.location.clone()).collect()
        };
        for locations in free.chunks(AT_ONCE) {
            let mut locked = self.locked()?;
            let mut changed = false;
            for location in locations {
                let Some(Location::Ours(unit)) = places::locate(&self.places.dir, location) else { continue };
                // It may have been handed out meanwhile; then it has the other name.
                if locked.table().contains(location) && !is_directory(&unit.free.join(DATA)) && !unit.busy.exists() {
                    locked.table().evict(location);
                    changed = true;
                }
            }
            if changed {
                locked.save()?;
            }
        }
        Ok(())
    }

    /// Directories of ours that no entry of the table names.
    fn remove_unknown(&self) -> io::Result<()> {
        let names: Vec<String> =
            fs::read_dir(&self.places.dir)?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let mut removed = 0_usize;
        for names in names.chunks(AT_ONCE) {
            let mut locked = self.locked()?;
            for name in names {
                let path = self.places.dir.join(name);
                let unknown = |id: &str| Unit::new(&self.places.dir, id).location();
                let is_dead = match places::read(name) {
                    Named::Free(id) => !locked.table().contains(&unknown(id)),
                    Named::Busy(_) => hold(&path).is_ok(),
                    Named::Trash | Named::Other => false,
                };
                if is_dead {
                    self.throw_away(&path);
                    removed += 1;
                }
            }
        }
        if removed > 0 {
            info!("Discarded {removed} caches in {} that the table there does not name", self.places.dir.display());
        }
        Ok(())
    }
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}
