//! The bytes of one upload, ready to be sent as often as it takes.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::sync::mpsc;

/// Up to this many bytes a body is kept in memory, and sent in one piece.
const IN_MEMORY: u64 = 256 << 10;
/// How much is read at a time.
const PIECE: usize = 256 << 10;
/// Pieces between the reader and the network.
const AHEAD: usize = 2;

/// Bytes to send. Each attempt reads them anew and must find the same.
#[derive(Debug)]
pub struct Body {
    source: Source,
    bytes: u64,
    /// `gzip` or `identity`, as the store is told.
    encoding: &'static str,
    /// Bytes before encoding.
    plain_bytes: u64,
    /// Digest of the bytes before encoding, once it is known.
    plain_sha256: Option<[u8; 32]>,
}

#[derive(Debug, Clone)]
enum Source {
    Memory(Bytes),
    File(Arc<File>),
}

/// One attempt at sending a body.
pub struct Attempt {
    /// The bytes; an error in it means that the file changed.
    pub stream: BoxStream<'static, io::Result<Bytes>>,
    /// What is known about the attempt while it goes on.
    pub progress: Arc<Progress>,
}

/// How far an attempt is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes read so far.
    pub sent: AtomicU64,
    digest: std::sync::OnceLock<[u8; 32]>,
    broken: std::sync::OnceLock<String>,
}

impl Progress {
    /// Digest of what was sent, if all of it was read.
    pub fn digest(&self) -> Option<[u8; 32]> {
        self.digest.get().copied()
    }

    /// Why the bytes could not be read, if they could not.
    pub fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }
}

impl Body {
    /// A file as it is.
    pub fn identity(file: File, bytes: u64) -> Self {
        Self { source: Source::File(Arc::new(file)), bytes, encoding: "identity", plain_bytes: bytes, plain_sha256: None }
    }

    /// A file that is compressed already, and the size and digest of what is in it, where that is known.
    pub fn gzipped(file: File, bytes: u64, plain_bytes: u64) -> Self {
        Self { source: Source::File(Arc::new(file)), bytes, encoding: "gzip", plain_bytes, plain_sha256: None }
    }

    /// Compresses a file: small results stay in memory, others lie in `dir` without a name. Blocks.
    ///
    /// # Errors
    /// When the file does not have exactly `bytes` bytes, or the disk is full.
    pub fn compress(file: &File, bytes: u64, dir: &Path) -> io::Result<Self> {
        let mut encoder = GzEncoder::new(Spill { dir, memory: Vec::new(), file: None, bytes: 0 }, Compression::new(6));
        let mut digest = Context::new(&SHA256);
        let mut buffer = vec![0; PIECE.min(usize::try_from(bytes).unwrap_or(PIECE).max(1))];
        let mut at = 0;
        while at < bytes {
            let want = buffer.len().min(usize::try_from(bytes - at).unwrap_or(usize::MAX));
            let got = file.read_at(&mut buffer[..want], at)?;
            if got == 0 {
                return Err(changed(at, bytes));
            }
            digest.update(&buffer[..got]);
            encoder.write_all(&buffer[..got])?;
            at += got as u64;
        }
        if file.read_at(&mut [0], bytes)? > 0 {
            return Err(io::Error::other("it grew while it was read"));
        }
        let spill = encoder.finish()?;
        let size = spill.bytes;
        let source = match spill.file {
            Some(file) => Source::File(Arc::new(file)),
            None => Source::Memory(spill.memory.into()),
        };
        Ok(Self { source, bytes: size, encoding: "gzip", plain_bytes: bytes, plain_sha256: Some(sha256(digest)) })
    }

    /// Bytes that are sent.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes before encoding.
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// `gzip` or `identity`.
    pub fn encoding(&self) -> &'static str {
        self.encoding
    }

    /// Digest of the bytes before encoding, given that of the bytes that were sent.
    pub fn plain_digest(&self, sent: [u8; 32]) -> [u8; 32] {
        self.plain_sha256.unwrap_or(sent)
    }

    /// Reads the bytes for one attempt.
    pub fn attempt(&self) -> Attempt {
        let progress = Arc::<Progress>::default();
        let stream = match &self.source {
            Source::Memory(bytes) => {
                let mut digest = Context::new(&SHA256);
                digest.update(bytes);
                let _ = progress.digest.set(sha256(digest));
                progress.sent.store(self.bytes, Ordering::Relaxed);
                futures_util::stream::iter([Ok(bytes.clone())]).boxed()
            }
            Source::File(file) => {
                let (sender, receiver) = mpsc::channel(AHEAD);
                let (file, bytes, progress) = (Arc::clone(file), self.bytes, Arc::clone(&progress));
                // It ends with the file, or when the receiver is dropped with the request. A panic in it closes the channel
                // early, which breaks the request off.
                tokio::task::spawn_blocking(move || read(&file, bytes, &sender, &progress));
                futures_util::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
                    .boxed()
            }
        };
        Attempt { stream, progress }
    }

    /// Whether one piece holds it.
    pub fn is_small(&self) -> bool {
        matches!(self.source, Source::Memory(_))
    }
}

