//! The bytes of one upload, ready to be sent as often as it takes.

use std::{
    fs::File,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use tc_engine::{Content, OpenFile, ReadError, Reopen};
use tokio::{sync::mpsc, task::AbortHandle};

use super::reading::{Digest, History, Unchanging, digest_of, ended};

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
    /// Digest of the bytes before encoding, where that differs from what is sent and is known.
    plain_sha256: Option<Digest>,
}

#[derive(Debug)]
enum Source {
    Memory(Bytes),
    File(Arc<Unchanging>, History),
    Stream(Arc<dyn Reopen>, History),
}

/// One attempt at sending a body.
pub struct Attempt {
    /// The bytes; [`Progress::broken`] says what an error in it means.
    pub stream: BoxStream<'static, io::Result<Bytes>>,
    /// What is known about the attempt while it goes on.
    pub progress: Arc<Progress>,
}

/// How far an attempt is.
#[derive(Debug, Default)]
pub struct Progress {
    pub(super) taken: AtomicU64,
    pub(super) digest: OnceLock<Digest>,
    pub(super) broken: OnceLock<ReadError>,
}

impl Progress {
    /// Bytes that the network has taken over.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Digest of what was sent, if all of it was read.
    pub fn digest(&self) -> Option<Digest> {
        self.digest.get().copied()
    }

    /// Why the bytes could not be read, if they could not.
    pub fn broken(&self) -> Option<&ReadError> {
        self.broken.get()
    }

    /// Of an attempt whose bytes could not be reached.
    pub(super) fn failed(error: ReadError) -> Arc<Self> {
        Arc::new(Self { broken: error.into(), ..Self::default() })
    }

    /// Notes why the bytes could not be read, and says it to the network.
    pub(super) fn fail(&self, error: ReadError) -> io::Error {
        let told = io::Error::other(error.to_string());
        let _ = self.broken.set(error);
        told
    }
}

