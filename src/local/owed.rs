//! What a connection owes its client: answers to calls that have begun, down to their last byte.
//!
//! ```text
//!  nothing ──the head of a request is complete──▶ a call ──its answer has been handed to hyper──▶ bytes ──all are out──▶ nothing
//! ```
//! A server that closes waits for what is owed, and for nothing else: who is in the middle of saying what it wants is owed nothing yet.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::Request;
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    service::Service,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What one connection owes. Clones are about the same connection, which is driven by one task.
#[derive(Clone, Default)]
pub(crate) struct Owed {
    calls: Arc<AtomicUsize>,
    unsent: Arc<AtomicBool>,
}

impl Owed {
    /// Whether it owes anything. True only for as long as its task is not woken.
    pub(crate) fn any(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > 0 || self.unsent.load(Ordering::Relaxed)
    }

    /// The service, whose calls are counted.
    pub(crate) fn counted<S>(&self, service: S) -> Counted<S> {
        Counted { service, owed: self.clone() }
    }

    /// The stream, of which it is known whether all that was written is out.
    pub(crate) fn watched<S>(&self, stream: S) -> Watched<S> {
        Watched { stream, unsent: Arc::clone(&self.unsent) }
    }

    fn begin(&self) -> Begun {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Begun(Arc::clone(&self.calls))
    }
}

/// A call of which the answer is not all written.
struct Begun(Arc<AtomicUsize>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A service whose calls are counted until their answers have been handed out.
pub(crate) struct Counted<S> {
    service: S,
    owed: Owed,
}

impl<S> Service<Request<Incoming>> for Counted<S>
where
    S: Service<Request<Incoming>, Response = Response>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (begun, answer) = (self.owed.begin(), self.service.call(request));
        Box::pin(async move { Ok(answer.await?.map(|body| Body::new(Answer { body, _begun: begun }))) })
    }
}

/// A body that is owed until it is dropped.
struct Answer {
    body: Body,
    _begun: Begun,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream of which it is known whether its other side takes what is written.
pub(crate) struct Watched<S> {
    stream: S,
    unsent: Arc<AtomicBool>,
}

impl<S> Watched<S> {
    /// The stream itself.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    fn see<T>(&self, poll: Poll<T>) -> Poll<T> {
        self.unsent.store(poll.is_pending(), Ordering::Relaxed);
        Poll::Ready(ready!(poll))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.see(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.see(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.see(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
