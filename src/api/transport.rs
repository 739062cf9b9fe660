//! The seam to the network: one request out, one bounded answer back.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream::BoxStream};
use http::{HeaderMap, Method};
use jiff::Timestamp;

/// Largest body of an answer that most calls take in, in bytes. Task definitions are at most a few megabytes.
pub const ANSWER_BYTES: usize = 32 << 20;
/// As much as is read of the body of an answer that refuses; the rest is left unread.
const REFUSAL_BOUND: usize = 64 << 10;
/// Longest time until a connection stands.
const CONNECT_BOUND: Duration = Duration::from_secs(30);
/// How long an unused connection is kept. Servers of deployments keep theirs for a minute and more.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);
/// Unused connections that are kept for each server; as many as uploads run at a time.
const IDLE_CONNECTIONS: usize = 16;

/// What is sent.
pub struct Request {
    /// The method.
    pub method: Method,
    /// The absolute URL, as it was signed.
    pub url: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// Longest time until the whole answer is there.
    pub timeout: Duration,
    /// Largest body of an answer that is taken in, in bytes.
    pub answer_bytes: usize,
}

/// A body to send.
pub enum Body {
    /// None.
    Empty,
    /// These bytes.
    Bytes(Bytes),
    /// A stream of exactly this many bytes; an error in it breaks the request off.
    Stream {
        /// The bytes.
        stream: BoxStream<'static, std::io::Result<Bytes>>,
        /// How many there are.
        length: u64,
    },
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

impl Response {
    /// The server's own time, to a second.
    pub fn date(&self) -> Option<Timestamp> {
        http_date(self.headers.get(http::header::DATE)?.to_str().ok()?)
    }
}

/// A date as headers carry it.
pub(super) fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text.trim()).ok().map(|zoned| zoned.timestamp())
}

/// An answer whose body is still on its way.
pub struct Opened {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as it comes. It has no bound: who reads it sets one for its size and for each wait.
    pub body: BoxStream<'static, Result<Bytes, TransportError>>,
}

/// Why nothing came back.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// Not in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The connection failed or broke.
    #[error("{0}")]
    Connection(String),
    /// More than is taken in.
    #[error("the answer is larger than is taken in")]
    TooLarge,
    /// The request itself cannot be sent.
    #[error("{0}")]
    Request(String),
}

/// Sends requests.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends one request, follows no redirect, and takes the whole answer in.
    async fn send(&self, request: Request) -> Result<Response, TransportError>;

    /// Sends one request, follows no redirect, and returns when the head of the answer is there; the request's timeout and
    /// bound hold up to there only. The body is not decoded.
    async fn open(&self, request: Request) -> Result<Opened, TransportError> {
        let Response { status, headers, body } = self.send(request).await?;
        let body = futures_util::stream::iter([Ok(body)]).boxed();
        Ok(Opened { status, headers, body })
    }
}

/// HTTP and HTTPS over the machine's network.
pub struct HttpTransport(reqwest::Client);

impl HttpTransport {
    /// A transport that trusts the system's certificates and those in `ca_file` (PEM). With `direct`, proxy variables of the
    /// environment do not apply.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate.
    pub fn new(ca_file: Option<&Path>, direct: bool) -> Result<Self, String> {
        let own = match ca_file {
            None => Vec::new(),
            Some(path) => {
                let pem = fs_err::read(path).map_err(|e| e.to_string())?;
                let own = reqwest::Certificate::from_pem_bundle(&pem)
                    .map_err(|e| format!("read certificates from {}: {e}", path.display()))?;
                if own.is_empty() {
                    return Err(format!("{} holds no certificate in PEM form", path.display()));
                }
                own
            }
        };
        let builder = || {
            let builder = reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                // HTTP/1 counts the bytes of a body itself and breaks off one that is too short, and a claim that waits
                // does not share its connection with an upload.
                .http1_only()
                .connect_timeout(CONNECT_BOUND)
                .pool_idle_timeout(IDLE_CONNECTION)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .tcp_nodelay(true)
                .user_agent(concat!("tc-worker/", env!("CARGO_PKG_VERSION")));
            if direct { builder.no_proxy() } else { builder }
        };
        let with_system = if own.is_empty() { builder() } else { builder().tls_certs_merge(own.clone()) };
        let client = match with_system.build() {
            Ok(client) => client,
            // A machine without any certificates of its own still reaches queues over http, its own embedded one above all.
            Err(error) => {
                tracing::warn!("Could not load the system's certificates, none of them is trusted: {}", chain(&error));
                builder().tls_certs_only(own).build().map_err(|e| format!("set up https: {}", chain(&e)))?
            }
        };
        Ok(Self(client))
    }

    fn build(&self, request: Request) -> reqwest::RequestBuilder {
        let Request { method, url, mut headers, body, .. } = request;
        if let Body::Stream { length, .. } = &body {
            headers.insert(http::header::CONTENT_LENGTH, (*length).into());
        }
        let body = match body {
            Body::Empty if matches!(method, Method::POST | Method::PUT) => reqwest::Body::from(Bytes::new()),
            Body::Empty => reqwest::Body::default(),
            Body::Bytes(bytes) => reqwest::Body::from(bytes),
            Body::Stream { stream, .. } => reqwest::Body::wrap_stream(stream),
        };
        self.0.request(method, url).headers(headers).body(body)
    }
}

/// An error with its causes, without the URL, which may hold a secret.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn failure(error: reqwest::Error, timeout: Duration) -> TransportError {
    if error.is_timeout() && !error.is_connect() {
        return TransportError::Timeout(timeout);
    }
    let builder = error.is_builder();
    let text = chain(&error.without_url());
    if builder { TransportError::Request(text) } else { TransportError::Connection(text) }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let (timeout, answer_bytes) = (request.timeout, request.answer_bytes);
        let response = self.build(request).timeout(timeout).send().await.map_err(|e| failure(e, timeout))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut whole = BytesMut::new();
        let mut stream = response.bytes_stream();
        let refused = status >= 400;
        // The request's own timeout covers the body too.
        while let Some(chunk) = stream.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                // The status says what has to be known.
                Err(_) if refused => break,
                Err(error) => return Err(failure(error, timeout)),
            };
            if refused && whole.len() + chunk.len() > REFUSAL_BOUND {
                whole.extend_from_slice(&chunk[..REFUSAL_BOUND - whole.len()]);
                break;
            }
            if whole.len() + chunk.len() > answer_bytes {
                return Err(TransportError::TooLarge);
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(Response { status, headers, body: whole.freeze() })
    }

    async fn open(&self, request: Request) -> Result<Opened, TransportError> {
        let timeout = request.timeout;
        let sent = tokio::time::timeout(timeout, self.build(request).send()).await;
        let response = sent.map_err(|_| TransportError::Timeout(timeout))?.map_err(|e| failure(e, timeout))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes_stream().map(move |chunk| chunk.map_err(|e| failure(e, timeout))).boxed();
        Ok(Opened { status, headers, body })
    }
}
