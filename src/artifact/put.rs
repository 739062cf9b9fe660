//! One upload: an artifact is created, its bytes are sent, and sent again until the store has them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Method, header};
use jiff::Timestamp;
use tc_engine::ReadError;
use tokio::time::Instant;

use super::{
    body::{Body, Progress},
    place::{Place, create},
};
use crate::{
    api::{self, ANSWER_BYTES, ApiError, NewArtifact, Queue, Secret, TransportError},
    log::format::one_line,
};

/// An attempt whose bytes stand still for this long is broken off.
const STALL_BOUND: Duration = Duration::from_secs(120);
/// One attempt may take this long, and longer by a second for each [`SLOWEST_BYTES_PER_SEC`].
const ATTEMPT_BASE: Duration = Duration::from_secs(600);
/// A network slower than this is not waited for.
const SLOWEST_BYTES_PER_SEC: u64 = 10 << 10;
/// No attempt begins once attempts have failed for this long, the time of transfers not counted.
const FAILING_BOUND: Duration = Duration::from_secs(900);
/// First wait after a failed attempt.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait after a failed attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A URL older than this is replaced before it is used again; stores let them expire after 45 minutes.
const URL_AGE: Duration = Duration::from_secs(1800);
/// How often a store may refuse a URL that is fresh, or send us elsewhere.
const REFUSALS: u32 = 3;
/// How often the way to the bytes may break.
const LOSSES: u32 = 8;
/// An attempt that moved at least this much was no failure to move bytes, however long it took.
const MOVED_BYTES: u64 = 1 << 20;

/// Where an artifact goes.
#[derive(Clone)]
pub struct Target {
    /// The queue, with the run's newest credentials.
    pub queue: Queue,
    /// The task.
    pub task_id: String,
    /// Its run.
    pub run_id: u32,
    /// Whether bytes go to the object service. They must not be encoded then.
    pub objects: bool,
}

/// Why an artifact was not published.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The queue refuses it because of what it knows: the run has ended, or the name is taken.
    #[error("{0}")]
    Conflict(ApiError),
    /// The queue does not take a request like this.
    #[error("{0}")]
    Refused(ApiError),
    /// The queue, the store or the engine failed, in spite of all attempts.
    #[error("{0}")]
    Service(String),
    /// The bytes could not be read, or were others at a second reading.
    #[error("{0}")]
    Changed(String),
}

impl From<ApiError> for UploadError {
    fn from(error: ApiError) -> Self {
        match error.status() {
            Some(409) => Self::Conflict(error),
            Some(400) => Self::Refused(error),
            _ => Self::Service(error.to_string()),
        }
    }
}

/// What a store said about one attempt.
enum Answer {
    Stored,
    /// The URL is not good any more.
    UrlRefused(String),
    /// The bytes belong elsewhere.
    Moved(Secret),
    /// It may work next time.
    Again(String),
    Never(String),
}

/// Publishes bytes under a name. Returns the SHA-256 of the bytes before encoding.
pub async fn publish(
    target: &Target,
    name: &str,
    content_type: &str,
    expires: Timestamp,
    body: &Body,
) -> Result<[u8; 32], UploadError> {
    let (content_type, content_length) = (content_type.to_owned(), body.plain_bytes());
    let artifact = if target.objects {
        NewArtifact::Object { content_type, content_length, expires }
    } else {
        NewArtifact::S3 { content_type, content_length, expires }
    };
    let mut place = create(target, name, &artifact, body).await?;
    let (mut wait, mut failing, mut refusals, mut losses) = (FIRST_WAIT, Duration::ZERO, 0, 0);
    loop {
        // The bytes first: a stream may have to wait for other streams, and the URL is not to grow old meanwhile.
        let attempt = body.attempt().await;
        if attempt.is_ok() && place.since.elapsed() > URL_AGE {
            place = create(target, name, &artifact, body).await?;
        }
        let began = Instant::now();
        let (answer, progress) = match attempt {
            Ok(attempt) => (put(target, &place, attempt.stream, body, &attempt.progress).await, attempt.progress),
            Err(error) => (Answer::Again(error.to_string()), Progress::failed(error)),
        };
        match progress.broken() {
            None => {}
            Some(ReadError::Broken(why)) => return Err(UploadError::Changed(why.clone())),
            // Says nothing of the store, and has its own patience.
            Some(ReadError::Lost(why)) => {
                losses += 1;
                after_loss(losses, name, why.clone()).await?;
                continue;
            }
        }
        let why = match (answer, progress.digest()) {
            (Answer::Stored, Some(digest)) if progress.taken() == body.bytes() => {
                place.finish(target, name, &digest).await?;
                return Ok(body.plain_digest(digest));
            }
            // A store that is content before it has everything has something else.
            (Answer::Stored, _) => "the store answered before it had all bytes".to_owned(),
            (Answer::Never(why), _) => return Err(UploadError::Service(why)),
            (Answer::Moved(elsewhere), _) if refusals < REFUSALS => {
                refusals += 1;
                place.url = elsewhere;
                continue;
            }
            (Answer::Moved(_), _) => return Err(UploadError::Service("the store sends the upload in circles".to_owned())),
            (Answer::UrlRefused(why), _) => {
                // That an old one is refused is only natural.
                refusals += u32::from(place.since.elapsed() < URL_AGE);
                if refusals >= REFUSALS {
                    return Err(UploadError::Service(why));
                }
                place = create(target, name, &artifact, body).await?;
                why
            }
            (Answer::Again(why), _) => why,
        };
        failing += if progress.taken() >= MOVED_BYTES { wait } else { began.elapsed() + wait };
        if failing > FAILING_BOUND {
            return Err(UploadError::Service(why));
        }
        tracing::info!("Upload of {} did not succeed, will try again: {why}", one_line(name));
        tokio::time::sleep(wait.mul_f64(0.5 + target.queue.services().random().fraction())).await;
        wait = wait.mul_f64(1.5).min(LONGEST_WAIT);
    }
}

