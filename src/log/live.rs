//! The live log: task logs over HTTP while their tasks run, each behind a secret path.
//!
//! `GET /log/<secret>` answers with the whole log from its first byte and follows it to the seal. A client that does not read
//! costs its socket and one piece of the log, nothing else; the task never waits for it. While the run lasts it may rest as long
//! as it likes; after the seal it has to make progress, or the file of the log could never be freed.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{Either, Full, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{LogReader, TaskLog, spool::Spool};
use crate::seam::Random;

/// A request has no more to say than a path, so it has to be said in this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head of a request, and how much of an answer is queued before the next piece of the log is read.
const BUFFER_BYTES: usize = 16 << 10;

/// Enough for 2 MB/s at a distance of 100 ms; bounds what the kernel keeps for a client that does not read.
const SEND_BUFFER_BYTES: u32 = 256 << 10;

/// More clients at a time wait in the backlog. This bounds memory and file descriptors, not use: nobody reads a log a thousandfold.
const CLIENTS: usize = 1000;

const BACKLOG: u32 = 128;

/// After a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Once the log is sealed, a client has to take a piece in this time.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two full pieces while the task runs. A reader that has to catch up is thus held to 64 MB/s, far more than anybody can
/// read, and leaves the processors to the task.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(1);

const SECRET_BYTES: usize = 32;

type Answer = Response<Either<Full<Bytes>, LiveBody>>;
type LiveBody = std::pin::Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>>;

/// Serves the logs that are published on it, on one port.
pub struct LiveServer {
    shelf: Arc<Shelf>,
    address: SocketAddr,
    random: Arc<dyn Random>,
    accepting: tokio::task::JoinHandle<()>,
    close: Option<oneshot::Sender<()>>,
}

/// The logs that can be read, by the digest of their secret: looking one up takes a time that says nothing about the secret.
#[derive(Default)]
struct Shelf {
    logs: Mutex<HashMap<[u8; 32], Arc<Spool>>>,
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Spool>>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log can be read as long as this exists; who reads it already gets the rest in any case. Its path is a secret.
pub struct Published {
    shelf: Arc<Shelf>,
    key: [u8; 32],
    path: String,
}

impl LiveServer {
    /// Listens on this address; port 0 chooses one.
    #[expect(clippy::unused_async, reason = "it has to be called inside a runtime, and so it says so")]
    pub async fn bind(address: SocketAddr, random: Arc<dyn Random>) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit both. Keep-alive finds clients that vanished while their task was silent.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.set_keepalive(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let shelf = Arc::new(Shelf::default());
        let (close, closing) = oneshot::channel();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shelf), closing));
        Ok(Self { shelf, address, random, accepting, close: Some(close) })
    }

    /// Listens on all addresses of this machine, IPv4 only where there is no IPv6.
    pub async fn bind_all(port: u16, random: Arc<dyn Random>) -> io::Result<Self> {
        match Self::bind((Ipv6Addr::UNSPECIFIED, port).into(), Arc::clone(&random)).await {
            Ok(server) => Ok(server),
            Err(_) => Self::bind((Ipv4Addr::UNSPECIFIED, port).into(), random).await,
        }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Makes a log readable at a new secret path.
    pub fn publish(&self, log: &Arc<TaskLog>) -> Published {
        let mut secret = [0; SECRET_BYTES];
        self.random.fill(&mut secret);
        let secret = BASE64_URL_SAFE_NO_PAD.encode(secret);
        let key = key(&secret);
        self.shelf.lock().insert(key, Arc::clone(&log.spool));
        Published { shelf: Arc::clone(&self.shelf), key, path: format!("/log/{secret}") }
    }

    /// Stops listening, and lets the clients that are connected read on for at most this time.
    pub async fn close(mut self, within: Duration) {
        if let Some(close) = self.close.take() {
            // If the other side is gone, so are the clients.
            let _ = close.send(());
        }
        let _ = timeout(within, &mut self.accepting).await;
    }
}

