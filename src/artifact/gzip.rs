//! Compresses bytes into one gzip member, on as many processors as are free.
//!
//! ```text
//! bytes ─▶ read, hash ─▶ block + the 32 KiB before it ─┬─▶ deflate ─┐
//!          (in order)                                  ├─▶ deflate ─┼─▶ append (in order) ─▶ memory, or a file without a name
//!                                                      └─▶ deflate ─┘
//! ```
//!
//! Each block ends at a byte boundary, so blocks can be put together. All bytes are read once: what is hashed is what is
//! compressed. A permit is taken for each block, in order, and held until it is appended; so all files together have as many
//! blocks in memory as there are permits, and the first block of each file never waits for another one. A stream is opened
//! before the first permit is taken: who waits for other streams must not keep them waiting.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Buf as _, Bytes};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use tc_engine::{Content, Pieces, ReadError};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};

use super::{
    body::Body,
    reading::{Unchanging, ended, grew, sha256, shrank},
};

/// Up to this many compressed bytes are kept in memory.
const IN_MEMORY: usize = 256 << 10;
/// Plain bytes of one block. Larger ones compress hardly better, smaller ones visibly worse.
const BLOCK: u64 = 1 << 20;
/// How far back deflate can refer.
const WINDOW: usize = 32 << 10;
/// As the reference and `gzip` itself.
const LEVEL: u32 = 6;
/// No extra fields, no date, no name, unknown system: the same file gives the same bytes everywhere.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Why a file could not be compressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// The bytes are at fault, or the way to them.
    #[error("{0}")]
    Source(ReadError),
    /// The place for the result is.
    #[error("store the compressed bytes: {0}")]
    Spool(io::Error),
}

/// What became of one block, and its permit.
type Deflated = (Vec<u8>, OwnedSemaphorePermit);

/// Permits for [`compress`]: one block for each processor, and one that is read or appended meanwhile.
pub(super) fn permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from) + 1))
}

/// Compresses all bytes of `content`. Large results lie in `dir` without a name.
///
/// # Errors
/// When there are fewer or more bytes than it says, when they change meanwhile, or when the disk is full.
pub(super) async fn compress(content: &Content, dir: &Path, permits: &Arc<Semaphore>) -> Result<Body, CompressError> {
    let bytes = content.bytes();
    let source = Source::open(content).await.map_err(CompressError::Source)?;
    let mut reader = Reader { source, bytes, at: 0, digest: Context::new(&SHA256), crc: Crc::new(), window: Vec::new() };
    let mut spill = Spill { dir: dir.to_owned(), memory: HEADER.to_vec(), file: None, bytes: HEADER.len() as u64 };
    let mut running: VecDeque<JoinHandle<io::Result<Deflated>>> = VecDeque::new();
    let mut all_read = false;
    loop {
        // Another block if there is room for one; the first of a file waits for it, the others rather make room.
        let permit = match running.front() {
            _ if all_read => None,
            None => Arc::clone(permits).acquire_owned().await.ok(),
            Some(_) => Arc::clone(permits).try_acquire_owned().ok(),
        };
        if let Some(permit) = permit {
            let (again, block) = reader.next().await.map_err(CompressError::Source)?;
            (reader, all_read) = (again, block.is_last);
            running.push_back(tokio::task::spawn_blocking(move || Ok((block.deflated()?, permit))));
        } else if let Some(first) = running.pop_front() {
            let deflated = first.await.map_err(io::Error::other).and_then(|deflated| deflated);
            let (deflated, _permit) = deflated.map_err(CompressError::Spool)?;
            spill = blocking(move || spill.append(&deflated)).await.map_err(CompressError::Spool)?;
        } else if all_read {
            break;
        } else {
            return Err(CompressError::Spool(io::Error::other("nobody may compress any more")));
        }
    }
    let Reader { digest, crc, .. } = reader;
    let trailer = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
    let spill = blocking(move || spill.append(&trailer)).await.map_err(CompressError::Spool)?;
    Ok(match spill.file {
        Some(file) => Body::compressed_file(file, spill.bytes, bytes, sha256(digest)),
        None => Body::compressed(spill.memory, bytes, sha256(digest)),
    })
}

