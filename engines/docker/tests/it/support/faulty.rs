//! A proxy in front of a Docker engine that spoils what it is told to.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is answered with a status and a message, and never reaches the engine.
    Answer(u16, &'static str),
    /// It is answered with something that is not HTTP.
    Noise,
    /// It is answered with success, and a document that is none.
    Nonsense,
    /// The connection is closed before the engine hears of it.
    DropBefore,
    /// The engine does it, but its answer is not delivered.
    DropAfter,
    /// The engine begins to answer, then the connection is cut.
    CutAnswer,
    /// The engine hears of it so many milliseconds later.
    Late(u64),
    /// Nothing happens, for ever.
    Hang,
    /// The engine does it, and the answer never comes.
    HangAfter,
}

/// Which requests are spoiled, and how often.
#[derive(Debug, Clone)]
pub struct Rule {
    pub method: &'static str,
    /// The end of the path.
    pub path: &'static str,
    pub times: u32,
    pub fault: Fault,
}

/// Runs until it is dropped.
pub struct Proxy {
    pub host: String,
    rules: Arc<Mutex<Vec<Rule>>>,
    server: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Proxy {
    pub fn new(engine: &str, rules: Vec<Rule>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let rules = Arc::new(Mutex::new(rules));
        let (shared, engine) = (Arc::clone(&rules), engine.trim_start_matches("unix://").to_owned());
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (rules, engine) = (Arc::clone(&shared), engine.clone());
                tokio::spawn(async move { drop(serve(client, &engine, &rules).await) });
            }
        });
        Self { host: format!("unix://{}", path.display()), rules, server, _dir: dir }
    }

    /// Adds a rule.
    pub fn spoil(&self, rule: Rule) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    /// Rules that were never used up: a test whose fault did not happen has tested nothing.
    pub fn unused(&self) -> Vec<Rule> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|rule| rule.times > 0).cloned().collect()
    }
}

fn fault_for(head: &str, rules: &Mutex<Vec<Rule>>) -> Option<Fault> {
    let mut words = head.split_whitespace();
    let (method, path) = (words.next()?, words.next()?.split('?').next()?);
    let mut rules = rules.lock().unwrap_or_else(PoisonError::into_inner);
    let rule = rules.iter_mut().find(|rule| rule.times > 0 && rule.method == method && is_meant(path, rule.path))?;
    // A rule without an end stays.
    if rule.times != u32::MAX {
        rule.times -= 1;
    }
    Some(rule.fault.clone())
}

/// `containers/*` is one container, `containers/*/json` what is below one, everything else the end of a path.
fn is_meant(path: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => {
            path.split_once(start).and_then(|(_, rest)| rest.strip_suffix(end)).is_some_and(|rest| !rest.contains('/'))
        }
        None => path.ends_with(pattern),
    }
}

async fn serve(mut client: UnixStream, engine: &str, rules: &Mutex<Vec<Rule>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let head_end = loop {
        if let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&request[..head_end]).into_owned();
    let Some(fault) = fault_for(&head, rules) else {
        return forward(client, engine, &request).await;
    };
    match fault {
        Fault::Answer(status, message) => {
            let body = if status == 304 { String::new() } else { format!("{{\"message\":{message:?}}}") };
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} Fault\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
            client.write_all(answer.as_bytes()).await?;
        }
        Fault::Noise => client.write_all(b"\x00\x01\x02 not at all\r\n\r\n").await?,
        Fault::Nonsense => client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{\"x\":").await?,
        Fault::DropBefore => {}
        Fault::Late(millis) => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            return forward(client, engine, &request).await;
        }
        Fault::Hang => std::future::pending().await,
        Fault::DropAfter | Fault::HangAfter | Fault::CutAnswer => {
            let mut engine = UnixStream::connect(engine).await?;
            let expected = head_end + length_of_body(&head);
            while request.len() < expected && client.read_buf(&mut request).await? > 0 {}
            engine.write_all(&request).await?;
            let mut answer = vec![0; 64 * 1024];
            let read = engine.read(&mut answer).await?;
            match fault {
                Fault::HangAfter => std::future::pending().await,
                Fault::CutAnswer => {
                    client.write_all(&answer[..read]).await?;
                    // The client has to see the beginning as a beginning.
                    client.flush().await?;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

async fn forward(mut client: UnixStream, engine: &str, request: &[u8]) -> std::io::Result<()> {
    let mut engine = UnixStream::connect(engine).await?;
    engine.write_all(request).await?;
    copy_bidirectional(&mut client, &mut engine).await?;
    Ok(())
}

fn length_of_body(head: &str) -> usize {
    let line = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    line.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}
