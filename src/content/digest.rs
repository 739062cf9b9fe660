//! The thread between the network and the decompressor: the digest, and the encoding of the transport.

use std::collections::VecDeque;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    ContentError,
    codec::{Broken, Format, decode},
    parcel::{Input, Parcel, Reader, Supply, silent},
    unpack::Limit,
};

/// Pieces that are handed on at once, at most.
const BATCH_PIECES: usize = 64;
/// And bytes.
const BATCH_BYTES: usize = 128 << 10;

/// What comes from the download, hashed as it is taken.
struct Intake {
    from: mpsc::Receiver<Input>,
    raw: Context,
    pieces: VecDeque<Bytes>,
    ended: bool,
    expected: Option<[u8; 32]>,
}

impl Intake {
    /// Whether the transport has an encoding. Waits for the first answer.
    fn begin(&mut self) -> Result<bool, ContentError> {
        match self.from.blocking_recv() {
            Some(Input::Begin { gzip }) => Ok(gzip),
            Some(Input::Failed(error)) => Err(error),
            _ => Err(silent()),
        }
    }
}

impl Supply for Intake {
    fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                self.raw.update(&piece);
                return Ok(Some(piece));
            }
            if self.ended {
                return Ok(None);
            }
            match self.from.blocking_recv() {
                Some(Input::Pieces(pieces)) => self.pieces.extend(pieces),
                // All that came before it has been taken, and so hashed. Nobody asks who is not there any more.
                Some(Input::Checkpoint(answer)) => drop(answer.send(self.raw.clone())),
                Some(Input::End { sha256 }) => (self.ended, self.expected) = (true, sha256),
                Some(Input::Failed(error)) => return Err(error),
                Some(Input::Begin { .. }) | None => return Err(silent()),
            }
        }
    }
}

/// Runs until everything was handed on, or nobody takes it.
pub(super) fn run(from: mpsc::Receiver<Input>, to: &mpsc::Sender<Parcel>, shown: &str) {
    let last = match digest(from, to, shown) {
        Ok(Some(sha256)) => Parcel::End(sha256),
        Ok(None) => return,
        Err(error) => Parcel::Failed(error),
    };
    // Nobody is there to hear it if that fails.
    drop(to.blocking_send(last));
}

/// Nothing if nobody takes the bytes any more.
fn digest(from: mpsc::Receiver<Input>, to: &mpsc::Sender<Parcel>, shown: &str) -> Result<Option<[u8; 32]>, ContentError> {
    let mut intake = Intake { from, raw: Context::new(&SHA256), pieces: VecDeque::new(), ended: false, expected: None };
    let (context, expected) = if intake.begin()? {
        let mut plain = Context::new(&SHA256);
        let mut reader = Reader::new(intake);
        let mut limit = Limit::default();
        let mut beyond = None;
        let decoded = decode(Format::Gzip, &mut reader, &mut |bytes, taken| {
            plain.update(&bytes);
            beyond = limit.exceeded(bytes.len(), taken);
            beyond.is_none() && to.blocking_send(Parcel::Pieces(vec![bytes])).is_ok()
        });
        if let Some(failure) = reader.failure() {
            return Err(failure);
        }
        if let Some(why) = beyond {
            return Err(ContentError::task(format!("{shown}: {why}")));
        }
        match decoded {
            Ok(()) => {}
            Err(Broken::Unwanted) => return Ok(None),
            Err(Broken::Truncated) => return Err(ContentError::task(format!("{shown}: its gzip encoding is truncated"))),
            Err(Broken::Corrupt(why)) => {
                return Err(ContentError::task(format!("{shown}: its gzip encoding is corrupt: {why}")));
            }
        }
        (plain, reader.supply().expected)
    } else {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(piece) = intake.next()? {
            bytes += piece.len();
            batch.push(piece);
            if (bytes >= BATCH_BYTES || batch.len() >= BATCH_PIECES || intake.pieces.is_empty())
                && to.blocking_send(Parcel::Pieces(std::mem::take(&mut batch))).is_err()
            {
                return Ok(None);
            }
            if batch.is_empty() {
                bytes = 0;
            }
        }
        (intake.raw, intake.expected)
    };
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(context.finish().as_ref());
    if expected.is_some_and(|expected| expected != sha256) {
        return Err(ContentError::task(format!("{shown}: it does not have the SHA-256 that the object service has for it")));
    }
    Ok(Some(sha256))
}