/// Ends a task that nobody needs any more, and lets go of what it holds.
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Body {
    /// Bytes as they are.
    pub fn identity(content: Content) -> Self {
        let bytes = content.bytes();
        let source = match content {
            Content::File(OpenFile { file, bytes }) => return Self::of_file(file, bytes, "identity", bytes, None),
            Content::Memory(bytes) => Source::Memory(bytes),
            Content::Stream(stream) => Source::Stream(stream, History::default()),
        };
        Self { source, bytes, encoding: "identity", plain_bytes: bytes, plain_sha256: None }
    }

    /// A file that is compressed already, and the size of what is in it.
    pub fn gzipped(file: File, bytes: u64, plain_bytes: u64) -> Self {
        Self::of_file(file, bytes, "gzip", plain_bytes, None)
    }

    fn of_file(file: File, bytes: u64, encoding: &'static str, plain_bytes: u64, plain_sha256: Option<Digest>) -> Self {
        let source = Source::File(Arc::new(Unchanging::new(file)), History::default());
        Self { source, bytes, encoding, plain_bytes, plain_sha256 }
    }

    /// What was made of a file that has this size and digest: compressed bytes in memory.
    pub(super) fn compressed(gzip: Vec<u8>, plain_bytes: u64, plain_sha256: Digest) -> Self {
        let (bytes, plain_sha256) = (gzip.len() as u64, Some(plain_sha256));
        Self { source: Source::Memory(gzip.into()), bytes, encoding: "gzip", plain_bytes, plain_sha256 }
    }

    /// As [`Body::compressed`], with the compressed bytes in a file.
    pub(super) fn compressed_file(gzip: File, bytes: u64, plain_bytes: u64, plain_sha256: Digest) -> Self {
        Self::of_file(gzip, bytes, "gzip", plain_bytes, Some(plain_sha256))
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
    pub fn plain_digest(&self, sent: Digest) -> Digest {
        self.plain_sha256.unwrap_or(sent)
    }

    /// Reads the bytes for one attempt, once the attempt before it has ended. It is an error of the stream if an earlier
    /// attempt has read other bytes.
    ///
    /// # Errors
    /// When the bytes cannot be reached.
    pub async fn attempt(&self) -> Result<Attempt, ReadError> {
        let progress = Arc::<Progress>::default();
        if self.bytes == 0 {
            // Of nothing nothing is ever taken.
            let _ = progress.digest.set(digest_of(&[]));
        }
        let pieces = match &self.source {
            Source::Memory(bytes) => {
                let _ = progress.digest.set(digest_of(bytes));
                let piece = (!bytes.is_empty()).then(|| Ok(bytes.clone()));
                futures_util::stream::iter(piece).boxed()
            }
            Source::File(source, history) => {
                let reading = history.begin(self.bytes).await;
                let (sender, receiver) = mpsc::channel(AHEAD);
                let (source, progress) = (Arc::clone(source), Arc::clone(&progress));
                // It ends with the file, or when the receiver is dropped with the request. A panic in it closes the channel
                // early, which breaks the request off.
                tokio::task::spawn_blocking(move || reading.file(&source, &sender, &progress));
                received(receiver, None)
            }
            Source::Stream(source, history) => {
                let reading = history.begin(self.bytes).await;
                let mut pieces = source.open().await?;
                if self.bytes == 0 {
                    // The network does not ask for what is not there.
                    ended(pieces.as_mut()).await?;
                }
                let (sender, receiver) = mpsc::channel(AHEAD);
                // Likewise; and it ends at once when the request does, for others may wait for the stream.
                let task = tokio::spawn(reading.stream(pieces, sender, Arc::clone(&progress)));
                received(receiver, Some(Ends(task.abort_handle())))
            }
        };
        let taken_over = Arc::clone(&progress);
        let stream = pieces.inspect(move |piece: &io::Result<Bytes>| {
            let bytes = piece.as_ref().map_or(0, Bytes::len);
            taken_over.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        });
        Ok(Attempt { stream: stream.boxed(), progress })
    }

    /// Whether one piece holds it.
    pub fn is_small(&self) -> bool {
        matches!(self.source, Source::Memory(_))
    }
}

/// What a reader sends. The stream keeps the reader alive.
fn received(receiver: mpsc::Receiver<io::Result<Bytes>>, reader: Option<Ends>) -> BoxStream<'static, io::Result<Bytes>> {
    futures_util::stream::unfold((receiver, reader), |(mut receiver, reader)| async move {
        Some((receiver.recv().await?, (receiver, reader)))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::FileExt as _};

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        file
    }

    fn identity(file: File, bytes: u64) -> Body {
        Body::identity(Content::File(OpenFile { file, bytes }))
    }

    fn noise(size: usize) -> Vec<u8> {
        let mut content = vec![0; size];
        crate::seam::Random::fill(&crate::seam::SeededRandom::new(1), &mut content);
        content
    }

    #[tokio::test]
    async fn every_attempt_gives_the_bytes_of_the_file() {
        for size in [0, 1, 1000, 1_000_000] {
            let content = noise(size);
            let body = identity(file(&content), size as u64);
            for _ in 0..2 {
                let attempt = body.attempt().await.expect("opened");
                let pieces: Vec<Bytes> = attempt.stream.map(|piece| piece.expect("read")).collect().await;
                assert!(pieces.concat() == content);
                assert_eq!(attempt.progress.taken(), size as u64);
                assert_eq!(attempt.progress.digest(), Some(digest_of(&content)));
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_has_more_or_fewer_bytes_is_an_error_and_has_no_digest() {
        for said in [3, 9] {
            let attempt = identity(file(b"12345"), said).attempt().await.expect("opened");
            let pieces: Vec<io::Result<Bytes>> = attempt.stream.collect().await;
            let complete: usize = pieces.iter().flatten().map(Bytes::len).sum();
            assert!(pieces.iter().any(Result::is_err) && (complete as u64) < said, "{said}");
            assert!(attempt.progress.digest().is_none() && attempt.progress.broken().is_some(), "{said}");
        }
    }

    #[tokio::test]
    async fn an_attempt_that_was_cut_short_must_agree_with_the_next_one() {
        let content = noise(1_000_000);
        let source = file(&content);
        let modified = source.metadata().expect("metadata").modified().expect("a date");
        let body = identity(source.try_clone().expect("a second handle"), content.len() as u64);
        let mut cut = body.attempt().await.expect("opened");
        for _ in 0..2 {
            cut.stream.next().await.expect("a piece").expect("read");
        }
        drop(cut);
        // Somebody changes the beginning and hides it. An attempt that only looks at itself notices nothing.
        source.write_all_at(b"other", 100).expect("written");
        source.set_modified(modified).expect("set back");
        let attempt = body.attempt().await.expect("opened");
        let pieces: Vec<io::Result<Bytes>> = attempt.stream.collect().await;
        assert!(pieces.last().expect("pieces").is_err());
        assert_eq!(attempt.progress.broken(), Some(&ReadError::Broken("its bytes changed between two attempts".to_owned())));
        assert!(attempt.progress.digest().is_none());
    }
}
