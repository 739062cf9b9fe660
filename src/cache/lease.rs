//! A cache in the hands of one task.

use std::{fs::File, path::PathBuf, sync::Arc};

use nix::fcntl::Flock;

use super::{places::Unit, store::Inner};

/// What becomes of a cache once the task is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A task has finished with it: the next one gets it.
    Keep,
    /// No task has had it: it is what it was.
    Unused,
    /// It may be half-written.
    Discard,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// The next task gets it.
    Kept,
    /// It is gone, as was wanted.
    Discarded,
    /// A purge request came while it was in use, or somebody has deleted the table; it is gone.
    Outdated,
    /// Somebody has deleted it.
    Vanished,
}

/// A cache that one task has. Dropped without a verdict, it is discarded.
pub struct Lease {
    pub(super) name: String,
    pub(super) unit: Unit,
    pub(super) hit: bool,
    /// Tells other processes, and the next one after a crash, whether somebody has it.
    pub(super) lock: Option<Flock<File>>,
    pub(super) store: Arc<Inner>,
}

impl Lease {
    /// The name of the cache.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory, as long as the lease lasts.
    pub fn directory(&self) -> PathBuf {
        self.unit.busy.join(super::places::DATA)
    }

    /// Whether an earlier task has left something in it.
    pub fn was_there(&self) -> bool {
        self.hit
    }

    /// Gives the cache back. Nothing of the task may use it any more. Blocks for a few renames and a small write.
    ///
    /// # Errors
    /// A sentence fragment. The cache is gone then.
    pub fn give_back(mut self, verdict: Verdict) -> Result<Returned, String> {
        let store = Arc::clone(&self.store);
        store.give_back(&mut self, verdict)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let store = Arc::clone(&self.store);
            if let Err(error) = store.give_back(self, Verdict::Discard) {
                tracing::warn!("Cache {:?} is discarded at the next start: {error}", self.name);
            }
        }
    }
}
