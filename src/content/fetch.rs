//! The download: one task that goes on, whatever becomes of its connections, until all bytes are there or hope is gone.
//!
//! ```text
//! locate ─▶ GET ─┬─ 200 from the first byte: what came before is skipped, and must have the digest it had
//!    ▲           ├─ 206 the rest
//!    │           ├─ 3xx elsewhere
//!    ├─ refused ─┤
//!    └─ wait ◀───┴─ cut, short, still, 5xx
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, header};
use reqwest::Url;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    ContentError, Located, Source,
    answer::{Verdict, Version, judge},
    parcel::Input,
};
use crate::api::{ANSWER_BYTES, Body, Opened, Request, TransportError};

/// Longest time until an answer begins, and between two pieces of it.
const STALL_BOUND: Duration = Duration::from_secs(60);
/// Nothing larger is fetched.
const LARGEST_BYTES: u64 = 64 << 30;
/// Pieces of the network are handed on together once they are this large.
const BATCH_BYTES: usize = 128 << 10;
/// How often a place may send us on to another one.
const REDIRECTS: u32 = 10;
/// A URL that is younger than this has not expired when it is refused.
const URL_AGE: Duration = Duration::from_secs(60);
/// How often young URLs may be refused before nothing has come from them.
const REFUSALS: u32 = 2;

/// How far a download has come, for whoever looks.
#[derive(Debug, Default)]
pub(super) struct Count {
    bytes: AtomicU64,
    /// `u64::MAX` stands for not known.
    total: AtomicU64,
}

impl Count {
    pub(super) fn new() -> Self {
        Self { bytes: AtomicU64::new(0), total: AtomicU64::new(u64::MAX) }
    }

    /// Bytes so far and, if known, in all, as they are transported.
    pub(super) fn get(&self) -> (u64, Option<u64>) {
        let total = Some(self.total.load(Ordering::Relaxed)).filter(|total| *total != u64::MAX);
        (self.bytes.load(Ordering::Relaxed), total)
    }
}

/// Why a download ends early.
enum Stop {
    Failed(ContentError),
    NobodyListens,
}

impl From<ContentError> for Stop {
    fn from(error: ContentError) -> Self {
        Self::Failed(error)
    }
}

/// How one attempt ended.
enum Attempt {
    Complete,
    UrlRefused(String),
    Again(String, Option<Duration>),
}

/// One download.
pub(super) struct Fetch {
    source: Arc<dyn Source>,
    shown: String,
    out: mpsc::Sender<Input>,
    count: Arc<Count>,
    known: Option<Version>,
    /// Bytes that were taken, including those in the batch.
    offset: u64,
    ranges: bool,
    batch: Vec<Bytes>,
    batch_bytes: usize,
}

/// The bytes before `offset`, which come once more.
struct Repeat {
    left: u64,
    digest: Context,
    expected: Context,
}

impl Fetch {
    pub(super) fn new(source: Arc<dyn Source>, out: mpsc::Sender<Input>, count: Arc<Count>) -> Self {
        let shown = source.shown();
        Self { source, shown, out, count, known: None, offset: 0, ranges: true, batch: Vec::new(), batch_bytes: 0 }
    }

    /// Fetches everything.
    pub(super) async fn run(mut self) {
        if let Err(Stop::Failed(error)) = self.download().await {
            // Nobody is there to hear it if that fails.
            drop(self.out.send(Input::Failed(error)).await);
        }
    }

    async fn download(&mut self) -> Result<(), Stop> {
        let retry = self.source.services().retry();
        let mut located = self.source.locate().await?;
        let (mut wait, mut failing, mut refusals) = (retry.first, Duration::ZERO, 0);
        loop {
            let (before, began) = (self.offset, Instant::now());
            let (why, asked) = match self.attempt(&located).await? {
                Attempt::Complete => {
                    self.flush().await?;
                    return self.send(Input::End { sha256: located.sha256 }).await;
                }
                Attempt::UrlRefused(why) => {
                    refusals += u32::from(located.since.elapsed() < URL_AGE);
                    if refusals >= REFUSALS {
                        return Err(ContentError::task(format!("{}: {why}", self.shown)).into());
                    }
                    located = self.source.locate().await?;
                    (why, None)
                }
                Attempt::Again(why, asked) => (why, asked),
            };
            if self.offset > before {
                (wait, failing, refusals) = (retry.first, Duration::ZERO, 0);
            }
            let pause = wait.mul_f64(0.5 + self.source.services().random().fraction()).max(asked.unwrap_or_default());
            failing += if self.offset > before { pause } else { began.elapsed() + pause };
            if failing > retry.total {
                return Err(ContentError::unreachable(format!("{}: {why}", self.shown)).into());
            }
            tracing::info!("The download of {} was interrupted after {} bytes, it goes on: {why}", self.shown, self.offset);
            tokio::time::sleep(pause).await;
            wait = wait.mul_f64(1.5).min(retry.longest);
        }
    }

