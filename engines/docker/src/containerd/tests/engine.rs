//! The engine of the tests and what is asked of it through its command line, which shares no code with us.

use std::{
    collections::HashSet,
    io::{Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use async_trait::async_trait;
use bytes::Bytes;
use tc_engine::{EngineError, ImageStream};

use crate::{Connection, containerd::ContainerdStore};

/// The engine.
pub(super) struct Engine {
    pub host: String,
    pub store: ContainerdStore,
    /// One test at a time: they look at all that the store holds, and the identifier that the engine gives to an archive
    /// depends on it.
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Says that a test was not run.
pub(super) fn not_run(name: &str, reason: &str) {
    println!("NOT RUN: {name}: {reason}");
    if let Some(list) = std::env::var_os("TC_TESTS_NOT_RUN") {
        let mut list = std::fs::OpenOptions::new().append(true).create(true).open(list).expect("the list opens");
        writeln!(list, "{name}\t{reason}").expect("noted");
    }
}

/// The engine to test with, or nothing if this machine has none.
pub(super) async fn engine(name: &str) -> Option<Engine> {
    let Ok(host) = std::env::var("TC_DOCKER_CONTAINERD") else {
        not_run(name, "no Docker engine with containerd's image store (TC_DOCKER_CONTAINERD)");
        return None;
    };
    if !rustix::process::geteuid().is_root() {
        not_run(name, "only root may write into the image store");
        return None;
    }
    let alone = ALONE.lock().await;
    let connection = Connection::open(&host).await.expect("the engine answers");
    let owner = format!("test-{}-{name}", std::process::id());
    let store = ContainerdStore::find(connection.docker(), &owner).await.expect("the store is within reach");
    Some(Engine { host, store, _alone: alone })
}

impl Engine {
    /// Runs `docker` and returns whether it succeeded, and what it said.
    pub(super) fn try_docker(&self, arguments: &[&str]) -> (bool, String) {
        let done =
            Command::new("docker").arg("-H").arg(&self.host).args(arguments).stdin(Stdio::null()).output().expect("docker");
        let text = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// The same, and it has to succeed.
    pub(super) fn docker(&self, arguments: &[&str]) -> String {
        let (success, text) = self.try_docker(arguments);
        assert!(success, "docker {arguments:?}: {text}");
        text
    }

    /// The identifiers and the names of all images.
    pub(super) fn all_images(&self) -> HashSet<String> {
        let listed = self.docker(&["image", "ls", "--all", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]);
        listed.split_whitespace().map(str::to_owned).collect()
    }

    /// Takes away what an image has got since: names, and the image itself if it was not there.
    pub(super) fn put_back(&self, image: &str, before: &HashSet<String>) {
        let format = "{{.Id}} {{range .RepoTags}}{{.}} {{end}}";
        let shown = self.docker(&["image", "inspect", "--format", format, image]);
        let (id, names) = shown.split_once(' ').unwrap_or((&shown, ""));
        let new: Vec<&str> = names.split_whitespace().filter(|name| !before.contains(*name)).collect();
        self.forget(&new);
        if !before.contains(id) {
            self.forget(&[id]);
        }
    }

    /// Removes images, whether they are there or not.
    pub(super) fn forget(&self, images: &[&str]) {
        for image in images {
            self.try_docker(&["image", "rm", "-f", image]);
        }
    }
}

/// A stream that gives a file in chunks.
pub(super) struct FileStream {
    input: Box<dyn Read + Send>,
    chunk_bytes: usize,
    read_bytes: u64,
    /// After so many bytes the stream breaks.
    pub breaks_at: Option<u64>,
}

impl FileStream {
    pub(super) fn new(input: impl Read + Send + 'static, chunk_bytes: usize) -> Self {
        Self { input: Box::new(input), chunk_bytes, read_bytes: 0, breaks_at: None }
    }

    pub(super) fn of(bytes: &[u8]) -> Self {
        Self::new(std::io::Cursor::new(bytes.to_vec()), 64 * 1024)
    }
}

#[async_trait]
impl ImageStream for FileStream {
    async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        if self.breaks_at.is_some_and(|at| self.read_bytes >= at) {
            return Err(EngineError::new(tc_engine::Fault::Resource, "the connection broke"));
        }
        let mut chunk = Vec::with_capacity(self.chunk_bytes);
        let amount = self.input.by_ref().take(self.chunk_bytes as u64).read_to_end(&mut chunk).expect("read");
        self.read_bytes += amount as u64;
        Ok((amount > 0).then(|| Bytes::from(chunk)))
    }

    fn sha256(&self) -> Option<[u8; 32]> {
        None
    }

    fn downloaded(&self) -> (u64, Option<u64>) {
        (self.read_bytes, None)
    }
}

/// A directory of archives made by the suite, `TC_DOCKER_IMAGES`.
pub(super) fn images() -> Option<PathBuf> {
    std::env::var_os("TC_DOCKER_IMAGES").map(PathBuf::from)
}
