//! Answers that break HTTP. The service hands them out as an error, which makes hyper leave the connection; then they are written by hand
//! and the connection is closed.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// How long a client may take to receive the next piece of a broken answer.
const STALL: Duration = Duration::from_secs(60);

/// How HTTP is broken. Travels with an answer, whose body it goes before.
#[derive(Debug, Clone)]
pub(crate) enum Breach {
    /// There is no answer.
    Silence,
    /// These bytes, and then as much of the body.
    Raw { head: Bytes, limit: Option<u64> },
}

impl Breach {
    /// This breach without a body.
    pub(crate) fn answer(self) -> Response {
        self.before(Response::new(Body::empty()))
    }

    /// An answer of which only so many bytes of the body come.
    pub(crate) fn cut(response: Response, length: Option<u64>, limit: u64) -> Response {
        // An answer without a body is missed only if there should be one.
        let announced = length.filter(|length| *length > limit).unwrap_or(limit + 1);
        Self::Raw { head: head(&response, announced), limit: Some(limit) }.before(response)
    }

    /// An answer whose Content-Length is this.
    pub(crate) fn with_length(response: Response, length: u64) -> Response {
        Self::Raw { head: head(&response, length), limit: None }.before(response)
    }

    fn before(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}

fn head(response: &Response, content_length: u64) -> Bytes {
    let status = response.status();
    let mut head = format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("-")).into_bytes();
    for (name, value) in response.headers().iter().filter(|(name, _)| *name != header::CONTENT_LENGTH) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(format!("content-length: {content_length}\r\n\r\n").as_bytes());
    head.into()
}

/// What hyper is told; never seen by anybody.
#[derive(Debug, thiserror::Error)]
#[error("the answer breaks HTTP on purpose")]
pub(crate) struct Broken;

/// A broken answer on its way from the service to the connection.
pub(crate) type Slot = Arc<Mutex<Option<Response>>>;

/// The router as one connection sees it.
pub(crate) struct Breakable {
    router: TowerToHyperService<Router>,
    slot: Slot,
}

impl Breakable {
    pub(crate) fn new(router: Router) -> (Self, Slot) {
        let slot = Slot::default();
        (Self { router: TowerToHyperService::new(router), slot: slot.clone() }, slot)
    }
}

impl Service<Request<Incoming>> for Breakable {
    type Response = Response;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Broken>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (answer, slot) = (self.router.call(request), self.slot.clone());
        Box::pin(async move {
            let Ok(response) = answer.await;
            if response.extensions().get::<Breach>().is_none() {
                return Ok(response);
            }
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(response);
            Err(Broken)
        })
    }
}

/// Writes the broken answer, if that is why hyper left. What the client does about it is its own affair.
pub(crate) async fn finish(slot: &Slot, mut stream: impl AsyncWrite + Unpin) {
    let response = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((response, Breach::Raw { head, limit })) = response.and_then(|mut r| r.extensions_mut().remove().map(|b| (r, b)))
    else {
        return;
    };
    let mut left = limit.unwrap_or(u64::MAX);
    let mut body = std::pin::pin!(response.into_body());
    let mut piece = head;
    loop {
        let written = tokio::time::timeout(STALL, stream.write_all(&piece)).await;
        if !matches!(written, Ok(Ok(()))) || left == 0 {
            break;
        }
        let Some(Ok(frame)) = body.frame().await else { break };
        piece = frame.into_data().unwrap_or_default();
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= piece.len() as u64;
    }
    // A client that is gone needs no end.
    let _ = tokio::time::timeout(STALL, stream.shutdown()).await;
}
