//! The thread that decompresses, and how much it may give.

use tokio::sync::mpsc;

use super::{
    ContentError,
    codec::{Broken, Format, MAGIC_BYTES, decode},
    parcel::{Parcel, Parcels, Reader, silent},
};

/// No content is larger than this, decompressed.
const LARGEST_BYTES: u64 = 64 << 30;
/// What gives more than this many bytes for one is a bomb. Images hold at most a few files full of zeros.
const LARGEST_RATIO: u64 = 1000;
/// Less than this is never one: it does no harm.
const HARMLESS_BYTES: u64 = 1 << 30;

/// How much decoding has given.
#[derive(Debug, Default)]
pub(super) struct Limit {
    given: u64,
}

impl Limit {
    /// Counts `more` bytes that were made of the first `taken` bytes of the input; says why if that is too much.
    pub(super) fn exceeded(&mut self, more: usize, taken: u64) -> Option<String> {
        self.given += more as u64;
        if self.given > LARGEST_BYTES {
            return Some("it is larger than 64 GiB when it is decompressed".to_owned());
        }
        if self.given > HARMLESS_BYTES && self.given / LARGEST_RATIO > taken {
            return Some(format!("{taken} bytes of it decompress to more than {LARGEST_RATIO} times as many"));
        }
        None
    }
}

/// Runs until everything was handed on, or nobody takes it.
pub(super) fn run(from: mpsc::Receiver<Parcel>, to: &mpsc::Sender<Parcel>, shown: &str) {
    let last = match unpack(from, to, shown) {
        Ok(Some(sha256)) => Parcel::End(sha256),
        Ok(None) => return,
        Err(error) => Parcel::Failed(error),
    };
    // Nobody is there to hear it if that fails.
    drop(to.blocking_send(last));
}

/// Nothing if nobody takes the bytes any more.
fn unpack(from: mpsc::Receiver<Parcel>, to: &mpsc::Sender<Parcel>, shown: &str) -> Result<Option<[u8; 32]>, ContentError> {
    let mut reader = Reader::new(Parcels::new(from));
    let format = reader.peek(MAGIC_BYTES).map_or(Format::None, Format::sniff);
    let mut limit = Limit::default();
    let mut beyond = None;
    let decoded = decode(format, &mut reader, &mut |bytes, taken| {
        beyond = limit.exceeded(bytes.len(), taken);
        beyond.is_none() && to.blocking_send(Parcel::Pieces(vec![bytes])).is_ok()
    });
    // Also takes the last word of the stage before, which decoders need not wait for.
    let left = decoded.is_ok() && reader.peek(1).is_ok_and(|left| !left.is_empty());
    // What went wrong before this stage caused what went wrong in it.
    if let Some(failure) = reader.failure() {
        return Err(failure);
    }
    if let Some(why) = beyond {
        return Err(ContentError::task(format!("{shown}: {why}")));
    }
    match decoded {
        Ok(()) if left => Err(ContentError::task(format!("{shown}: other bytes follow the end of its {} data", format.name()))),
        Ok(()) => reader.supply().sha256().map(Some).ok_or_else(silent),
        Err(Broken::Unwanted) => Ok(None),
        Err(Broken::Truncated) => Err(ContentError::task(format!("{shown}: its {} data is truncated", format.name()))),
        Err(Broken::Corrupt(why)) => Err(ContentError::task(format!("{shown}: its {} data is corrupt: {why}", format.name()))),
    }
}
