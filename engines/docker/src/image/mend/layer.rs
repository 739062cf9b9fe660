//! One layer that passes by: decompressed, read header by header, with other headers for some of its links.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    io::{self, Write},
};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use super::{
    Mended,
    head::{Link, nothing, relinked},
};
use crate::{
    image::{
        documents::hex,
        tar::{BLOCK_BYTES, END, Kind, Member, Piece, Scanner, TarError, clean},
    },
    packing::{Packing, ZSTD_WINDOW_LOG},
};

/// Most files of one layer. What each is called is remembered in eight bytes.
const MOST_FILES: usize = 4_000_000;

/// Takes what comes out, and says whether to go on.
pub type Out<'a> = &'a mut dyn FnMut(Bytes) -> bool;

/// Why a layer cannot be mended.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error("a layer: {0}")]
    Tar(#[from] TarError),
    #[error("a layer cannot be decompressed: {0}")]
    Packing(io::Error),
    #[error("a layer has more than {MOST_FILES} files")]
    Files,
}

/// What a layer was and has become.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    /// Digest of what it unpacked to.
    pub before: String,
    /// And to what it unpacks now.
    pub after: String,
    /// Size of either.
    pub bytes: u64,
    pub mended: Mended,
}

/// A layer on its way. What comes out of it is as large as what it is without compression.
pub struct Passing {
    decoder: Decoder,
    scanner: Scanner,
    ended: bool,
    /// Digest of what goes in, without compression.
    before: Context,
    /// And of what comes out.
    after: Context,
    files: HashSet<u64>,
    hasher: RandomState,
    in_bytes: u64,
    out_bytes: u64,
    /// Nobody wants the rest.
    stopped: bool,
    mended: Mended,
}

enum Decoder {
    Plain,
    Gzip(Box<flate2::write::MultiGzDecoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Vec<u8>>>),
}

impl Passing {
    pub fn new(packing: Packing) -> Result<Self, LayerError> {
        let decoder = match packing {
            Packing::Plain => Decoder::Plain,
            Packing::Gzip => Decoder::Gzip(Box::new(flate2::write::MultiGzDecoder::new(Vec::new()))),
            Packing::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).map_err(LayerError::Packing)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(LayerError::Packing)?;
                Decoder::Zstd(Box::new(decoder))
            }
        };
        Ok(Self {
            decoder,
            scanner: Scanner::default(),
            ended: false,
            before: Context::new(&SHA256),
            after: Context::new(&SHA256),
            stopped: false,
            files: HashSet::new(),
            hasher: RandomState::new(),
            in_bytes: 0,
            out_bytes: 0,
            mended: Mended::default(),
        })
    }

    /// How much has come out of it so far.
    pub fn out_bytes(&self) -> u64 {
        self.out_bytes
    }

    /// Takes more of its file. Each call of `out` gets a bounded part of what comes out of it, and says whether to go on.
    pub fn take(&mut self, part: &Bytes, out: Out<'_>) -> Result<(), LayerError> {
        let mut left = &part[..];
        let mut decoder = std::mem::replace(&mut self.decoder, Decoder::Plain);
        let mut taken = Ok(());
        while !left.is_empty() && taken.is_ok() && !self.stopped {
            let step = match &mut decoder {
                Decoder::Plain => Ok((left.len(), part.slice_ref(left))),
                // Both give what they have to the vector before they take more, so that it never holds much.
                Decoder::Gzip(gzip) => gzip.write(left).map(|used| (used, std::mem::take(gzip.get_mut()).into())),
                Decoder::Zstd(zstd) => zstd.write(left).map(|used| (used, std::mem::take(zstd.get_mut()).into())),
            };
            taken = step.map_err(LayerError::Packing).and_then(|(used, decoded)| {
                left = &left[used..];
                if used == 0 && decoded.is_empty() {
                    return Err(LayerError::Packing(io::Error::other("something follows its end")));
                }
                self.read(decoded, out)
            });
        }
        self.decoder = decoder;
        taken
    }

    /// Says that its file is complete.
    pub fn finish(mut self, out: Out<'_>) -> Result<Done, LayerError> {
        let rest = match std::mem::replace(&mut self.decoder, Decoder::Plain) {
            Decoder::Plain => Vec::new(),
            Decoder::Gzip(mut gzip) => {
                gzip.try_finish().map_err(LayerError::Packing)?;
                std::mem::take(gzip.get_mut())
            }
            Decoder::Zstd(mut zstd) => {
                zstd.flush().map_err(LayerError::Packing)?;
                std::mem::take(zstd.get_mut())
            }
        };
        self.read(rest.into(), out)?;
        self.scanner.finish()?;
        if self.in_bytes == self.out_bytes + BLOCK_BYTES as u64 {
            // One block of zeros instead of two.
            self.emit(Bytes::from_static(&END[..BLOCK_BYTES]), out);
        }
        let name = |context: Context| format!("sha256:{}", hex(context.finish().as_ref()));
        Ok(Done { before: name(self.before), after: name(self.after), bytes: self.out_bytes, mended: self.mended })
    }

    fn read(&mut self, mut decoded: Bytes, out: Out<'_>) -> Result<(), LayerError> {
        if decoded.is_empty() {
            return Ok(());
        }
        self.in_bytes += decoded.len() as u64;
        self.before.update(&decoded);
        if self.ended {
            // What follows the end of an archive is a part of the layer all the same.
            self.emit(decoded, out);
            return Ok(());
        }
        while let Some(piece) = self.scanner.next(&mut decoded)? {
            match piece {
                Piece::Member(member) => {
                    let head = self.head(member)?;
                    self.emit(head, out);
                }
                Piece::Content(bytes) | Piece::Padding(bytes) => self.emit(bytes, out),
                Piece::End => {
                    self.ended = true;
                    self.emit(Bytes::from_static(&END), out);
                    self.emit(std::mem::take(&mut decoded), out);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn emit(&mut self, bytes: Bytes, out: Out<'_>) {
        self.out_bytes += bytes.len() as u64;
        self.after.update(&bytes);
        self.stopped |= !out(bytes);
    }

    /// The header blocks for a member.
    fn head(&mut self, member: Member) -> Result<Bytes, LayerError> {
        let path = |name: &str| clean(name).trim_start_matches('/').to_owned();
        let name = path(&member.name);
        if member.kind == Kind::Directory {
            return Ok(member.head);
        }
        let here = member.kind == Kind::Link && self.files.contains(&self.hasher.hash_one(path(&member.target)));
        self.files.insert(self.hasher.hash_one(&name));
        if self.files.len() > MOST_FILES {
            return Err(LayerError::Files);
        }
        if member.kind != Kind::Link || here && !member.target.starts_with('/') {
            return Ok(member.head);
        }
        let link = if here { Link::Relative } else { Link::Symbolic };
        let new = relinked(&member.head, link);
        match (&new, link) {
            (Some(_), Link::Relative) => self.mended.relative += 1,
            (Some(_), Link::Symbolic) => self.mended.symbolic += 1,
            (None, _) => self.mended.left_out += 1,
        }
        if new.is_none() || link == Link::Symbolic {
            self.mended.example.get_or_insert_with(|| (name, path(&member.target)));
        }
        Ok(new.or_else(|| nothing(&member.head)).map_or(member.head, Bytes::from))
    }
}
