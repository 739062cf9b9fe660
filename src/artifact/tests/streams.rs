//! Content that comes from somewhere else: every attempt has to open it again.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tc_engine::{Content, EngineError, Entry, EntryFault, Gone, Kind, Pieces, Quiet, ReadError, Reopen};
use tc_payload::native::ArtifactSpec;
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::{
    Collected, Ending, Row, Surroundings, UploadError, collect, date, noise, plain, sha256,
    store::{Fate, Store},
};

type Script = dyn Fn(usize) -> Vec<Result<Bytes, ReadError>> + Send + Sync;

/// What the n-th stream of a file gives. Streams of one engine go one at a time.
struct Source {
    bytes: u64,
    script: Box<Script>,
    opened: AtomicUsize,
    engine: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

struct Stream {
    pieces: std::vec::IntoIter<Result<Bytes, ReadError>>,
    _engine: OwnedMutexGuard<()>,
}

impl Source {
    fn new(bytes: usize, script: impl Fn(usize) -> Vec<Result<Bytes, ReadError>> + Send + Sync + 'static) -> Arc<Self> {
        Self::of_engine(Arc::default(), bytes, script)
    }

    fn of_engine(
        engine: Arc<tokio::sync::Mutex<()>>,
        bytes: usize,
        script: impl Fn(usize) -> Vec<Result<Bytes, ReadError>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { bytes: bytes as u64, script: Box::new(script), opened: AtomicUsize::new(0), engine })
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Reopen for Source {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    async fn open(&self) -> Result<Box<dyn Pieces>, ReadError> {
        let engine = Arc::clone(&self.engine).lock_owned().await;
        let mut pieces = (self.script)(self.opened.fetch_add(1, Ordering::SeqCst)).into_iter().peekable();
        match pieces.next_if(|piece| matches!(piece, Err(ReadError::Lost(why)) if why == "not there")) {
            Some(Err(error)) => Err(error),
            _ => Ok(Box::new(Stream { pieces: pieces.collect::<Vec<_>>().into_iter(), _engine: engine })),
        }
    }
}

#[async_trait]
impl Pieces for Stream {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        self.pieces.next().transpose()
    }
}

/// Pieces of odd sizes.
fn cut(content: &[u8]) -> Vec<Result<Bytes, ReadError>> {
    content.chunks(32_777).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect()
}

fn lost(why: &str) -> Result<Bytes, ReadError> {
    Err(ReadError::Lost(why.to_owned()))
}

/// What a container has at its paths, once.
struct Found(Mutex<Vec<Entry>>);

#[async_trait]
impl Quiet for Found {
    fn read(&self, path: &str, _kind: Kind) -> mpsc::Receiver<Entry> {
        let (send, receive) = mpsc::channel(100);
        let entries = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let (mine, others) = entries.into_iter().partition(|entry: &Entry| entry.shown == path);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = others;
        let mine: Vec<Entry> = mine;
        for entry in mine {
            send.try_send(entry).expect("there is room");
        }
        receive
    }

