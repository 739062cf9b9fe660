//! A queue and a store behind one socket. Each request gets what the test says, down to a connection that breaks.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::super::Artifact;
use crate::{
    api::{Credentials, CredentialsCell, HttpTransport, RetryPolicy, Secret, Services},
    seam::{SystemClock, SystemRandom},
};

/// A request.
pub(super) struct Request {
    /// Path and query.
    pub(super) path: String,
    /// The headers, in lower case.
    pub(super) head: String,
    /// `http://address`
    pub(super) base: String,
}

impl Request {
    /// Whether it asks for the bytes.
    pub(super) fn is_store(&self) -> bool {
        self.path.starts_with("/store/")
    }

    /// The first byte of the range that it asks for.
    pub(super) fn from(&self) -> Option<usize> {
        self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
    }

    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.split_once(": ").filter(|(known, _)| *known == name).map(|(_, value)| value))
    }

    /// The queue's answer that leads to the store.
    pub(super) fn locate(&self) -> Reply {
        let answer = serde_json::json!({ "storageType": "s3", "url": format!("{}/store/x", self.base) });
        Reply::new(200, answer.to_string().into_bytes())
    }
}

/// What is done with a request.
pub(super) struct Reply {
    head: String,
    body: Vec<u8>,
    length: Option<usize>,
    cut_after: usize,
    slowly: bool,
}

impl Reply {
    pub(super) fn new(status: u16, body: Vec<u8>) -> Self {
        let length = Some(body.len());
        Self { head: format!("HTTP/1.1 {status} Said\r\n"), cut_after: body.len(), body, length, slowly: false }
    }

    /// All of `body`, or the part of it that was asked for.
    pub(super) fn part(request: &Request, body: &[u8]) -> Self {
        match request.from() {
            Some(from) if from < body.len() => Self::new(206, body[from..].to_vec()).with(&format!(
                "content-range: bytes {from}-{}/{}",
                body.len() - 1,
                body.len()
            )),
            Some(_) => Self::new(416, Vec::new()).with(&format!("content-range: bytes */{}", body.len())),
            None => Self::new(200, body.to_vec()),
        }
    }

    pub(super) fn with(mut self, header: &str) -> Self {
        self.head += header;
        self.head += "\r\n";
        self
    }

    /// The connection breaks after this much of the body.
    pub(super) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = bytes.min(self.body.len());
        self
    }

    /// Nothing says how long it is: it ends with the connection.
    pub(super) fn unmeasured(mut self) -> Self {
        self.length = None;
        self
    }

    /// It says that it is this long.
    pub(super) fn claims(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    /// It takes its time.
    pub(super) fn slowly(mut self) -> Self {
        self.slowly = true;
        self
    }
}

type Script = Box<dyn FnMut(usize, &Request) -> Reply + Send>;

/// The server; it ends when it is dropped.
pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// `script` gets the number of the request to the store, from 0, and the request.
    pub(super) async fn start(script: impl FnMut(usize, &Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let open = Arc::new(AtomicUsize::new(0));
        let shared = Arc::new((Mutex::new((0, Box::new(script) as Script)), Arc::clone(&seen)));
        let connections = Arc::clone(&open);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, open) = (Arc::clone(&shared), Arc::clone(&connections));
                open.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    // That connections break is what this is about.
                    drop(serve(stream, &format!("http://{address}"), &shared.0, &shared.1).await);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, seen, open, task }
    }

    /// A store that has these bytes and knows ranges.
    pub(super) async fn files(body: Vec<u8>) -> Self {
        Self::start(move |_, request| if request.is_store() { Reply::part(request, &body) } else { request.locate() }).await
    }

    /// The artifact that it has, for somebody of little patience.
    pub(super) fn artifact(&self) -> Artifact {
        let transport = Arc::new(HttpTransport::new(None, true).expect("a transport"));
        let services =
            Services::new(&format!("http://{}", self.address), transport, Arc::new(SystemClock), Arc::new(SystemRandom))
                .expect("services")
                .with_retry(RetryPolicy {
                    first: Duration::from_millis(2),
                    longest: Duration::from_millis(20),
                    total: Duration::from_millis(300),
                });
        let credentials = Credentials { client_id: "task".to_owned(), access_token: Secret::new("hush"), certificate: None };
        Artifact {
            queue: services.queue(CredentialsCell::new(credentials)),
            task_id: "fZ42HVdDQ-KFFycr9PxptA".to_owned(),
            run_id: 0,
            name: "private/image.tar".to_owned(),
        }
    }

    /// How many requests had this in their path.
    pub(super) fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|line| line.contains(part)).count()
    }

    /// Path, range and `If-Range` of all requests.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn open_connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    base: &str,
    script: &Mutex<(usize, Script)>,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let path = String::from_utf8_lossy(&head).split_whitespace().nth(1).unwrap_or_default().to_owned();
    let request = Request { path, head: text.replace('\r', ""), base: base.to_owned() };
    let note = |name: &str| request.header(name).unwrap_or("-").to_owned();
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(format!(
        "{} {} {}",
        request.path,
        note("range"),
        note("if-range")
    ));
    let reply = {
        let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
        let number = script.0;
        script.0 += usize::from(request.is_store());
        (script.1)(number, &request)
    };
    let length = reply.length.map(|length| format!("content-length: {length}\r\n")).unwrap_or_default();
    stream.write_all(format!("{}{length}connection: close\r\n\r\n", reply.head).as_bytes()).await?;
    for piece in reply.body[..reply.cut_after].chunks(64 << 10) {
        stream.write_all(piece).await?;
        if reply.slowly {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    stream.shutdown().await
}
