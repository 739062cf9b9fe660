//! A queue and a store over real sockets, which do to each request what a test wants, and a directory that is quiet.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    extract::{Path as Segments, Request, State},
    response::Response,
    routing::{post, put},
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tc_engine::{Content, EngineError, Entry, EntryFault, Gone, Kind, OpenFile, Quiet};
use tokio::sync::mpsc;

use crate::{
    api::{Credentials, CredentialsCell, HttpTransport, Secret, Services},
    artifact::Target,
    seam::{SystemClock, SystemRandom},
};

/// What the store does with an upload.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// Takes it.
    Store,
    /// Reads all of it, and answers with this status.
    Refuse(u16),
    /// Breaks the connection after this many bytes.
    CutAfter(usize),
    /// Says that all is well, without having read anything.
    Hasty,
    /// Sends it to another path of the store.
    Elsewhere,
}

/// An upload that the store took.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) url: String,
    pub(super) content_type: String,
    pub(super) encoding: String,
    pub(super) length: String,
    pub(super) bytes: Vec<u8>,
}

/// Decides about the n-th upload under a name.
type Fates = Box<dyn Fn(&str, usize) -> Fate + Send + Sync>;
/// Decides about a `createArtifact` call: an error status, or nothing.
type Creations = Box<dyn Fn(&str, &Value) -> Option<u16> + Send + Sync>;

pub(super) struct Store {
    pub(super) target: Target,
    inner: Arc<Inner>,
}