impl Drop for LiveServer {
    fn drop(&mut self) {
        // The clients belong to that task and end with it.
        self.accepting.abort();
    }
}

impl Published {
    /// `/log/<secret>`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.shelf.lock().remove(&self.key);
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Published(/log/..)")
    }
}

impl fmt::Debug for LiveServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveServer").field("address", &self.address).finish_non_exhaustive()
    }
}

fn key(secret: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    key
}

async fn accept(listener: TcpListener, shelf: Arc<Shelf>, mut closing: oneshot::Receiver<()>) {
    let mut clients = JoinSet::new();
    loop {
        // Endings first, so that their room is free for the next client. Closing has no hurry.
        tokio::select! {
            biased;
            Some(ended) = clients.join_next() => report(ended),
            _ = &mut closing => break,
            accepted = listener.accept(), if clients.len() < CLIENTS => match accepted {
                Ok((stream, _)) => drop(clients.spawn(serve(stream, Arc::clone(&shelf)))),
                Err(e) => {
                    tracing::debug!("accept a reader of a live log: {e}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    // Bounded by whoever closes the server.
    while let Some(ended) = clients.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(e) = ended {
        tracing::warn!("a reader of a live log ended badly: {e}");
    }
}

/// What one client reads, and how far it got.
#[derive(Default)]
struct Seat {
    spool: OnceLock<Arc<Spool>>,
    pieces: AtomicU64,
}

async fn serve(stream: TcpStream, shelf: Arc<Shelf>) {
    // Only delays small pieces, if it fails.
    let _ = stream.set_nodelay(true);
    let seat = Arc::new(Seat::default());
    let service = service_fn(|request| {
        let answer = answer(&request, &shelf, &seat);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        // A client that goes away early is no news.
        _ = connection => {}
        () = stalled(&seat) => {}
    }
}

/// Resolves when the client of a sealed log takes nothing any more.
async fn stalled(seat: &Seat) {
    let mut seen = None;
    loop {
        sleep(PROGRESS_TIMEOUT).await;
        let sealed = seat.spool.get().is_some_and(|spool| spool.is_sealed());
        let pieces = sealed.then(|| seat.pieces.load(Ordering::Relaxed));
        if pieces.is_some() && pieces == seen {
            return;
        }
        seen = pieces;
    }
}

fn answer(request: &Request<Incoming>, shelf: &Shelf, seat: &Arc<Seat>) -> Answer {
    let Some(secret) = request.uri().path().strip_prefix("/log/") else {
        return refusal(StatusCode::NOT_FOUND, "Not found\n");
    };
    let Some(spool) = shelf.lock().get(&key(secret)).cloned() else {
        return refusal(StatusCode::UNAUTHORIZED, "Access denied\n");
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "A log can only be read\n");
    }
    let spool = seat.spool.get_or_init(|| spool);
    let reader = LogReader::new(Arc::clone(spool));
    let pieces = stream::unfold((reader, Arc::clone(spool), Arc::clone(seat)), |(mut reader, spool, seat)| async {
        if seat.pieces.fetch_add(1, Ordering::Relaxed) > 0 && reader.has_full_piece() && !spool.is_sealed() {
            sleep(CATCH_UP_PAUSE).await;
        }
        let piece = reader.next().await.transpose()?;
        Some((piece.map(Frame::data), (reader, spool, seat)))
    });
    let body: LiveBody = Box::pin(StreamBody::new(pieces));
    let mut answer = Response::new(Either::Right(body));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, header::HeaderValue::from_static("Transfer-Encoding"));
    open_to_all(&mut answer);
    answer
}

fn refusal(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from_static(text.as_bytes()))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    open_to_all(&mut answer);
    answer
}

/// The web interface has another origin. Nothing here depends on cookies: the secret is the permission.
fn open_to_all(answer: &mut Answer) {
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, header::HeaderValue::from_static("*"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
}
