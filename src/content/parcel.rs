//! What the stages hand to each other, and how a thread reads it.

use std::{
    collections::VecDeque,
    io::{self, BufRead, Read},
};

use aws_lc_rs::digest::Context;
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use super::ContentError;

/// From the download to the digest.
pub(super) enum Input {
    /// Comes first.
    Begin {
        /// Whether the bytes are transported in gzip.
        gzip: bool,
    },
    /// The next bytes.
    Pieces(Vec<Bytes>),
    /// Asks for the digest of all bytes so far, as they were transported.
    Checkpoint(oneshot::Sender<Context>),
    /// That was all.
    End {
        /// The digest that the content must have, if one is known.
        sha256: Option<[u8; 32]>,
    },
    /// There will be no more.
    Failed(ContentError),
}

/// From one thread to the next, and to the reader of the stream.
pub(super) enum Parcel {
    /// The next bytes.
    Pieces(Vec<Bytes>),
    /// That was all; the digest of the content as it was fetched.
    End([u8; 32]),
    /// There will be no more.
    Failed(ContentError),
}

/// Where a thread gets its bytes from.
pub(super) trait Supply {
    /// The next bytes, which are not empty; none at the end. Blocks.
    fn next(&mut self) -> Result<Option<Bytes>, ContentError>;
}

/// A stage before this one ended without a word: whoever wanted the stream has gone, or it panicked.
pub(super) fn silent() -> ContentError {
    ContentError::worker("the stages that bring content ended before their time")
}

/// The end of a channel of parcels.
pub(super) struct Parcels {
    from: mpsc::Receiver<Parcel>,
    pieces: VecDeque<Bytes>,
    sha256: Option<[u8; 32]>,
}

impl Parcels {
    pub(super) fn new(from: mpsc::Receiver<Parcel>) -> Self {
        Self { from, pieces: VecDeque::new(), sha256: None }
    }

    /// The digest of everything; known at the end.
    pub(super) fn sha256(&self) -> Option<[u8; 32]> {
        self.sha256
    }
}

impl Supply for Parcels {
    fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        while self.sha256.is_none() {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Some(piece));
            }
            match self.from.blocking_recv() {
                Some(Parcel::Pieces(pieces)) => self.pieces.extend(pieces),
                Some(Parcel::End(sha256)) => self.sha256 = Some(sha256),
                Some(Parcel::Failed(error)) => return Err(error),
                None => return Err(silent()),
            }
        }
        Ok(None)
    }
}

/// A supply as a reader. It counts, can look ahead, and keeps the error of its supply, which decoders would dress up.
pub(super) struct Reader<S> {
    supply: S,
    current: Bytes,
    ended: bool,
    failure: Option<ContentError>,
    taken: u64,
}

impl<S: Supply> Reader<S> {
    pub(super) fn new(supply: S) -> Self {
        Self { supply, current: Bytes::new(), ended: false, failure: None, taken: 0 }
    }

    /// Why the supply ended early, if it did.
    pub(super) fn failure(&mut self) -> Option<ContentError> {
        self.failure.take()
    }

    /// Bytes that were read.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The supply itself.
    pub(super) fn supply(&self) -> &S {
        &self.supply
    }

    fn pull(&mut self) -> io::Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        match self.supply.next() {
            Ok(Some(piece)) => Ok(Some(piece)),
            Ok(None) => {
                self.ended = true;
                Ok(None)
            }
            Err(error) => {
                self.ended = true;
                self.failure = Some(error);
                Err(io::Error::other("the supply failed"))
            }
        }
    }

    /// The next `count` bytes without reading them; fewer at the end.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.current.len() < count {
            let Some(more) = self.pull()? else { break };
            if self.current.is_empty() {
                self.current = more;
            } else {
                let mut joined = BytesMut::with_capacity(self.current.len() + more.len());
                joined.extend_from_slice(&self.current);
                joined.extend_from_slice(&more);
                self.current = joined.freeze();
            }
        }
        Ok(&self.current[..count.min(self.current.len())])
    }

    /// The next bytes as they came, none at the end.
    pub(super) fn piece(&mut self) -> io::Result<Option<Bytes>> {
        if self.current.is_empty() {
            let piece = self.pull()?;
            self.taken += piece.as_ref().map_or(0, |piece| piece.len() as u64);
            return Ok(piece);
        }
        self.taken += self.current.len() as u64;
        Ok(Some(std::mem::take(&mut self.current)))
    }
}

impl<S: Supply> Read for Reader<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<S: Supply> BufRead for Reader<S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)?;
        Ok(&self.current)
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.current.len());
        self.current.advance(count);
        self.taken += count as u64;
    }
}
