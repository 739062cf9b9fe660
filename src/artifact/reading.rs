//! Reading the same bytes several times, and noticing when they are not the same any more.

use std::{fs::File, io, os::unix::fs::FileExt as _, os::unix::fs::MetadataExt as _, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use tc_engine::{Pieces, ReadError};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use super::body::Progress;

/// How much of a file is read at a time.
const PIECE: usize = 128 << 10;

/// A SHA-256.
pub type Digest = [u8; 32];

/// How far attempts have read, and the digest of the bytes up to there.
type Marks = Vec<(u64, Digest)>;

/// What earlier attempts at some bytes have seen.
#[derive(Debug, Default)]
pub(super) struct History {
    marks: Arc<Mutex<Marks>>,
}

impl History {
    /// Begins another attempt at `bytes` bytes, as soon as the one before it has ended.
    pub(super) async fn begin(&self, bytes: u64) -> Reading {
        let earlier = Arc::clone(&self.marks).lock_owned().await;
        Reading { earlier, digest: Context::new(&SHA256), at: 0, bytes }
    }
}

/// One attempt. However it ends, the next one knows how far it came.
pub(super) struct Reading {
    earlier: OwnedMutexGuard<Marks>,
    digest: Context,
    at: u64,
    bytes: u64,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mark = (self.at, sha256(self.digest.clone()));
        self.earlier.push(mark);
    }
}

impl Reading {
    /// Where the next piece has to end at the latest: where an earlier attempt ended, so that the two can be compared there.
    fn stop(&self) -> u64 {
        self.earlier.iter().map(|(end, _)| *end).filter(|end| *end > self.at).min().unwrap_or(self.bytes)
    }

    fn is_complete(&self) -> bool {
        self.at == self.bytes
    }

    fn take(&mut self, piece: &[u8]) {
        self.digest.update(piece);
        self.at += piece.len() as u64;
    }

    /// Whether the bytes up to here are what earlier attempts read.
    fn agree(&self) -> Result<(), ReadError> {
        let mut here = self.earlier.iter().filter(|(end, _)| *end == self.at).peekable();
        if here.peek().is_some() {
            let now = sha256(self.digest.clone());
            if here.any(|(_, before)| *before != now) {
                return Err(ReadError::Broken("its bytes changed between two attempts".to_owned()));
            }
        }
        Ok(())
    }

    /// Reads a file piece by piece into a channel. Blocks.
    pub(super) fn file(mut self, source: &Unchanging, sender: &mpsc::Sender<io::Result<Bytes>>, progress: &Progress) {
        let ended = loop {
            if self.is_complete() {
                // Only of an empty file; the others are looked at before their last piece.
                break self.agree().and_then(|()| source.verify(self.bytes));
            }
            let left = usize::try_from(self.stop() - self.at).unwrap_or(PIECE);
            let mut piece = vec![0; PIECE.min(left)];
            match source.file.read_at(&mut piece, self.at) {
                Ok(0) => break Err(shrank(self.at, self.bytes)),
                Err(error) => break Err(ReadError::Broken(error.to_string())),
                Ok(got) => piece.truncate(got),
            }
            self.take(&piece);
            // The last piece goes out only when the whole file is found to be what it was, so a bad one is never complete.
            let fine = self.agree().and_then(|()| if self.is_complete() { source.verify(self.bytes) } else { Ok(()) });
            if let Err(error) = fine {
                break Err(error);
            }
            if self.is_complete() {
                // Set before the last piece is taken, so that it is known when the answer comes.
                let _ = progress.digest.set(sha256(self.digest.clone()));
            }
            if sender.blocking_send(Ok(piece.into())).is_err() || self.is_complete() {
                break Ok(());
            }
        };
        if let Err(error) = ended {
            // Nobody may listen any more.
            let _ = sender.blocking_send(Err(progress.fail(error)));
        }
    }

    /// Passes a stream on piece by piece into a channel.
    pub(super) async fn stream(
        mut self,
        mut source: Box<dyn Pieces>,
        sender: mpsc::Sender<io::Result<Bytes>>,
        progress: Arc<Progress>,
    ) {
        if let Err(error) = self.pass(&mut *source, &sender, &progress).await {
            let error = progress.fail(error);
            // The next attempt need not wait until this one is looked at.
            drop((self, source));
            let _ = sender.send(Err(error)).await;
        }
    }

    async fn pass(
        &mut self,
        source: &mut dyn Pieces,
        sender: &mpsc::Sender<io::Result<Bytes>>,
        progress: &Progress,
    ) -> Result<(), ReadError> {
        while !self.is_complete() {
            let Some(mut rest) = source.next().await? else { return Err(shrank(self.at, self.bytes)) };
            while !rest.is_empty() {
                let length = usize::try_from(self.stop() - self.at).map_or(rest.len(), |left| left.min(rest.len()));
                let piece = rest.split_to(length);
                self.take(&piece);
                self.agree()?;
                if self.is_complete() {
                    if !rest.is_empty() {
                        return Err(grew());
                    }
                    ended(source).await?;
                    let _ = progress.digest.set(sha256(self.digest.clone()));
                }
                if sender.send(Ok(piece)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// A file of this machine, as it was when it was opened.
#[derive(Debug)]
pub(super) struct Unchanging {
    pub(super) file: File,
    stamp: Option<Stamp>,
}

/// What changes with a file's content.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Stamp {
    bytes: u64,
    modified: (i64, i64),
}

impl Unchanging {
    pub(super) fn new(file: File) -> Self {
        let stamp = stamp(&file);
        Self { file, stamp }
    }

    /// Whether the file still has this size and the date that it had.
    pub(super) fn verify(&self, bytes: u64) -> Result<(), ReadError> {
        match stamp(&self.file) {
            Some(now) if now.bytes > bytes => Err(grew()),
            Some(now) if now.bytes < bytes => Err(shrank(now.bytes, bytes)),
            now if now != self.stamp => Err(ReadError::Broken("it was written to while it was read".to_owned())),
            _ => Ok(()),
        }
    }
}

fn stamp(file: &File) -> Option<Stamp> {
    let metadata = file.metadata().ok()?;
    Some(Stamp { bytes: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) })
}

pub(super) fn shrank(at: u64, bytes: u64) -> ReadError {
    ReadError::Broken(format!("it shrank while it was read: {at} of {bytes} bytes are there"))
}

pub(super) fn grew() -> ReadError {
    ReadError::Broken("it grew while it was read".to_owned())
}

/// Nothing may come after the last byte.
pub(super) async fn ended(source: &mut dyn Pieces) -> Result<(), ReadError> {
    match source.next().await? {
        Some(_) => Err(grew()),
        None => Ok(()),
    }
}

pub(super) fn sha256(context: Context) -> Digest {
    let mut sum = [0; 32];
    sum.copy_from_slice(context.finish().as_ref());
    sum
}

/// The digest of these bytes.
pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    let mut digest = Context::new(&SHA256);
    digest.update(bytes);
    sha256(digest)
}
