//! Content on its way: what the stages are connected by, and the end that is read.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{
    ContentError, Source, digest,
    fetch::{Count, Fetch},
    parcel::{Parcel, silent},
    unpack,
};

/// Batches of at least 128 KB between the download and the digest.
const FETCHED_BATCHES: usize = 4;
/// Batches between the digest and the decompressor.
const HASHED_BATCHES: usize = 4;
/// Pieces of 256 KB between the decompressor and whoever reads.
const UNPACKED_PIECES: usize = 8;

/// Whether content is wanted as it is kept, or unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As it is kept.
    Keep,
    /// Decompressed, if its first bytes say that it is compressed.
    Unpack,
}

/// Content on its way. Dropping it ends all stages.
pub struct Stream {
    from: mpsc::Receiver<Parcel>,
    pieces: VecDeque<Bytes>,
    sha256: Option<[u8; 32]>,
    failed: Option<ContentError>,
    count: Arc<Count>,
    _fetch: AbortOnDropHandle<()>,
}

/// Begins to bring content.
pub fn open(source: Arc<dyn Source>, packing: Packing) -> Stream {
    let count = Arc::new(Count::new());
    let shown: Arc<str> = source.shown().into();
    let (to_digest, from_fetch) = mpsc::channel(FETCHED_BATCHES);
    let (to_unpack, from_digest) = mpsc::channel(HASHED_BATCHES);
    let fetch = tokio::spawn(Fetch::new(source, to_digest, Arc::clone(&count)).run());
    // Both threads end by themselves when the channel before or after them closes. That one of them panicked shows in a
    // channel that closes without a last word.
    let name = Arc::clone(&shown);
    tokio::task::spawn_blocking(move || digest::run(from_fetch, &to_unpack, &name));
    let from = match packing {
        Packing::Keep => from_digest,
        Packing::Unpack => {
            let (to_reader, from_unpack) = mpsc::channel(UNPACKED_PIECES);
            tokio::task::spawn_blocking(move || unpack::run(from_digest, &to_reader, &shown));
            from_unpack
        }
    };
    let _fetch = AbortOnDropHandle::new(fetch);
    Stream { from, pieces: VecDeque::new(), sha256: None, failed: None, count, _fetch }
}

impl Stream {
    /// The next bytes; none after the verified end.
    ///
    /// # Errors
    /// When there will be no more although something is missing. The same error comes again if asked again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Some(piece));
            }
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            if self.sha256.is_some() {
                return Ok(None);
            }
            match self.from.recv().await {
                Some(Parcel::Pieces(pieces)) => self.pieces.extend(pieces),
                Some(Parcel::End(sha256)) => self.sha256 = Some(sha256),
                Some(Parcel::Failed(error)) => self.failed = Some(error),
                None => self.failed = Some(silent()),
            }
        }
    }

    /// SHA-256 of the content as it is kept; known after the end.
    pub fn sha256(&self) -> Option<[u8; 32]> {
        self.sha256
    }

    /// Bytes that came over the network so far and, if known, in all.
    pub fn fetched(&self) -> (u64, Option<u64>) {
        self.count.get()
    }
}
