//! Reading a file several times, and noticing when it is not the same file any more.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::body::Progress;

/// How much is read at a time.
const PIECE: usize = 128 << 10;

/// A SHA-256.
pub type Digest = [u8; 32];

/// A file that is read several times, and whose attempts have to agree.
#[derive(Debug)]
pub(super) struct Rereadable {
    file: File,
    bytes: u64,
    stamp: Option<Stamp>,
    /// How far earlier attempts have read, and the digest of the file up to there. Whoever reads holds it, so a reader begins
    /// only when the one before it has ended.
    read: Mutex<Vec<(u64, Digest)>>,
}

/// What changes with a file's content.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) struct Stamp {
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(super) fn of(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        Some(Self { bytes: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) })
    }
}

impl Rereadable {
    /// A file that is said to have this many bytes.
    pub(super) fn new(file: File, bytes: u64) -> Self {
        let stamp = Stamp::of(&file);
        Self { file, bytes, stamp, read: Mutex::default() }
    }

    /// Reads the file piece by piece into a channel, and compares it with what was read of it before. Blocks.
    pub(super) fn read(&self, sender: &mpsc::Sender<io::Result<Bytes>>, progress: &Progress) {
        let mut earlier = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut digest = Context::new(&SHA256);
        let mut at = 0;
        let ended = loop {
            if let Err(error) = self.agree(&earlier, at, &digest) {
                break Err(error);
            }
            if at == self.bytes {
                break Ok(());
            }
            // A piece ends where an earlier attempt ended, so that the two can be compared there.
            let stop = earlier.iter().map(|(end, _)| *end).filter(|end| *end > at).min().unwrap_or(self.bytes);
            let mut piece = vec![0; PIECE.min(usize::try_from(stop - at).unwrap_or(PIECE))];
            match self.file.read_at(&mut piece, at) {
                Ok(0) => break Err(shrank(at, self.bytes)),
                Err(error) => break Err(error),
                Ok(got) => piece.truncate(got),
            }
            digest.update(&piece);
            at += piece.len() as u64;
            // The last piece goes out only when the whole file is found to be what it was, so a bad one is never complete.
            if at == self.bytes {
                if let Err(error) = self.agree(&earlier, at, &digest) {
                    break Err(error);
                }
                // Set before the last piece is taken, so that it is known when the answer comes.
                let _ = progress.digest.set(sha256(digest.clone()));
            }
            if sender.blocking_send(Ok(piece.into())).is_err() {
                break Ok(());
            }
        };
        if let Err(error) = ended {
            let _ = progress.broken.set(error.to_string());
            // Nobody may listen any more.
            let _ = sender.blocking_send(Err(error));
            return;
        }
        earlier.push((at, sha256(digest)));
    }

    /// Whether the file up to here is what earlier attempts read, and at its end, whether it is as it was opened.
    fn agree(&self, earlier: &[(u64, Digest)], at: u64, digest: &Context) -> io::Result<()> {
        let mut here = earlier.iter().filter(|(end, _)| *end == at).peekable();
        if here.peek().is_some() {
            let now = sha256(digest.clone());
            if here.any(|(_, before)| *before != now) {
                return Err(io::Error::other("its bytes changed between two attempts"));
            }
        }
        if at == self.bytes { unchanged(&self.file, self.bytes, self.stamp) } else { Ok(()) }
    }
}

pub(super) fn shrank(at: u64, bytes: u64) -> io::Error {
    io::Error::other(format!("it shrank while it was read: {at} of {bytes} bytes are there"))
}

/// Whether a file still has the size and date that it had.
pub(super) fn unchanged(file: &File, bytes: u64, before: Option<Stamp>) -> io::Result<()> {
    let now = Stamp::of(file);
    match now {
        Some(now) if now.bytes > bytes => Err(io::Error::other("it grew while it was read")),
        Some(now) if now.bytes < bytes => Err(shrank(now.bytes, bytes)),
        _ if now != before => Err(io::Error::other("it was written to while it was read")),
        _ => Ok(()),
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