/// Reads a file piece by piece into a channel.
fn read(file: &File, bytes: u64, sender: &mpsc::Sender<io::Result<Bytes>>, progress: &Progress) {
    let mut digest = Context::new(&SHA256);
    let mut at = 0;
    while at < bytes {
        let want = PIECE.min(usize::try_from(bytes - at).unwrap_or(PIECE));
        let mut piece = vec![0; want];
        let result = match file.read_at(&mut piece, at) {
            Ok(0) => Err(changed(at, bytes)),
            Ok(got) => {
                piece.truncate(got);
                digest.update(&piece);
                at += got as u64;
                Ok(piece.into())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            drop(progress.broken.set(error.to_string()));
        }
        let failed = result.is_err();
        if at == bytes {
            // Set before the last piece is taken, so that it is known when the answer comes.
            let _ = progress.digest.set(sha256(digest.clone()));
        }
        if sender.blocking_send(result).is_err() || failed {
            return;
        }
        progress.sent.store(at, Ordering::Relaxed);
    }
    if bytes == 0 {
        let _ = progress.digest.set(sha256(digest));
    }
}

fn changed(at: u64, bytes: u64) -> io::Error {
    io::Error::other(format!("it shrank while it was read: {at} of {bytes} bytes are there"))
}

fn sha256(context: Context) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(context.finish().as_ref());
    sum
}

/// Takes bytes into memory until there are too many, then into a file without a name.
struct Spill<'a> {
    dir: &'a Path,
    memory: Vec<u8>,
    file: Option<File>,
    bytes: u64,
}

impl Write for Spill<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.file.is_none() && (self.memory.len() + piece.len()) as u64 > IN_MEMORY {
            let mut file = tempfile::tempfile_in(self.dir)?;
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(piece)?,
            None => self.memory.extend_from_slice(piece),
        }
        self.bytes += piece.len() as u64;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads all of a small stream; for tests of what was compressed.
#[cfg(test)]
pub(crate) async fn whole(body: &Body) -> io::Result<Vec<u8>> {
    let mut attempt = body.attempt();
    let mut bytes = Vec::new();
    while let Some(piece) = attempt.stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    let mut plain = Vec::new();
    match body.encoding {
        "gzip" => flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).map(|_| plain),
        _ => Ok(bytes),
    }
}

// `Read` is only needed by the tests' decoder.
#[cfg(not(test))]
const _: fn(&mut dyn Read) = |_| {};

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        file
    }

    #[tokio::test]
    async fn both_encodings_give_the_bytes_of_the_file_from_memory_and_from_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        // Noise does not compress, so the larger one goes through a file.
        let random = crate::seam::SeededRandom::new(1);
        for size in [0, 1, 1000, 1_000_000] {
            let mut content = vec![0; size];
            crate::seam::Random::fill(&random, &mut content);
            let plain = Body::identity(file(&content), size as u64);
            assert!(whole(&plain).await.expect("read") == content);
            let gzip = Body::compress(&file(&content), size as u64, dir.path()).expect("compressed");
            assert!(whole(&gzip).await.expect("read") == content);
            assert_eq!(gzip.is_small(), size < 500_000);
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[tokio::test]
    async fn a_file_that_shrank_is_an_error_and_has_no_digest() {
        let plain = Body::identity(file(b"12345"), 9);
        let mut attempt = plain.attempt();
        let mut failed = false;
        while let Some(piece) = attempt.stream.next().await {
            failed |= piece.is_err();
        }
        assert!(failed && attempt.progress.digest().is_none() && attempt.progress.broken().is_some());
        let dir = tempfile::tempdir().expect("a directory");
        assert!(Body::compress(&file(b"12345"), 9, dir.path()).is_err());
        assert!(Body::compress(&file(b"12345"), 3, dir.path()).is_err(), "it grew");
    }
}
