//! The spool: one plain file that only grows until it is sealed, one writer, any number of readers.
//!
//! ```text
//! growing ──disk full──▶ growing in memory ──seal──▶ sealed        `len` bytes may be read; after the seal `len` is final
//!    └──────────────────────seal───────────────────────▲
//! ```
//!
//! When the disk takes no more, the file stays as it is, and what follows (only lines of the worker, so it is little) is kept in
//! memory. So the lines that say what happened need no room on the disk.
//!
//! Readers ask to be woken once the spool has reached a certain length. The writer compares its length with the smallest of
//! these wishes: without a waiting reader that is one atomic load per write, and no lock or system call.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, futures::Notified};

/// No reader waits.
const NOBODY: u64 = u64::MAX;

pub(super) struct Spool {
    pub(super) file: File,
    /// The first byte that is in memory, if there is one.
    appendix_at: AtomicU64,
    appendix: Mutex<Vec<u8>>,
    len: AtomicU64,
    sealed: AtomicBool,
    wake_at: AtomicU64,
    grown: Notify,
}

impl Spool {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            appendix_at: AtomicU64::new(u64::MAX),
            appendix: Mutex::new(Vec::new()),
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

    /// Adds to the part in memory, which begins where the file ends now. Not for readers before it is published.
    pub(super) fn append_in_memory(&self, bytes: &[u8]) {
        self.appendix.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        self.appendix_at.fetch_min(self.len(), Ordering::SeqCst);
    }

    /// Writes the part in memory to the file after all, for those who keep the file. Nobody here reads it from there.
    pub(super) fn store_appendix(&self) -> io::Result<()> {
        match self.appendix_at.load(Ordering::SeqCst) {
            u64::MAX => Ok(()),
            at => self.file.write_all_at(&self.appendix.lock().unwrap_or_else(PoisonError::into_inner), at),
        }
    }

    /// Reads some of the published bytes from `offset`; none only at the end.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.len();
        let appendix_at = self.appendix_at.load(Ordering::SeqCst);
        let in_file = offset < appendix_at;
        let left = if in_file { len.min(appendix_at) } else { len }.saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..wanted];
        if in_file {
            self.file.read_exact_at(buffer, offset)?;
        } else {
            let appendix = self.appendix.lock().unwrap_or_else(PoisonError::into_inner);
            // The appendix fits into memory.
            let begin = usize::try_from(offset - appendix_at).unwrap_or(usize::MAX);
            let Some(part) = begin.checked_add(wanted).and_then(|end| appendix.get(begin..end)) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            buffer.copy_from_slice(part);
        }
        Ok(wanted)
    }

    /// Fills the whole buffer from `offset`.
    pub(super) fn read_exact_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(offset, buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    offset += n as u64;
                    buffer = &mut buffer[n..];
                }
            }
        }
        Ok(())
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
