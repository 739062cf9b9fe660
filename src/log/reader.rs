//! One reader of a spool: its own position, from the first byte to the seal.

use std::{fmt, io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::spool::Spool;

/// The largest piece a reader returns. A stalled reader holds at most this much.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// A reader that keeps up returns at most one small piece in this time, so that a task that prints byte by byte does not pay
/// for a wake-up per byte.
const PACE: Duration = Duration::from_millis(20);

/// Bytes this near to the end were written a moment ago and are in the page cache.
const SURELY_CACHED_BYTES: u64 = 8 << 20;

/// Reads a task log while it grows. Never slows the writer; costs nothing while nobody polls it.
pub struct LogReader {
    spool: Arc<Spool>,
    offset: u64,
    last_piece: Option<Instant>,
}

impl LogReader {
    pub(super) fn new(spool: Arc<Spool>) -> Self {
        Self { spool, offset: 0, last_piece: None }
    }

    /// How many bytes were returned so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the next piece is there and as large as it gets.
    pub(super) fn has_full_piece(&self) -> bool {
        self.spool.len() - self.offset >= PIECE_BYTES as u64
    }

    /// The next piece, of at most 64 KiB; `None` after the last byte of a sealed log. Waits for as long as the task is silent.
    ///
    /// Cancel safe: a piece is either returned or read again by the next call.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        // A log that is all there gives no other reason to let other tasks run.
        tokio::task::coop::consume_budget().await;
        let Some(available) = self.available().await else { return Ok(None) };
        let len = usize::try_from(available).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let piece = if available <= SURELY_CACHED_BYTES {
            read(&self.spool, self.offset, len)?
        } else {
            let (spool, offset) = (Arc::clone(&self.spool), self.offset);
            tokio::task::spawn_blocking(move || read(&spool, offset, len)).await.map_err(io::Error::other)??
        };
        self.offset += piece.len() as u64;
        self.last_piece = Some(Instant::now());
        Ok(Some(piece))
    }

    /// How many bytes wait to be read, more than 0; `None` at the end.
    async fn available(&self) -> Option<u64> {
        loop {
            let rest = self.last_piece.map(|last| last + PACE).filter(|until| *until > Instant::now());
            let enough = if rest.is_some() { PIECE_BYTES as u64 } else { 1 };
            match self.look(enough) {
                Sight::Nothing => {}
                Sight::Bytes(available) => return Some(available),
                Sight::End => return None,
            }
            let mut growth = pin!(self.spool.growth());
            growth.as_mut().enable();
            self.spool.wish(self.offset + enough);
            // It may have come between the look and the wish.
            if !matches!(self.look(enough), Sight::Nothing) {
                continue;
            }
            match rest {
                // Whether it was the growth or the time, the next round looks.
                Some(until) => drop(timeout_at(until, growth).await),
                // Bounded by the life of the log: it is sealed at the end of each run.
                None => growth.await,
            }
        }
    }

    fn look(&self, enough: u64) -> Sight {
        // The order matters: a length that is read after the seal is final.
        let sealed = self.spool.is_sealed();
        match self.spool.len() - self.offset {
            0 if sealed => Sight::End,
            available if sealed || available >= enough => Sight::Bytes(available),
            _ => Sight::Nothing,
        }
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader").field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// What a look at the spool shows.
enum Sight {
    Nothing,
    Bytes(u64),
    End,
}

fn read(spool: &Spool, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; len];
    let filled = spool.read_at(offset, &mut buffer)?;
    buffer.truncate(filled);
    Ok(buffer.into())
}