/// Runs something that blocks; a panic of it is an error.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Where the bytes come from.
enum Source {
    File(Unchanging),
    Memory(Bytes),
    /// The stream, and what came of it beyond the end of a block.
    Stream(Box<dyn Pieces>, Bytes),
}

impl Source {
    async fn open(content: &Content) -> Result<Self, ReadError> {
        Ok(match content {
            Content::File(file) => {
                let again = file.file.try_clone().map_err(|error| ReadError::Broken(error.to_string()))?;
                Self::File(Unchanging::new(again))
            }
            Content::Memory(bytes) => Self::Memory(bytes.clone()),
            Content::Stream(stream) => Self::Stream(stream.open().await?, Bytes::new()),
        })
    }
}

/// Reads bytes block by block.
struct Reader {
    source: Source,
    bytes: u64,
    at: u64,
    digest: Context,
    crc: Crc,
    /// The end of the block before.
    window: Vec<u8>,
}

struct Block {
    window: Vec<u8>,
    plain: Vec<u8>,
    is_last: bool,
}

impl Reader {
    async fn next(mut self) -> Result<(Self, Block), ReadError> {
        // At most a block.
        let length = usize::try_from((self.bytes - self.at).min(BLOCK)).unwrap_or_default();
        let is_last = self.at + length as u64 == self.bytes;
        let mut plain = Vec::with_capacity(length);
        match &mut self.source {
            // Further down, where it may block.
            Source::File(_) => {}
            Source::Memory(bytes) => plain.extend_from_slice(&bytes.split_to(length)),
            Source::Stream(stream, rest) => {
                while plain.len() < length {
                    if rest.is_empty() {
                        let Some(piece) = stream.next().await? else {
                            return Err(shrank(self.at + plain.len() as u64, self.bytes));
                        };
                        *rest = piece;
                    }
                    let fits = rest.len().min(length - plain.len());
                    plain.extend_from_slice(&rest[..fits]);
                    rest.advance(fits);
                }
                if is_last {
                    if !rest.is_empty() {
                        return Err(grew());
                    }
                    ended(stream.as_mut()).await?;
                }
            }
        }
        let work = move || {
            if let Source::File(source) = &self.source {
                plain.resize(length, 0);
                source.file.read_exact_at(&mut plain, self.at).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => shrank(self.at, self.bytes),
                    _ => ReadError::Broken(error.to_string()),
                })?;
                if is_last {
                    source.verify(self.bytes)?;
                }
            }
            self.at += length as u64;
            self.digest.update(&plain);
            self.crc.update(&plain);
            let end = plain[length.saturating_sub(WINDOW)..].to_vec();
            let block = Block { window: std::mem::replace(&mut self.window, end), plain, is_last };
            Ok((self, block))
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| ReadError::Broken(error.to_string()))?
    }
}

impl Block {
    /// Raw deflate that ends at a byte boundary, or ends the stream with the last block.
    fn deflated(&self) -> io::Result<Vec<u8>> {
        let mut deflate = Compress::new(Compression::new(LEVEL), false);
        if !self.window.is_empty() {
            deflate.set_dictionary(&self.window).map_err(io::Error::other)?;
        }
        let flush = if self.is_last { FlushCompress::Finish } else { FlushCompress::Sync };
        let mut deflated = Vec::with_capacity(self.plain.len() / 4 + 64);
        loop {
            let taken = usize::try_from(deflate.total_in()).map_err(io::Error::other)?;
            let status = deflate.compress_vec(&self.plain[taken..], &mut deflated, flush).map_err(io::Error::other)?;
            // Room that is left over after a flush means that the flush is complete.
            let flushed = deflate.total_in() == self.plain.len() as u64 && deflated.len() < deflated.capacity();
            if status == Status::StreamEnd || (!self.is_last && flushed) {
                return Ok(deflated);
            }
            deflated.reserve(self.plain.len() / 8 + 64);
        }
    }
}

/// Takes bytes into memory until there are too many, then into a file without a name.
struct Spill {
    dir: PathBuf,
    memory: Vec<u8>,
    file: Option<File>,
    bytes: u64,
}