/// Waits after the way to the bytes broke for the n-th time, or gives up. Says nothing of the store.
pub(super) async fn after_loss(losses: u32, name: &str, why: String) -> Result<(), UploadError> {
    if losses > LOSSES {
        return Err(UploadError::Service(why));
    }
    tracing::info!("Artifact {} could not be read, will try again: {why}", one_line(name));
    tokio::time::sleep(FIRST_WAIT.mul_f64(1.5_f64.powi(losses.cast_signed() - 1)).min(LONGEST_WAIT)).await;
    Ok(())
}

async fn put(
    target: &Target,
    to: &Place,
    mut stream: futures_util::stream::BoxStream<'static, std::io::Result<Bytes>>,
    body: &Body,
    progress: &Progress,
) -> Answer {
    let mut headers = to.headers.clone();
    // Said also where it is nothing; the client would leave it out then.
    headers.insert(header::CONTENT_LENGTH, body.bytes().into());
    let payload = if body.is_small() {
        match stream.next().await {
            Some(Ok(bytes)) => api::Body::Bytes(bytes),
            Some(Err(error)) => return Answer::Again(error.to_string()),
            None => api::Body::Empty,
        }
    } else {
        api::Body::Stream { stream, length: body.bytes() }
    };
    let timeout = ATTEMPT_BASE + Duration::from_secs(body.bytes() / SLOWEST_BYTES_PER_SEC);
    let request = api::Request {
        method: Method::PUT,
        url: to.url.expose().to_owned(),
        headers,
        body: payload,
        timeout,
        answer_bytes: ANSWER_BYTES,
    };
    let sent = tokio::select! {
        biased; // An answer counts, however late.
        sent = target.queue.services().transport().send(request) => sent,
        () = stalled(progress) => return Answer::Again(format!("no byte moved for {} s", STALL_BOUND.as_secs())),
    };
    match sent {
        Ok(response) => match response.status {
            200..=299 => Answer::Stored,
            307 | 308 => match response.headers.get(header::LOCATION).and_then(|to| to.to_str().ok()) {
                Some(to) if to.starts_with("http") => Answer::Moved(Secret::new(to)),
                _ => Answer::Never(format!("the store sends the upload nowhere: HTTP status {}", response.status)),
            },
            status @ (401 | 403) => Answer::UrlRefused(format!("the store refused the upload: HTTP status {status}")),
            // Stores answer 400 also when a connection stood idle for too long.
            status @ (400 | 408 | 429 | 500..) => Answer::Again(format!("the store answered with HTTP status {status}")),
            status => Answer::Never(format!("the store refused the upload: HTTP status {status}")),
        },
        Err(TransportError::Request(why)) => Answer::Never(format!("upload: {why}")),
        Err(error) => Answer::Again(format!("upload: {error}")),
    }
}

/// Waits until no byte has moved for too long.
async fn stalled(progress: &Progress) {
    let mut last = progress.taken();
    loop {
        tokio::time::sleep(STALL_BOUND).await;
        let now = progress.taken();
        if now == last {
            return;
        }
        last = now;
    }
}
