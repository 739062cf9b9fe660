//! One block of a spool, deflated by itself.

use std::io;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::spool::Spool;

/// Plain bytes of one block. Larger ones compress hardly better, smaller ones visibly worse.
pub(super) const BLOCK_BYTES: u64 = 1 << 20;

/// How far back deflate can refer.
const WINDOW_BYTES: u64 = 32 << 10;

/// With this level of zlib-rs, logs are at most 1.02 × the size that `gzip -6` makes of them.
const LEVEL: u32 = 6;

/// Makes one block after the other.
pub(super) struct BlockMaker {
    deflate: Compress,
    plain: Vec<u8>,
    deflated: Vec<u8>,
    crc: Crc,
}

impl BlockMaker {
    pub(super) fn new() -> Self {
        Self {
            deflate: Compress::new(Compression::new(LEVEL), false),
            plain: Vec::new(),
            deflated: Vec::new(),
            crc: Crc::new(),
        }
    }

    /// The last block made: raw deflate that ends at a byte boundary, or ends the stream if it was the last one.
    pub(super) fn deflated(&self) -> &[u8] {
        &self.deflated
    }

    /// The checksum of that block's plain bytes.
    pub(super) fn crc(&self) -> &Crc {
        &self.crc
    }

    /// Makes the block with this index, of `len` plain bytes.
    pub(super) fn make(&mut self, spool: &Spool, index: u64, len: u64, last: bool) -> io::Result<()> {
        let begin = index * BLOCK_BYTES;
        let window = begin.min(WINDOW_BYTES);
        // Both are at most a block.
        let (window, len) = (usize::try_from(window).unwrap_or(0), usize::try_from(len).unwrap_or(0));
        self.plain.resize(window + len, 0);
        spool.read_exact_at(begin - window as u64, &mut self.plain)?;
        let (dictionary, block) = self.plain.split_at(window);

        self.crc.reset();
        self.crc.update(block);
        self.deflate.reset();
        if !dictionary.is_empty() {
            self.deflate.set_dictionary(dictionary).map_err(io::Error::other)?;
        }
        self.deflated.clear();
        self.deflated.reserve(len / 4 + 64);
        let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
        loop {
            // The compressor was reset, so it counts within this block.
            let taken = usize::try_from(self.deflate.total_in()).unwrap_or(len).min(len);
            let status = self.deflate.compress_vec(&block[taken..], &mut self.deflated, flush).map_err(io::Error::other)?;
            // Room that is left over after a flush means that the flush is complete.
            let flushed = self.deflate.total_in() == len as u64 && self.deflated.len() < self.deflated.capacity();
            if status == Status::StreamEnd || (!last && flushed) {
                return Ok(());
            }
            self.deflated.reserve(len / 8 + 64);
        }
    }
}
