//! A relay before a Docker engine, which notes each call with its times, and when a container said its first byte.
//!
//! A call is pending from its first byte until the last byte of its answer. Those that last as long as a container runs
//! (attaching to it, waiting for its end) are pending until the engine has begun to answer, which is what their callers wait
//! for before they start the container.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use super::now_ns;

/// A call that was passed on. Times are nanoseconds since 1970; 0 is not yet.
#[derive(Debug, Clone)]
pub struct Call {
    /// Method and path, without what differs from run to run.
    pub name: String,
    pub began: u128,
    /// The engine has begun to answer.
    pub answered: u128,
    /// The last bytes of the answer so far.
    pub ended: u128,
    /// The first byte that a container said, after the head of the answer.
    pub output: u128,
}

impl Call {
    /// Whether it lasts as long as a container runs.
    fn is_long(&self) -> bool {
        ["/attach", "/wait", "/events", "/logs"].iter().any(|end| self.name.ends_with(end))
    }

    /// From when to when the caller had to wait.
    pub fn pending(&self) -> (u128, u128) {
        let end = if self.is_long() { self.answered } else { self.ended };
        (self.began, if end == 0 { u128::MAX } else { end })
    }
}

/// See the module.
pub struct Calls {
    path: PathBuf,
    list: Arc<Mutex<Vec<Call>>>,
}

impl Calls {
    /// Begins to relay to the engine at `host`, on a socket in this directory.
    pub fn start(host: &str, dir: &Path) -> Self {
        let path = dir.join("engine.sock");
        let listener = UnixListener::bind(&path).expect("listen");
        let engine: PathBuf = host.strip_prefix("unix://").expect("a socket in the file system").into();
        let list = Arc::<Mutex<Vec<Call>>>::default();
        let shared = Arc::clone(&list);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, engine.clone(), Arc::clone(&shared)));
            }
        });
        Self { path, list }
    }

    /// Where clients find it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// What has passed so far.
    pub fn list(&self) -> MutexGuard<'_, Vec<Call>> {
        lock(&self.list)
    }
}

fn lock(list: &Mutex<Vec<Call>>) -> MutexGuard<'_, Vec<Call>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, on which one call comes after another.
struct Talk {
    list: Arc<Mutex<Vec<Call>>>,
    /// Place of the open call.
    at: Option<usize>,
    head: Vec<u8>,
}

impl Talk {
    /// Bytes of the client.
    fn asks(&mut self, bytes: &[u8]) {
        let mut list = lock(&self.list);
        let goes_on = self.at.is_some_and(|at| list[at].answered == 0 || list[at].is_long());
        if goes_on {
            return;
        }
        let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        self.at = Some(list.len());
        self.head.clear();
        list.push(Call { name: name(&String::from_utf8_lossy(line)), began: now_ns(), answered: 0, ended: 0, output: 0 });
    }

    /// Bytes of the engine.
    fn answers(&mut self, bytes: &[u8]) {
        let Some(at) = self.at else { return };
        let call = &mut lock(&self.list)[at];
        call.ended = now_ns();
        if call.answered == 0 {
            call.answered = call.ended;
        }
        if call.output == 0 && call.name.ends_with("/attach") {
            self.head.extend_from_slice(bytes);
            let end = self.head.windows(4).position(|four| four == b"\r\n\r\n");
            if end.is_some_and(|end| self.head.len() > end + 4) {
                call.output = call.ended;
            }
        }
    }
}

/// `POST /containers/x/start` for `POST /v1.41/containers/4f…/start?a=b HTTP/1.1`.
fn name(line: &str) -> String {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let mut parts: Vec<&str> = path.split('/').skip(1).collect();
    if parts.first().is_some_and(|part| part.starts_with("v1.")) {
        parts.remove(0);
    }
    // Names of images contain slashes.
    match parts.as_slice() {
        ["images", .., "json"] if parts.len() > 2 => parts = vec!["images", "x", "json"],
        ["containers", "create" | "json"] => {}
        ["containers" | "networks", _, ..] => parts[1] = "x",
        _ => {}
    }
    format!("{method} /{}", parts.join("/"))
}

async fn relay(client: UnixStream, engine: PathBuf, list: Arc<Mutex<Vec<Call>>>) {
    let Ok(engine) = UnixStream::connect(engine).await else { return };
    let talk = Mutex::new(Talk { list, at: None, head: Vec::new() });
    let talk = || talk.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_engine, mut to_engine) = engine.into_split();
    let up = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            talk().asks(&buffer[..n]);
            if to_engine.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
        drop(to_engine.shutdown().await);
    };
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_engine.read(&mut buffer).await {
            talk().answers(&buffer[..n]);
            if to_client.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
        drop(to_client.shutdown().await);
    };
    tokio::join!(up, down);
}
