//! Engines, images in archives, and what stands between.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use tc_engine::{EngineError, Image, ImageBytes, ImageStream, ImageWant, Progress};
use tc_engine_docker::{
    Connection,
    image::{Images, ImagesOptions, OWN_REPOSITORY},
};
use tokio::net::{UnixListener, UnixStream};

/// Held by tests that remove images which look like a worker's own, and by those that leave such for a while.
pub static ROOM: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// An engine to test with.
#[derive(Debug, Clone)]
pub struct Bench {
    pub host: String,
    pub containerd: bool,
}

/// All engines that are there. Says so when there is none.
pub fn engines(test: &str) -> Vec<Bench> {
    let found: Vec<Bench> = ["TC_DOCKER_CLASSIC", "TC_DOCKER_GRAPH", "TC_DOCKER_CONTAINERD"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok().map(|host| Bench { host, containerd: name.ends_with("CONTAINERD") }))
        .collect();
    if found.is_empty() {
        not_run(test, "needs a Docker engine, TC_DOCKER_CLASSIC and so on");
    }
    found
}

/// Says that a test was not run.
pub fn not_run(test: &str, reason: &str) {
    println!("NOT RUN: {test}: {reason}");
    if let Ok(path) = std::env::var("TC_TESTS_NOT_RUN") {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(file, "{test}\t{reason}").unwrap();
    }
}

impl Bench {
    /// The `docker` command; its output if it succeeds.
    pub fn docker(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new("docker").arg("-H").arg(&self.host).args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// What a container of this image finds in a file.
    pub fn read(&self, image: &str, path: &str) -> String {
        self.docker(&["run", "--rm", "--network", "none", "--pull", "never", image, "/bin/busybox", "cat", path]).unwrap()
    }

    /// The identifier under a name.
    pub fn id(&self, name: &str) -> Option<String> {
        self.docker(&["image", "inspect", "-f", "{{.Id}}", name]).ok()
    }

    /// The names of an image.
    pub fn names(&self, id: &str) -> Vec<String> {
        let names = self.docker(&["image", "inspect", "-f", "{{range .RepoTags}}{{.}} {{end}}", id]).unwrap();
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// Options for this engine with a table of its own.
    pub async fn options(&self, state: &Path) -> ImagesOptions {
        let options = ImagesOptions::new(Connection::open(&self.host).await.unwrap(), state.to_owned());
        // The way past the engine has tests of its own.
        ImagesOptions { past_the_engine: false, ..options }
    }
}

/// Removes what a test brought, also when it fails.
pub struct CleanUp<'a>(pub &'a Bench, pub Vec<String>);

impl Drop for CleanUp<'_> {
    fn drop(&mut self) {
        let mut args = vec!["image", "rm", "-f"];
        args.extend(self.1.iter().map(String::as_str));
        let _ = self.0.docker(&args);
    }
}

/// A task's log.
#[derive(Default)]
pub struct Lines(pub Mutex<Vec<String>>);

impl Progress for Lines {
    fn line(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// An archive in memory that counts how often it is opened.
pub struct Archive {
    pub bytes: Vec<u8>,
    pub opened: AtomicUsize,
}

impl Archive {
    pub fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { bytes, opened: AtomicUsize::new(0) })
    }

    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    pub fn sha256(&self) -> [u8; 32] {
        digest(&SHA256, &self.bytes).as_ref().try_into().unwrap()
    }
}

struct Reading {
    left: Bytes,
    bytes: u64,
    sha256: [u8; 32],
}

#[async_trait]
impl ImageBytes for Archive {
    async fn open(&self) -> Result<Box<dyn ImageStream>, EngineError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let left = Bytes::from(self.bytes.clone());
        Ok(Box::new(Reading { bytes: left.len() as u64, left, sha256: self.sha256() }))
    }
}

#[async_trait]
impl ImageStream for Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        let taken = self.left.len().min(60_000);
        Ok(if taken == 0 { None } else { Some(self.left.split_to(taken)) })
    }

    fn sha256(&self) -> Option<[u8; 32]> {
        self.left.is_empty().then_some(self.sha256)
    }

    fn downloaded(&self) -> (u64, Option<u64>) {
        (self.bytes - self.left.len() as u64, Some(self.bytes))
    }
}

/// Brings the image of an archive.
pub async fn bring(images: &Images, key: &str, archive: &Arc<Archive>) -> Result<Image, EngineError> {
    let want = ImageWant::Artifact { key: key.to_owned(), shown: key.to_owned() };
    images.image(&want, Some(archive.clone()), Arc::new(Lines::default())).await
}

/// A clock that can be moved.
#[derive(Clone, Default)]
pub struct Later(Arc<AtomicU64>);

impl Later {
    pub fn by(&self, time: Duration) {
        self.0.fetch_add(time.as_secs(), Ordering::SeqCst);
    }

    pub fn now(&self) -> tc_engine_docker::image::Now {
        let later = self.0.clone();
        Arc::new(move || SystemTime::now() + Duration::from_secs(later.load(Ordering::SeqCst)))
    }
}

/// Stands before an engine and counts what goes to it.
pub struct Counter {
    pub host: String,
    sent: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Counter {
    pub fn before(engine: &Bench, directory: &Path) -> Self {
        let socket = directory.join("counted.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let target = PathBuf::from(engine.host.strip_prefix("unix://").unwrap());
        let sent = Arc::new(AtomicU64::new(0));
        let count = sent.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, count) = (target.clone(), count.clone());
                tokio::spawn(async move { relay(client, &target, &count).await });
            }
        });
        Self { host: format!("unix://{}", socket.display()), sent, task }
    }

    /// Bytes since the last call.
    pub fn sent(&self) -> u64 {
        self.sent.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(client: UnixStream, target: &Path, count: &AtomicU64) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let engine = UnixStream::connect(target).await?;
    let ((mut from_client, mut to_client), (mut from_engine, mut to_engine)) = (client.into_split(), engine.into_split());
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_engine, &mut to_client).await });
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from_client.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        count.fetch_add(read as u64, Ordering::SeqCst);
        to_engine.write_all(&buffer[..read]).await?;
    }
    drop(to_engine);
    let _ = back.await;
    Ok(())
}

/// The name that an artifact's image has on an engine.
pub fn own_name(key: &str) -> String {
    format!("{OWN_REPOSITORY}:{}", &super::archives::hex(key.as_bytes())[..40])
}
