//! Records on their way to the file.
//!
//! ```text
//!  note ──▶ batch n (being filled) ──the writer takes it──▶ batch n (being committed) ──▶ durable ≥ n
//!                                                             └── fails: trouble, and again after a pause
//! ```

use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{Kind, Unsettled, file::File};

/// Pause between two attempts to write to a disk that is full or broken.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A record that is to be written, or is gone.
enum Entry {
    Bytes(Vec<u8>),
    /// Made by the writer, so that whoever notes it does not have to.
    Later(Box<dyn FnOnce() -> Vec<u8> + Send>),
    Gone,
}

type Entries = HashMap<(Kind, Box<str>), Entry>;
/// Records as the file takes them; nothing for those that are gone.
pub(super) type Records = Vec<(Kind, Box<str>, Option<Vec<u8>>)>;

struct Filling {
    entries: Entries,
    number: u64,
    closing: bool,
}

/// How far the writer has come.
struct Progress {
    durable: u64,
    trouble: Option<String>,
    pending: usize,
}

/// Records that become durable together.
pub(crate) struct Batch<'a>(&'a mut Entries);

impl Batch<'_> {
    /// A record, which replaces the one of the same kind and key.
    pub(crate) fn put(&mut self, kind: Kind, key: impl Into<Box<str>>, bytes: Vec<u8>) {
        self.0.insert((kind, key.into()), Entry::Bytes(bytes));
    }

    /// The same with bytes that the writer makes, apart from all locks.
    pub(crate) fn put_later(&mut self, kind: Kind, key: impl Into<Box<str>>, bytes: impl FnOnce() -> Vec<u8> + Send + 'static) {
        self.0.insert((kind, key.into()), Entry::Later(Box::new(bytes)));
    }

    /// There is no such record any more.
    pub(crate) fn remove(&mut self, kind: Kind, key: impl Into<Box<str>>) {
        self.0.insert((kind, key.into()), Entry::Gone);
    }
}

/// What is noted and not durable yet.
pub(super) struct Pending {
    filling: Mutex<Filling>,
    more: Condvar,
    progress: watch::Sender<Progress>,
}

impl Pending {
    pub(super) fn new() -> Self {
        Self {
            filling: Mutex::new(Filling { entries: HashMap::new(), number: 1, closing: false }),
            more: Condvar::new(),
            progress: watch::Sender::new(Progress { durable: 0, trouble: None, pending: 0 }),
        }
    }

    fn filling(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, note: impl FnOnce(&mut Batch<'_>)) {
        let mut filling = self.filling();
        let were_none = filling.entries.is_empty();
        note(&mut Batch(&mut filling.entries));
        if were_none && !filling.entries.is_empty() {
            drop(filling);
            self.more.notify_one();
        }
    }

    pub(super) async fn settled(&self) -> Result<(), Unsettled> {
        let target = {
            let filling = self.filling();
            if filling.entries.is_empty() { filling.number - 1 } else { filling.number }
        };
        self.reached(|progress| progress.durable >= target).await
    }

    pub(super) async fn room(&self, most: usize) -> Result<(), Unsettled> {
        // Trouble counts first: what cannot be written is better not begun.
        if let Some(trouble) = &self.progress.borrow().trouble {
            return Err(Unsettled(trouble.clone()));
        }
        if self.filling().entries.len() <= most {
            return Ok(());
        }
        let number = self.filling().number;
        self.reached(|progress| progress.durable + 1 >= number || progress.pending <= most).await
    }

    async fn reached(&self, mut enough: impl FnMut(&Progress) -> bool) -> Result<(), Unsettled> {
        let mut seen = self.progress.subscribe();
        let seen = seen.wait_for(|progress| enough(progress) || progress.trouble.is_some()).await;
        // The sender lives as long as this.
        let Ok(progress) = seen else { return Ok(()) };
        match &progress.trouble {
            Some(trouble) if !enough(&progress) => Err(Unsettled(trouble.clone())),
            _ => Ok(()),
        }
    }

    /// Lets the writer end once it has written what is there.
    pub(super) fn close(&self) {
        self.filling().closing = true;
        self.more.notify_one();
    }

    /// The writer: commits whatever has come together in the meantime, until it is closed.
    pub(super) fn write_to(&self, file: &Mutex<File>) {
        let ended = Ended(self);
        while let Some((number, entries)) = self.take() {
            let records: Records = entries.into_iter().map(|((kind, key), entry)| (kind, key, entry.bytes())).collect();
            loop {
                let written = file.lock().unwrap_or_else(PoisonError::into_inner).commit(&records);
                let Err(error) = written else { break };
                let trouble = error.to_string();
                let is_new = self.progress.send_if_modified(|progress| {
                    let is_new = progress.trouble.as_ref() != Some(&trouble);
                    progress.trouble = Some(trouble.clone());
                    is_new
                });
                if is_new {
                    tracing::error!("the embedded queue cannot keep its records: {trouble}");
                }
                if self.closed_within(RETRY_PAUSE) {
                    return;
                }
            }
            self.progress.send_modify(|progress| {
                *progress = Progress { durable: number, trouble: None, pending: 0 };
            });
        }
        std::mem::forget(ended);
    }

    /// Waits for a batch; nothing once the ledger is closed and everything is written.
    fn take(&self) -> Option<(u64, Entries)> {
        let filling = self.filling();
        let idle = |filling: &mut Filling| filling.entries.is_empty() && !filling.closing;
        let mut filling = self.more.wait_while(filling, idle).unwrap_or_else(PoisonError::into_inner);
        if filling.entries.is_empty() {
            return None;
        }
        filling.number += 1;
        Some((filling.number - 1, std::mem::take(&mut filling.entries)))
    }

    fn closed_within(&self, pause: Duration) -> bool {
        let filling = self.filling();
        let (filling, _) =
            self.more.wait_timeout_while(filling, pause, |filling| !filling.closing).unwrap_or_else(PoisonError::into_inner);
        filling.closing
    }
}

impl Entry {
    fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Later(make) => Some(make()),
            Self::Gone => None,
        }
    }
}

/// Nobody waits for a writer that is not there any more.
struct Ended<'a>(&'a Pending);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.progress.send_modify(|progress| {
            progress.trouble.get_or_insert_with(|| "the data directory is not written to any more".to_owned());
        });
    }
}