impl Spill {
    fn append(mut self, piece: &[u8]) -> io::Result<Self> {
        if self.file.is_none() && self.memory.len() + piece.len() > IN_MEMORY {
            let mut file = tempfile::tempfile_in(&self.dir)?;
            file.write_all(&std::mem::take(&mut self.memory))?;
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(piece)?,
            None => self.memory.extend_from_slice(piece),
        }
        self.bytes += piece.len() as u64;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use futures_util::StreamExt as _;
    use tc_engine::OpenFile;

    use super::*;
    use crate::artifact::reading::digest_of;

    fn file(content: &[u8], bytes: u64) -> Content {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        Content::File(OpenFile { file, bytes })
    }

    fn noise(size: usize) -> Vec<u8> {
        let mut content = vec![0; size];
        crate::seam::Random::fill(&crate::seam::SeededRandom::new(1), &mut content);
        content
    }

    async fn sent(body: &Body) -> Vec<u8> {
        let pieces: Vec<Bytes> = body.attempt().await.expect("opened").stream.map(|piece| piece.expect("read")).collect().await;
        pieces.concat()
    }

    /// Lines that compress as logs do.
    fn lines(bytes: usize) -> Vec<u8> {
        let mut text = Vec::new();
        for line in 0_u32.. {
            if text.len() >= bytes {
                break;
            }
            let noise = line.wrapping_mul(2_654_435_761);
            text.extend_from_slice(format!("[task] step {line}: object {noise:08x} is {}\n", noise % 977).as_bytes());
        }
        text
    }

    #[tokio::test]
    async fn the_file_comes_out_again_from_memory_and_from_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let block = usize::try_from(BLOCK).expect("small");
        for content in [noise(0), noise(1), noise(1000), noise(block), noise(block + 1), lines(3 * block), vec![0; 2 * block]] {
            let permits = permits();
            let bytes = content.len() as u64;
            let body = compress(&file(&content, bytes), dir.path(), &permits).await.expect("compressed");
            let gzip = sent(&body).await;
            assert_eq!((gzip.len() as u64, body.plain_bytes(), body.encoding()), (body.bytes(), bytes, "gzip"));
            assert_eq!(body.plain_digest([0; 32]), digest_of(&content));
            assert_eq!(body.is_small(), gzip.len() <= IN_MEMORY);
            let mut plain = Vec::new();
            // A decoder of single members: what follows the first one would be missing.
            flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut plain).expect("gzip");
            assert!(plain == content);
            assert_eq!(permits.available_permits(), super::permits().available_permits());
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[tokio::test]
    async fn blocks_cost_next_to_nothing() {
        let content = lines(4 << 20);
        let body = compress(&file(&content, content.len() as u64), Path::new("/tmp"), &permits()).await.expect("compressed");
        let mut whole = flate2::write::GzEncoder::new(Vec::new(), Compression::new(LEVEL));
        whole.write_all(&content).expect("compressed");
        let whole = whole.finish().expect("compressed").len() as u64;
        assert!(body.bytes() * 100 <= whole * 101, "{} of {whole}", body.bytes());
    }

    #[tokio::test]
    async fn a_single_permit_is_enough_for_several_files() {
        let content = lines(3 << 20);
        let (permits, dir) = (Arc::new(Semaphore::new(1)), std::env::temp_dir());
        let file = file(&content, content.len() as u64);
        let one = || compress(&file, &dir, &permits);
        let (a, b, c) = tokio::join!(one(), one(), one());
        assert!([a, b, c].into_iter().all(|body| body.is_ok()));
    }

    #[tokio::test]
    async fn a_file_that_changes_is_told_from_a_place_without_room() {
        let dir = tempfile::tempdir().expect("a directory");
        for said in [3, 9] {
            let error = compress(&file(b"12345", said), dir.path(), &permits()).await.expect_err("changed");
            assert!(matches!(error, CompressError::Source(ReadError::Broken(_))), "{error}");
        }
        let error =
            compress(&file(&noise(1_000_000), 1_000_000), Path::new("/proc/self"), &permits()).await.expect_err("no place");
        assert!(matches!(error, CompressError::Spool(_)), "{error}");
    }
}