    async fn attempt(&mut self, located: &Located) -> Result<Attempt, Stop> {
        let url = located.url.expose();
        let mut url = Url::parse(url).map_err(|error| self.never(&format!("its URL is none: {error}")))?;
        for _ in 0..=REDIRECTS {
            if !matches!(url.scheme(), "http" | "https") {
                return Err(self.never(&format!("a URL of the scheme {:?} is not fetched", url.scheme())).into());
            }
            let asked = self.offset > 0 && self.ranges;
            let opened = match self.source.services().transport().open(self.request(&url, asked)).await {
                Ok(opened) => opened,
                Err(TransportError::Request(why)) => return Err(self.never(&why).into()),
                Err(error) => return Ok(Attempt::Again(error.to_string(), None)),
            };
            let Opened { status, headers, body } = opened;
            match judge(status, &headers, self.known.as_ref(), self.offset, asked) {
                Verdict::Elsewhere(to) => {
                    url = url.join(&to).map_err(|_| self.never(&format!("HTTP status {status} to what is no URL")))?;
                }
                Verdict::FromStart(version) => {
                    let repeat = match self.offset {
                        0 => None,
                        left => Some(Repeat { left, digest: Context::new(&SHA256), expected: self.so_far().await? }),
                    };
                    return self.take(body, version, repeat).await;
                }
                Verdict::Continue(version) => return self.take(body, version, None).await,
                Verdict::Complete => return Ok(Attempt::Complete),
                Verdict::UrlRefused(why) => return Ok(Attempt::UrlRefused(why)),
                Verdict::NoRanges(why) => {
                    self.ranges = false;
                    return Ok(Attempt::Again(why, None));
                }
                Verdict::Again(why, pause) => return Ok(Attempt::Again(why, pause)),
                Verdict::Never(why) => return Err(self.never(&why).into()),
            }
        }
        Err(self.never("it is sent on from one place to the next").into())
    }

    fn never(&self, why: &str) -> ContentError {
        ContentError::task(format!("{}: {why}", self.shown))
    }

    fn request(&self, url: &Url, rest: bool) -> Request {
        let mut headers = HeaderMap::new();
        // Object stores keep artifacts in gzip, and some decode what is not asked for in it, without saying how much it is.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        if rest {
            let range = HeaderValue::try_from(format!("bytes={}-", self.offset));
            headers.extend(range.map(|range| (header::RANGE, range)));
            let etag = self.known.as_ref().and_then(Version::strong_etag).map(HeaderValue::from_str);
            headers.extend(etag.and_then(Result::ok).map(|etag| (header::IF_RANGE, etag)));
        }
        Request {
            method: Method::GET,
            url: url.as_str().to_owned(),
            headers,
            body: Body::Empty,
            timeout: STALL_BOUND,
            answer_bytes: ANSWER_BYTES,
        }
    }

    /// The digest of everything that was taken.
    async fn so_far(&mut self) -> Result<Context, Stop> {
        self.flush().await?;
        let (sender, receiver) = oneshot::channel();
        self.send(Input::Checkpoint(sender)).await?;
        // The other side works on what it has and then answers, or is gone.
        receiver.await.map_err(|_| Stop::NobodyListens)
    }

    /// Takes a body in, to its end.
    async fn take(
        &mut self,
        mut body: futures_util::stream::BoxStream<'static, Result<Bytes, TransportError>>,
        version: Version,
        mut repeat: Option<Repeat>,
    ) -> Result<Attempt, Stop> {
        let total = version.total;
        if self.known.is_none() {
            self.send(Input::Begin { gzip: version.gzip }).await?;
        }
        // What may be another version counts as this one only once it has shown the same beginning.
        let mut unproven = Some(version);
        if repeat.is_none() {
            self.known = unproven.take();
        }
        self.count.total.store(total.unwrap_or(u64::MAX), Ordering::Relaxed);
        loop {
            let mut piece = match tokio::time::timeout(STALL_BOUND, body.next()).await {
                Err(_) => return Ok(Attempt::Again(format!("no byte came for {} s", STALL_BOUND.as_secs()), None)),
                Ok(Some(Err(error))) => return Ok(Attempt::Again(error.to_string(), None)),
                Ok(None) => break,
                Ok(Some(Ok(piece))) => piece,
            };
            if let Some(again) = &mut repeat {
                let old = piece.len().min(usize::try_from(again.left).unwrap_or(usize::MAX));
                again.digest.update(&piece[..old]);
                again.left -= old as u64;
                piece.advance(old);
                if let Some(done) = repeat.take_if(|again| again.left == 0) {
                    if done.digest.finish().as_ref() != done.expected.finish().as_ref() {
                        let why = format!("{}: it changed while it was fetched", self.shown);
                        return Err(ContentError::unreachable(why).into());
                    }
                    self.known = unproven.take().or(self.known.take());
                }
            }
            if piece.is_empty() {
                continue;
            }
            self.offset += piece.len() as u64;
            if self.offset > LARGEST_BYTES {
                return Err(self.never("it is larger than 64 GiB").into());
            }
            self.count.bytes.store(self.offset, Ordering::Relaxed);
            self.batch_bytes += piece.len();
            self.batch.push(piece);
            if self.batch_bytes >= BATCH_BYTES {
                self.flush().await?;
            }
        }
        match total {
            _ if repeat.is_some() => Ok(Attempt::Again("it is shorter than before".to_owned(), None)),
            Some(total) if total != self.offset => Ok(Attempt::Again(format!("{} of {total} bytes came", self.offset), None)),
            _ => Ok(Attempt::Complete),
        }
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() { Ok(()) } else { self.send(Input::Pieces(batch)).await }
    }

    async fn send(&self, input: Input) -> Result<(), Stop> {
        self.out.send(input).await.map_err(|_| Stop::NobodyListens)
    }
}
