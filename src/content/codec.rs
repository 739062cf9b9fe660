//! Compressed formats: told by their first bytes, decoded one stream at a time within bounds of memory.
//!
//! | format | several streams in one file | memory |
//! |---|---|---|
//! | gzip | yes; zeros may follow | 64 KB |
//! | zstd | yes, and skippable frames | up to the 128 MB of `--long=27` |
//! | lz4 (frames) | yes; zeros may follow | 8 MB |
//! | xz | yes | 96 MB, enough for `xz -9e` |
//! | bzip2 | yes | 4 MB |

use std::io::{self, BufRead, Read};

use bytes::{Bytes, BytesMut};

use super::parcel::{Reader, Supply};

/// As many first bytes tell every format.
pub(super) const MAGIC_BYTES: usize = 6;
/// Decoded bytes that are handed on at once.
const OUT_BYTES: usize = 256 << 10;
/// Windows of zstd are up to 2 to the power of this many bytes: 128 MB.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Memory for xz.
const XZ_BYTES: u64 = 96 << 20;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// In no way that is known here.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// LZ4 frames.
    Lz4,
    /// The .xz format.
    Xz,
    /// The .bz2 format.
    Bzip2,
}

impl Format {
    /// The format of what begins with these bytes.
    pub fn sniff(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            // The second is a frame to be skipped, which some parallel compressors begin with.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            [0xfd, b'7', b'z', b'X', b'Z', 0x00, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            _ => Self::None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// Why decoding ended early.
#[derive(Debug)]
pub(super) enum Broken {
    /// Whoever takes the bytes wants no more of them.
    Unwanted,
    /// The input ended within a stream.
    Truncated,
    /// It is not what it seemed to be.
    Corrupt(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        let text = error.to_string();
        if error.kind() == io::ErrorKind::UnexpectedEof || text == TRUNCATED { Self::Truncated } else { Self::Corrupt(text) }
    }
}

/// Takes decoded bytes; false when it wants no more. The second number is how many bytes of input were read.
pub(super) type Take<'a> = dyn FnMut(Bytes, u64) -> bool + 'a;

/// Decodes all streams of the input.
pub(super) fn decode<S: Supply>(format: Format, input: &mut Reader<S>, take: &mut Take<'_>) -> Result<(), Broken> {
    match format {
        Format::None => {
            while let Some(piece) = input.piece()? {
                let taken = input.taken();
                if !take(piece, taken) {
                    return Err(Broken::Unwanted);
                }
            }
            Ok(())
        }
        Format::Gzip => {
            streams(format, input, |input| copy(flate2::bufread::GzDecoder::new(input), |d| d.get_ref().taken(), take))
        }
        Format::Lz4 => streams(format, input, |input| {
            copy(lz4_flex::frame::FrameDecoder::new(Unending(input)), |d| d.get_ref().0.taken(), take)
        }),
        Format::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            copy(decoder, |d| d.get_ref().taken(), take)
        }
        Format::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_BYTES, liblzma::stream::CONCATENATED);
            let stream = stream.map_err(|error| Broken::Corrupt(error.to_string()))?;
            copy(liblzma::bufread::XzDecoder::new_stream(input, stream), |d| d.get_ref().taken(), take)
        }
        Format::Bzip2 => copy(bzip2::bufread::MultiBzDecoder::new(input), |d| d.get_ref().taken(), take),
    }
}

/// Decodes one stream after the other, up to the end or to zeros that only fill up.
fn streams<S: Supply>(
    format: Format,
    input: &mut Reader<S>,
    mut one: impl FnMut(&mut Reader<S>) -> Result<(), Broken>,
) -> Result<(), Broken> {
    loop {
        one(input)?;
        let next = input.peek(MAGIC_BYTES)?;
        if next.is_empty() {
            return Ok(());
        }
        if Format::sniff(next) == format {
            continue;
        }
        while let Some(piece) = input.piece()? {
            if piece.iter().any(|byte| *byte != 0) {
                return Err(Broken::Corrupt("other bytes follow its end".to_owned()));
            }
        }
        return Ok(());
    }
}

/// Reads a decoder to its end.
fn copy<D: Read>(mut decoder: D, taken: impl Fn(&D) -> u64, take: &mut Take<'_>) -> Result<(), Broken> {
    loop {
        let mut buffer = BytesMut::zeroed(OUT_BYTES);
        let mut filled = 0;
        let mut ended = false;
        while filled < OUT_BYTES && !ended {
            match decoder.read(&mut buffer[filled..]) {
                Ok(0) => ended = true,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        buffer.truncate(filled);
        if filled > 0 && !take(buffer.freeze(), taken(&decoder)) {
            return Err(Broken::Unwanted);
        }
        if ended {
            return Ok(());
        }
    }
}

/// A reader within a stream, where an end is an error: the decoder of lz4 takes one between two blocks for the end of it.
struct Unending<R>(R);

impl<R: BufRead> Read for Unending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => Err(io::Error::other(TRUNCATED)),
            count => Ok(count),
        }
    }
}

/// What [`Unending`] says at an end.
const TRUNCATED: &str = "the input ended";
