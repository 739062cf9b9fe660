//! A queue's bad day: an HTTP proxy on loopback that lets requests through or spoils them, rule by rule.
//!
//! It speaks one request a connection, so that every rule sees every request.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It goes through.
    Pass,
    /// It goes through after this long.
    Delay(Duration),
    /// It is answered with this status and body.
    Answer(u16, &'static str),
    /// It is answered with 200 and something that is no JSON.
    Garbage,
    /// It is answered with the beginning of a body only.
    HalfBody,
    /// It is never answered.
    Hang,
    /// The connection is closed at once.
    Cut,
    /// The connection is closed after this many bytes of the request's body went through.
    CutUpload(usize),
    /// It goes through, and the answer is lost.
    LoseAnswer,
}

type Rule = Box<dyn FnMut(&str, &str) -> Fate + Send>;

/// The proxy; it ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before `upstream` (`127.0.0.1:port`). `rule` gets method and path of each request.
    pub async fn start(upstream: String, rule: impl FnMut(&str, &str) -> Fate + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen on loopback");
        let address = listener.local_addr().expect("a bound address");
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(rule)));
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (upstream, rule, seen) = (upstream.clone(), Arc::clone(&rule), Arc::clone(&seen));
                    // A connection that breaks is what this is about.
                    tokio::spawn(async move { drop(serve(client, &upstream, &rule, &seen).await) });
                }
            }
        });
        Self { address, seen, task }
    }

    /// The root URL that leads through the proxy.
    pub fn root_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `METHOD /path` of every request so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests so far contain both texts.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|line| line.starts_with(method) && line.contains(part)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, upstream: &str, rule: &Mutex<Rule>, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if head.len() > 64 * 1024 || client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let body = head.split_off(end);
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {path}"));
    let fate = rule.lock().unwrap_or_else(PoisonError::into_inner)(&method, &path);
    let head = one_request(&text);
    match fate {
        Fate::Pass => forward(client, upstream, &head, &body, usize::MAX, true).await,
        Fate::Delay(time) => {
            tokio::time::sleep(time).await;
            forward(client, upstream, &head, &body, usize::MAX, true).await
        }
        Fate::CutUpload(bytes) => forward(client, upstream, &head, &body, bytes, true).await,
        Fate::LoseAnswer => forward(client, upstream, &head, &body, usize::MAX, false).await,
        Fate::Answer(status, reply) => answer(client, status, reply.len(), reply).await,
        Fate::Garbage => answer(client, 200, 11, "{]garbage[}").await,
        Fate::HalfBody => answer(client, 200, 1000, "{\"status\": {").await,
        Fate::Cut => Ok(()),
        Fate::Hang => {
            let mut rest = [0; 4096];
            while client.read(&mut rest).await? > 0 {}
            Ok(())
        }
    }
}

/// The head, changed so that the connection ends with the answer.
fn one_request(head: &str) -> String {
    let lines = head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    lines.chain(["connection: close", "", ""]).collect::<Vec<_>>().join("\r\n")
}

async fn answer(mut client: TcpStream, status: u16, length: usize, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} Spoiled\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(body.as_bytes()).await?;
    client.shutdown().await
}

async fn forward(
    mut client: TcpStream,
    upstream: &str,
    head: &str,
    body: &[u8],
    cut_after: usize,
    with_answer: bool,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(head.as_bytes()).await?;
    if cut_after < usize::MAX {
        let mut sent = body.len().min(cut_after);
        server.write_all(&body[..sent]).await?;
        let mut buffer = vec![0; 16 * 1024];
        while sent < cut_after {
            let n = client.read(&mut buffer).await?;
            if n == 0 {
                break;
            }
            server.write_all(&buffer[..n]).await?;
            sent += n;
        }
        return Ok(());
    }
    server.write_all(body).await?;
    if with_answer {
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        return client.shutdown().await;
    }
    let (mut from_client, _to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut reply = Vec::new();
    tokio::select! {
        biased; // The reply ends it; a client that sends on does not.
        read = from_server.read_to_end(&mut reply) => { read?; }
        copied = tokio::io::copy(&mut from_client, &mut to_server) => { copied?; from_server.read_to_end(&mut reply).await?; }
    }
    Ok(())
}
