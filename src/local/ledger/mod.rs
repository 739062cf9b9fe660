//! The ledger: what has to survive a restart, in the data directory.
//!
//! It owns the data directory, its lock, and one file of records: bytes (JSON, by custom) by a kind and a key. It does not know what they mean.
//!
//! ```text
//!  call ──▶ books (under their lock) ──▶ write(…) ──▶ pending ──writer thread──▶ commit to the file ──▶ settled() ──▶ answer
//!                                        never waits    (the last record of a key counts)   (everything pending in one go)
//! ```
//! - [`Ledger::write`], [`Ledger::put`] and [`Ledger::remove`] only note: they never wait, so they may be called under any lock. What one
//!   `write` notes becomes durable together.
//! - [`Ledger::settled`] waits until everything noted before it is durable. `endpoint` calls it before it answers, so no handler has to.
//! - [`Ledger::room`] is where callers wait when the disk is slower than they are: before they change anything, with no lock held. That bounds
//!   what is pending, by this and by how many calls run at the same time.
//! - Without a data directory there is no file and no thread; nothing is kept and nothing waits.
//!
//! Durable means on the disk: a commit waits for it. Kept by the system's cache alone, a record would survive `kill -9`, too, but the file might not
//! survive a loss of power, and all that calls gain is a part of the time of a commit, which they share: measured with 16 clients,
//! `benches/queue.rs`.
//!
//! A record that cannot be written (a full disk) is tried again until it can be; calls that change something are refused in the meantime.

pub(crate) mod books;
mod careful;
mod damage;
mod definition;
mod file;
mod pending;
pub(crate) mod secrets;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

pub(crate) use damage::Damage;
use file::{File, FileError};
pub(crate) use pending::Batch;
use pending::Pending;

/// Records that may wait to be written before callers have to.
const MOST_PENDING: usize = 20_000;
/// How long a call waits for its records to be written.
const PATIENCE: Duration = Duration::from_secs(30);

/// Records of the same sort: a table of the file. The name is part of the format.
pub(crate) type Kind = &'static str;

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("data directory \"{}\": {error}", dir.display())]
    Directory { dir: PathBuf, error: io::Error },
    #[error("data directory \"{}\" is in use by another queue", dir.display())]
    InUse { dir: PathBuf },
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        let kind = match &error {
            OpenError::Directory { error, .. } => error.kind(),
            OpenError::InUse { .. } => io::ErrorKind::ResourceBusy,
            OpenError::File(_) => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error.to_string())
    }
}

/// What was noted is not durable, for this reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unsettled(pub(crate) String);

/// Records that survive, if there is a data directory.
pub(crate) struct Ledger(Option<Kept>);

struct Kept {
    file: Arc<Mutex<File>>,
    pending: Arc<Pending>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Locked as long as it is open.
    lock: Mutex<Option<std::fs::File>>,
}

impl Ledger {
    /// Keeps nothing.
    pub(crate) fn memory() -> Self {
        Self(None)
    }

    /// The ledger of this data directory. It is made if it is missing, readable for its owner only.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Directory { dir: dir.to_owned(), error };
        file::make_dir(dir).map_err(failed)?;
        let lock = file::open_private(&dir.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::InUse { dir: dir.to_owned() }),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let file = Arc::new(Mutex::new(File::open(&dir.join("ledger.redb"))?));
        let pending = Arc::new(Pending::new());
        let writer = std::thread::Builder::new().name("ledger".to_owned()).spawn({
            let (file, pending) = (Arc::clone(&file), Arc::clone(&pending));
            move || pending.write_to(&file)
        });
        let writer = Mutex::new(Some(writer.map_err(failed)?));
        Ok(Self(Some(Kept { file, pending, writer, lock: Mutex::new(Some(lock)) })))
    }

    /// Whether anything is kept at all.
    pub(crate) fn keeps(&self) -> bool {
        self.0.is_some()
    }

    /// Notes records that become durable together.
    pub(crate) fn write(&self, note: impl FnOnce(&mut Batch<'_>)) {
        if let Some(kept) = &self.0 {
            kept.pending.note(note);
        }
    }

    /// Notes a record, which replaces the one of the same kind and key.
    pub(crate) fn put(&self, kind: Kind, key: &str, bytes: Vec<u8>) {
        self.write(|batch| batch.put(kind, key, bytes));
    }

    /// Notes that there is no such record any more.
    pub(crate) fn remove(&self, kind: Kind, key: &str) {
        self.write(|batch| batch.remove(kind, key));
    }

    /// All durable records of this kind, by their keys. For the start: what is pending is not among them.
    pub(crate) fn load(&self, kind: Kind) -> Result<Vec<(String, Vec<u8>)>, OpenError> {
        let mut records = Vec::new();
        self.each(kind, |key, bytes| records.push((key.to_owned(), bytes.to_owned())))?;
        Ok(records)
    }

    /// The same, one by one.
    pub(crate) fn each(&self, kind: Kind, visit: impl FnMut(&str, &[u8])) -> Result<(), OpenError> {
        match &self.0 {
            Some(kept) => Ok(kept.file.lock().unwrap_or_else(PoisonError::into_inner).each(kind, visit)?),
            None => Ok(()),
        }
    }

    /// The same, with the record of another kind that has the same key.
    pub(crate) fn each_with(
        &self,
        kind: Kind,
        other: Kind,
        visit: impl FnMut(&str, &[u8], Option<&[u8]>),
    ) -> Result<(), OpenError> {
        match &self.0 {
            Some(kept) => Ok(kept.file.lock().unwrap_or_else(PoisonError::into_inner).each_with(kind, other, visit)?),
            None => Ok(()),
        }
    }

    /// Waits until everything that was noted before is durable.
    pub(crate) async fn settled(&self) -> Result<(), Unsettled> {
        let Some(kept) = &self.0 else { return Ok(()) };
        bounded(kept.pending.settled()).await
    }

    /// Waits until there is room for more records. Refuses when records cannot be written at present.
    pub(crate) async fn room(&self) -> Result<(), Unsettled> {
        let Some(kept) = &self.0 else { return Ok(()) };
        bounded(kept.pending.room(MOST_PENDING)).await
    }

    /// Writes what is pending and lets go of the directory. Blocks; calling it again changes nothing.
    pub(crate) fn close(&self) {
        let Some(kept) = &self.0 else { return };
        kept.pending.close();
        if let Some(writer) = kept.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A writer that panicked has said so, and what it had not written is not durable.
            drop(writer.join());
            kept.file.lock().unwrap_or_else(PoisonError::into_inner).close();
            kept.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}

async fn bounded(wait: impl Future<Output = Result<(), Unsettled>>) -> Result<(), Unsettled> {
    let late = || Unsettled(format!("nothing was written to the data directory for {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| Err(late()))
}