struct Inner {
    fates: Fates,
    creations: Creations,
    address: String,
    created: Mutex<Vec<(String, Value)>>,
    attempts: Mutex<BTreeMap<String, usize>>,
    stored: Mutex<Vec<(String, Stored)>>,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Store {
    pub(super) async fn start(fates: impl Fn(&str, usize) -> Fate + Send + Sync + 'static) -> Self {
        Self::with_queue(fates, |_, _| None).await
    }

    pub(super) async fn with_queue(
        fates: impl Fn(&str, usize) -> Fate + Send + Sync + 'static,
        creations: impl Fn(&str, &Value) -> Option<u16> + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let inner = Arc::new(Inner {
            fates: Box::new(fates),
            creations: Box::new(creations),
            address: address.clone(),
            created: Mutex::default(),
            attempts: Mutex::default(),
            stored: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let routes = Router::new()
            .route("/api/queue/v1/task/{task}/runs/{run}/artifacts/{name}", post(create))
            .route("/store/{serial}/{name}", put(upload))
            .with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let transport = Arc::new(HttpTransport::new(None, true).expect("a transport"));
        let services = Services::new(&address, transport, Arc::new(SystemClock), Arc::new(SystemRandom)).expect("services");
        let credentials = Credentials { client_id: "c".to_owned(), access_token: Secret::new("t"), certificate: None };
        let queue = services.queue(CredentialsCell::new(credentials));
        Self { target: Target { queue, task_id: "fZ42HVdDQ-KFFycr9PxptA".to_owned(), run_id: 0, objects: false }, inner }
    }

    /// All `createArtifact` calls so far, with their bodies.
    pub(super) fn created(&self) -> Vec<(String, Value)> {
        self.inner.created.lock().expect("whole").clone()
    }

    /// Everything that the store took, in the order in which it was taken.
    pub(super) fn stored(&self) -> Vec<(String, Stored)> {
        self.inner.stored.lock().expect("whole").clone()
    }

    /// How often an upload under this name was begun.
    pub(super) fn attempts(&self, name: &str) -> usize {
        self.inner.attempts.lock().expect("whole").get(name).copied().unwrap_or_default()
    }

    /// Most uploads that ran at a time.
    pub(super) fn most_at_a_time(&self) -> usize {
        self.inner.most.load(Ordering::SeqCst)
    }
}

fn answer(status: u16, body: String) -> Response {
    Response::builder().status(status).body(Body::from(body)).expect("an answer")
}

async fn create(
    State(inner): State<Arc<Inner>>,
    Segments((_, _, name)): Segments<(String, String, String)>,
    body: String,
) -> Response {
    let body: Value = serde_json::from_str(&body).expect("JSON");
    if let Some(status) = (inner.creations)(&name, &body) {
        return answer(status, "{\"code\": \"Refused\", \"message\": \"no\"}".to_owned());
    }
    let serial = {
        let mut created = inner.created.lock().expect("whole");
        created.push((name.clone(), body.clone()));
        created.len()
    };
    let mut content = json!({ "storageType": body["storageType"] });
    if body["storageType"] == "s3" {
        content["putUrl"] = json!(format!("{}/store/{serial}/{}", inner.address, crate::api::segment(&name)));
        content["contentType"] = body["contentType"].clone();
        content["expires"] = body["expires"].clone();
    }
    answer(200, content.to_string())
}

async fn upload(
    State(inner): State<Arc<Inner>>,
    Segments((_, name)): Segments<(String, String)>,
    request: Request,
) -> Response {
    let attempt = {
        let mut attempts = inner.attempts.lock().expect("whole");
        let count = attempts.entry(name.clone()).or_default();
        *count += 1;
        *count - 1
    };
    let running = inner.running.fetch_add(1, Ordering::SeqCst) + 1;
    inner.most.fetch_max(running, Ordering::SeqCst);
    let _leaves = Leaves(&inner.running);
    let fate = (inner.fates)(&name, attempt);
    let (head, mut body) = request.into_parts();
    match fate {
        Fate::Hasty => return answer(200, String::new()),
        Fate::Elsewhere => {
            let to = format!("{}/store/other/{}", inner.address, crate::api::segment(&name));
            return Response::builder().status(307).header("location", to).body(Body::empty()).expect("an answer");
        }
        _ => {}
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        // A client that goes away is no upload.
        let Ok(frame) = frame else { return answer(400, String::new()) };
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        if matches!(fate, Fate::CutAfter(after) if bytes.len() >= after) {
            // Takes the task of the connection down, and the connection with it, without a word.
            std::panic::resume_unwind(Box::new("cut"));
        }
    }
    if let Fate::Refuse(status) = fate {
        return answer(status, String::new());
    }
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default();
    let stored = Stored {
        url: head.uri.to_string(),
        content_type: header("content-type"),
        encoding: header("content-encoding"),
        length: header("content-length"),
        bytes,
    };
    inner.stored.lock().expect("whole").push((name, stored));
    answer(200, String::new())
}

struct Leaves<'a>(&'a AtomicUsize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The files of a directory.
pub(super) struct Files(pub(super) PathBuf);

fn entry(path: &Path, base: &Path) -> Entry {
    let relative = path.strip_prefix(base).map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let content = match std::fs::metadata(path) {
        Err(_) => Err(EntryFault::Missing),
        Ok(metadata) if metadata.is_dir() => Err(EntryFault::IsDirectory),
        Ok(metadata) if metadata.file_type().is_fifo() => Err(EntryFault::Special("FIFO")),
        Ok(metadata) => {
            File::open(path).map(|file| Content::File(OpenFile { file, bytes: metadata.len() })).map_err(EntryFault::Unreadable)
        }
    };
    Entry { relative, shown: path.display().to_string(), content }
}

fn walk(dir: &Path, entries: &mut Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.is_symlink() { walk(&path, entries) } else { entries.push(path) }
    }
}

#[async_trait]
impl Quiet for Files {
    fn read(&self, path: &str, kind: Kind) -> mpsc::Receiver<Entry> {
        let base = self.0.join(path);
        let mut paths = vec![base.clone()];
        if kind == Kind::Directory && base.is_dir() {
            paths.clear();
            walk(&base, &mut paths);
        }
        let (sender, receiver) = mpsc::channel(2);
        tokio::task::spawn_blocking(move || {
            for path in paths {
                let mut entry = entry(&path, &base);
                if kind == Kind::Directory && path == base && entry.content.is_ok() {
                    entry.content = Err(EntryFault::NotDirectory);
                }
                if sender.blocking_send(entry).is_err() {
                    return;
                }
            }
        });
        receiver
    }

    async fn destroy(self: Box<Self>, _keep_files: bool) -> Result<Gone, EngineError> {
        unreachable!("nobody destroys it in these tests")
    }
}
