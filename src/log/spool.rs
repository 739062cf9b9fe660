//! The spool: one plain file that only grows until it is sealed, one writer, any number of readers.
//!
//! ```text
//! growing ──seal──▶ sealed        `len` bytes may be read; after the seal `len` is final
//! ```
//!
//! Readers ask to be woken once the spool has reached a certain length. The writer compares its length with the smallest of
//! these wishes: without a waiting reader that is one atomic load per write, and no lock or system call.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{Notify, futures::Notified};

/// No reader waits.
const NOBODY: u64 = u64::MAX;

pub(super) struct Spool {
    pub(super) file: File,
    len: AtomicU64,
    sealed: AtomicBool,
    wake_at: AtomicU64,
    grown: Notify,
}

impl Spool {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            len: AtomicU64::new(0),
            sealed: AtomicBool::new(false),
            wake_at: AtomicU64::new(NOBODY),
            grown: Notify::new(),
        }
    }

    /// How many bytes may be read.
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::SeqCst)
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::SeqCst)
    }

    /// Makes the first `len` bytes readable. Only the writer calls this, with the bytes already in the file.
    pub(super) fn publish(&self, len: u64) {
        self.len.store(len, Ordering::SeqCst);
        // A reader enters its wish and then looks at the length; here it is the other way round. So one of the two sees the other.
        if self.wake_at.load(Ordering::SeqCst) <= len {
            self.wake_at.swap(NOBODY, Ordering::SeqCst);
            self.grown.notify_waiters();
        }
    }

    /// Ends the growth; all readers learn it.
    pub(super) fn seal(&self) {
        self.sealed.store(true, Ordering::SeqCst);
        self.wake_at.swap(NOBODY, Ordering::SeqCst);
        self.grown.notify_waiters();
    }

    /// The next growth or seal. The future has to be enabled before [`Spool::wish`], and the length looked at after both.
    pub(super) fn growth(&self) -> Notified<'_> {
        self.grown.notified()
    }

    /// Asks for a wake-up once `len` bytes can be read.
    pub(super) fn wish(&self, len: u64) {
        self.wake_at.fetch_min(len, Ordering::SeqCst);
    }

    /// Fills as much of the buffer as the published bytes from `offset` allow.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.len().saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        self.file.read_exact_at(&mut buffer[..wanted], offset)?;
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_is_granted_once_its_length_is_there() {
        let spool = Spool::new(tempfile::tempfile().expect("a file"));
        let mut growth = Box::pin(spool.growth());
        growth.as_mut().enable();
        spool.wish(10);
        spool.publish(9);
        assert_eq!(spool.wake_at.load(Ordering::SeqCst), 10, "nobody was woken");
        spool.publish(10);
        assert_eq!(spool.wake_at.load(Ordering::SeqCst), NOBODY);
        growth.await;
    }

    #[tokio::test]
    async fn the_seal_wakes_whoever_waits_for_more() {
        let spool = Spool::new(tempfile::tempfile().expect("a file"));
        let mut growth = Box::pin(spool.growth());
        growth.as_mut().enable();
        spool.wish(1 << 40);
        spool.seal();
        growth.await;
        assert!(spool.is_sealed());
    }
}