    async fn destroy(self: Box<Self>, _keep_files: bool) -> Result<Gone, EngineError> {
        unreachable!("nobody destroys it in these tests")
    }
}

async fn published(store: &Store, contents: Vec<(&str, Result<Content, EntryFault>)>) -> Vec<Row> {
    let spool = tempfile::tempdir().expect("a directory");
    let specs = contents.iter().map(|(path, _)| json!({ "type": "file", "path": path }));
    let specs: Vec<ArtifactSpec> = serde_json::from_value(specs.collect()).expect("artifacts");
    let entry = |(path, content): (&str, _)| Entry { relative: String::new(), shown: path.to_owned(), content };
    let quiet = Found(Mutex::new(contents.into_iter().map(entry).collect()));
    let surroundings = Surroundings {
        target: &store.target,
        expires: date("2030-01-01T00:00:00Z"),
        spool_dir: spool.path().to_owned(),
        is_taken: &|_| false,
    };
    let collecting = collect(&quiet, &specs, &surroundings);
    let Collected { rows } = tokio::time::timeout(Duration::from_secs(100), collecting).await.expect("no deadlock");
    assert_eq!(std::fs::read_dir(spool.path()).expect("readable").count(), 0, "something is left in the spool");
    rows
}

async fn one(store: &Store, path: &str, source: &Arc<Source>) -> Ending {
    published(store, vec![(path, Ok(Content::Stream(source.clone())))]).await.pop().expect("a row").ending
}

/// As it is, and compressed.
const BOTH: [&str; 2] = ["/out/a.zip", "/out/a.txt"];

#[tokio::test]
async fn streams_and_bytes_in_memory_arrive_as_they_were() {
    for size in [0, 1, 100_000, 1_500_000] {
        let content = noise(size);
        let store = Store::start(|_, _| Fate::Store).await;
        for path in BOTH {
            let bytes = content.clone();
            let source = Source::new(size, move |_| cut(&bytes));
            let memory = Content::Memory(content.clone().into());
            let name = format!("{path}.memory{}", &path[6..]);
            let contents = vec![(path, Ok(Content::Stream(source.clone()))), (&name, Ok(memory))];
            for row in published(&store, contents).await {
                let is_whole = matches!(row.ending, Ending::Uploaded { sha256: sum } if sum[..] == sha256(&content));
                assert!(is_whole, "{size}: {}", row.name);
            }
            assert_eq!(source.opened(), 1);
        }
        let stored = store.stored();
        assert_eq!(stored.len(), 4);
        assert!(stored.iter().all(|(_, upload)| plain(upload) == content));
        assert_eq!(stored.iter().filter(|(_, upload)| upload.encoding == "gzip").count(), 2);
        assert!(store.created().iter().all(|(_, body)| body["contentLength"] == size));
    }
}

#[tokio::test]
async fn every_attempt_opens_the_stream_again_and_has_to_agree() {
    let content = noise(2_000_000);
    for fate in [Fate::Refuse(500), Fate::CutAfter(1), Fate::CutAfter(1_000_000), Fate::CutAfter(2_000_000)] {
        let store = Store::start(move |_, attempt| if attempt < 2 { fate } else { Fate::Store }).await;
        let bytes = content.clone();
        let source = Source::new(content.len(), move |_| cut(&bytes));
        let ending = one(&store, "/out/a.zip", &source).await;
        assert!(matches!(ending, Ending::Uploaded { sha256: sum } if sum[..] == sha256(&content)), "{fate:?}");
        assert_eq!((source.opened(), store.attempts("/out/a.zip")), (3, 3), "{fate:?}");
        assert!(store.stored()[0].1.bytes == content);
    }
    // The first attempt is through; the second finds one other byte somewhere.
    for at in [0, 1_000_000, 1_999_999] {
        let store = Store::start(|_, attempt| if attempt == 0 { Fate::Refuse(500) } else { Fate::Store }).await;
        let bytes = content.clone();
        let source = Source::new(content.len(), move |opened| {
            let mut bytes = bytes.clone();
            bytes[at] ^= u8::from(opened > 0);
            cut(&bytes)
        });
        let ending = one(&store, "/out/a.zip", &source).await;
        assert!(matches!(ending, Ending::Failed(UploadError::Changed(_))), "{at}");
        assert!(store.stored().is_empty(), "{at}");
    }
}

#[tokio::test]
async fn a_stream_with_more_or_fewer_bytes_is_never_published() {
    for path in BOTH {
        for (said, given) in
            [(100, 99), (100, 101), (2_000_000, 1_000_000), (2_000_000, 2_000_001), (0, 1), (1, 0), (32_777, 65_554)]
        {
            let store = Store::start(|_, _| Fate::Store).await;
            let source = Source::new(said, move |_| cut(&noise(given)));
            let ending = one(&store, path, &source).await;
            assert!(matches!(ending, Ending::Failed(UploadError::Changed(_))), "{path}: {said}, {given}");
            assert!(store.stored().is_empty(), "{path}: {said}, {given}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_is_opened_again_from_its_beginning() {
    let content = noise(1_500_000);
    for path in BOTH {
        let store = Store::start(|_, _| Fate::Store).await;
        let bytes = content.clone();
        let source = Source::new(content.len(), move |opened| match opened {
            0 => vec![lost("not there")],
            1 => cut(&bytes[..1_000_000]).into_iter().chain([lost("the connection broke")]).collect(),
            _ => cut(&bytes),
        });
        let ending = one(&store, path, &source).await;
        assert!(matches!(ending, Ending::Uploaded { sha256: sum } if sum[..] == sha256(&content)), "{path}");
        assert_eq!(source.opened(), 3, "{path}");
        assert!(plain(&store.stored()[0].1) == content, "{path}");
    }
}

#[tokio::test]
async fn a_path_about_which_nobody_knows_anything_is_the_services_fault() {
    let store = Store::start(|_, _| Fate::Store).await;
    let lost = Err(EntryFault::Lost("the engine is gone".to_owned()));
    let rows = published(&store, vec![("/out/a.zip", lost)]).await;
    assert!(matches!(&rows[0].ending, Ending::Failed(UploadError::Service(why)) if why == "the engine is gone"));
    assert!(store.created().is_empty(), "it may be there after all");
}

/// Streams that wait for each other, uploads that fail, compressions that wait for processors: nobody waits for ever.
#[tokio::test]
async fn many_streams_of_an_engine_that_gives_one_at_a_time_all_arrive() {
    let engine = Arc::<tokio::sync::Mutex<()>>::default();
    let content = noise(1_200_000);
    let store = Store::start(|_, attempt| if attempt == 0 { Fate::CutAfter(100_000) } else { Fate::Store }).await;
    let paths: Vec<String> = (0..40).map(|i| format!("/out/{i:02}.{}", if i % 2 == 0 { "zip" } else { "txt" })).collect();
    let contents = paths.iter().map(|path| {
        let bytes = content.clone();
        let source = Source::of_engine(Arc::clone(&engine), content.len(), move |_| cut(&bytes));
        (path.as_str(), Ok(Content::Stream(source as Arc<dyn Reopen>)))
    });
    let rows = published(&store, contents.collect()).await;
    assert_eq!((rows.len(), store.stored().len()), (40, 40));
    assert!(rows.iter().all(|row| matches!(row.ending, Ending::Uploaded { sha256: sum } if sum[..] == sha256(&content))));
    assert!(engine.try_lock().is_ok(), "a stream is still open");
}
