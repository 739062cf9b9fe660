//! A transport that answers from a script. With a paused clock it shows in milliseconds what a service does in an hour.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::time::Instant;

use super::transport::{Body, Request, Response, Transport, TransportError};

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// Its method.
    pub method: Method,
    /// Its URL.
    pub url: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}

/// What a service does with a request.
#[derive(Debug, Clone)]
pub enum Step {
    /// It answers.
    Answer(Response),
    /// It answers after a while.
    Late(Duration, Response),
    /// The connection fails.
    Fail(TransportError),
    /// It accepts the request and never answers.
    Silence,
}

impl Step {
    /// An answer with this status and body.
    pub fn answer(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Answer(Response { status, headers: HeaderMap::new(), body: body.into() })
    }

    /// An answer with this status and body, and one header.
    pub fn answer_with(status: u16, body: impl Into<Bytes>, name: HeaderName, value: HeaderValue) -> Self {
        let headers = HeaderMap::from_iter([(name, value)]);
        Self::Answer(Response { status, headers, body: body.into() })
    }

    /// A connection that breaks.
    pub fn cut() -> Self {
        Self::Fail(TransportError::Connection("connection reset".to_owned()))
    }
}

/// Decides what is done with a request.
type Script = Box<dyn FnMut(&Seen) -> Step + Send>;

/// The transport.
pub struct Scripted {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
}

impl Scripted {
    /// A service that does with each request what `script` says.
    pub fn new(script: impl FnMut(&Seen) -> Step + Send + 'static) -> Self {
        Self { script: Mutex::new(Box::new(script)), seen: Mutex::default() }
    }

    /// A service that does these things one after the other, and fails every request after them.
    pub fn in_order(steps: impl IntoIterator<Item = Step>) -> Self {
        let mut steps = steps.into_iter().collect::<Vec<_>>().into_iter();
        let over = || Step::Fail(TransportError::Request("the script has ended".to_owned()));
        Self::new(move |_| steps.next().unwrap_or_else(over))
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Transport for Scripted {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let Request { method, url, headers, body, timeout, .. } = request;
        let body = whole(body).await.map_err(|e| TransportError::Connection(e.to_string()))?;
        let seen = Seen { at: Instant::now(), method, url, headers, body };
        let step = (self.script.lock().unwrap_or_else(PoisonError::into_inner))(&seen);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        let (after, response) = match step {
            Step::Answer(response) => return Ok(response),
            Step::Fail(error) => return Err(error),
            Step::Late(after, response) if after < timeout => (after, Some(response)),
            Step::Late(..) | Step::Silence => (timeout, None),
        };
        tokio::time::sleep(after).await;
        response.ok_or(TransportError::Timeout(timeout))
    }
}

/// The bytes of a body. As on a real connection, one that is shorter than it says is an error.
async fn whole(body: Body) -> io::Result<Bytes> {
    let (mut stream, length) = match body {
        Body::Empty => return Ok(Bytes::new()),
        Body::Bytes(bytes) => return Ok(bytes),
        Body::Stream { stream, length } => (stream, length),
    };
    let mut whole = BytesMut::new();
    while (whole.len() as u64) < length {
        match stream.next().await {
            Some(piece) => whole.extend_from_slice(&piece?),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Ok(whole.freeze())
}
