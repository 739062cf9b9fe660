//! Making room on the disk.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tracing::warn;

use super::store::{Inner, gone};

/// Longest time for it; the rest is for the next time.
const ROOM_BOUND: Duration = Duration::from_secs(15 * 60);

/// Discards free caches, the longest unused first, until about `bytes` more are free. What was discarded before counts.
pub fn make_room(inner: &Inner, bytes: u64) -> Vec<String> {
    let dir = &inner.places.dir;
    let free = || inner.disk.free_bytes(dir).unwrap_or_default();
    let wanted = free().saturating_add(bytes);
    let deadline = Instant::now() + ROOM_BOUND;
    let Some(trash) = inner.trash().filter(|_| dir.exists()) else { return Vec::new() };
    let is_enough = || free() >= wanted || Instant::now() >= deadline;
    // Deleted here and not in the background: only what is deleted makes room. What cannot be is said by the other thread.
    let delete = |path: PathBuf| drop(trash.delete(&path));
    for path in trash.listed() {
        if is_enough() {
            return Vec::new();
        }
        delete(path);
    }
    let mut said = Vec::new();
    while !is_enough() {
        let evicted = match inner.locked() {
            Ok(mut locked) => {
                let evicted = locked.table().evict_oldest();
                if evicted.is_some()
                    && let Err(error) = locked.save()
                {
                    // On a full disk the table cannot be written; the cache is gone all the same.
                    warn!("Could not write the table of caches in {}: {error}", dir.display());
                }
                evicted
            }
            Err(error) => {
                warn!("Could not lock {}: {error}", dir.display());
                None
            }
        };
        let Some((name, entry)) = evicted else { break };
        said.push(gone(&name, &entry));
        if let Some(path) = inner.discard_aside(&entry.location) {
            delete(path);
        }
    }
    said
}
