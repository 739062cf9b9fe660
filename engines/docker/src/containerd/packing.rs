//! The file of a layer: what is read of it without compression.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::fd::OwnedFd,
};

use aws_lc_rs::digest::{Context, SHA256};
use flate2::bufread::MultiGzDecoder;

use super::{
    digests::named,
    feed::{finish, read_buffered},
    header::{self, BLOCK},
    layer::{self, LayerError, Limits, Unpacked},
    tar::{Entries, TarError},
};
use crate::packing::{Packing, ZSTD_WINDOW_LOG};

/// What is read of a compressed layer at once.
const DECODED_BYTES: usize = 128 * 1024;
/// How the file of a layer is compressed, by its first bytes, a whole block where it has one; `None` if it is no layer.
pub(super) fn of_layer(start: &[u8]) -> Option<Packing> {
    let is_archive = start.first_chunk::<BLOCK>().is_some_and(|block| header::is_zero(block) || header::parse(block).is_some());
    let packing = Packing::of(start);
    (is_archive || packing != Packing::Plain).then_some(if is_archive { Packing::Plain } else { packing })
}

/// Unpacks a layer from its file. Returns the digest of what it is without compression, which is no news of a file without
/// compression. What follows the end of such a file's archive is not read.
pub(super) fn unpack<R: BufRead>(
    packing: Packing,
    file: R,
    root: OwnedFd,
    limits: &mut Limits,
) -> Result<(Unpacked, Option<String>), LayerError> {
    match packing {
        Packing::Plain => Ok((layer::unpack(&mut Entries::new(file), root, limits)?, None)),
        Packing::Gzip => decoded(MultiGzDecoder::new(file), root, limits),
        Packing::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(file).map_err(TarError::from)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(TarError::from)?;
            decoded(decoder, root, limits)
        }
    }
}

fn decoded(input: impl Read, root: OwnedFd, limits: &mut Limits) -> Result<(Unpacked, Option<String>), LayerError> {
    let mut entries = Entries::new(Digesting::new(BufReader::with_capacity(DECODED_BYTES, input)));
    let unpacked = layer::unpack(&mut entries, root, limits)?;
    drain(entries.input(), limits)?;
    let context = std::mem::replace(&mut entries.input().context, Context::new(&SHA256));
    Ok((unpacked, Some(named(finish(context)))))
}

/// Unpacks a layer's file once more, whose digest is known to be `blob`. `diff` is what it has to be without compression.
pub(super) fn unpack_again(
    file: File,
    (blob, diff): (&str, &str),
    root: OwnedFd,
    limits: &mut Limits,
) -> Result<Unpacked, LayerError> {
    let mut file = BufReader::with_capacity(DECODED_BYTES, file);
    let start = file.fill_buf().map_err(TarError::from)?;
    let packing = of_layer(start).ok_or(TarError::Damaged("a layer's file is none"))?;
    let (unpacked, found) = unpack(packing, file, root, limits)?;
    if found.as_deref().unwrap_or(blob) == diff {
        Ok(unpacked)
    } else {
        Err(TarError::Damaged("a layer's file is another one").into())
    }
}

/// Reads what follows the end of a compressed layer's archive.
fn drain(input: &mut impl BufRead, limits: &mut Limits) -> Result<(), LayerError> {
    loop {
        let amount = input.fill_buf().map_err(TarError::from)?.len();
        if amount == 0 {
            return Ok(());
        }
        limits.bytes = limits.bytes.checked_sub(amount as u64).ok_or(LayerError::TooLarge("the image is too large"))?;
        input.consume(amount);
    }
}

/// Digests what is read from another reader.
struct Digesting<R> {
    input: R,
    context: Context,
}

impl<R> Digesting<R> {
    fn new(input: R) -> Self {
        Self { input, context: Context::new(&SHA256) }
    }
}

impl<R: BufRead> BufRead for Digesting<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What is consumed was seen before, so asking again costs nothing and does not fail.
        if let Ok(available) = self.input.fill_buf() {
            self.context.update(&available[..amount.min(available.len())]);
        }
        self.input.consume(amount);
    }
}

impl<R: BufRead> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}
