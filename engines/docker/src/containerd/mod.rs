//! Images written past the engine, into the store that it shares with containerd.
//!
//! `docker load` copies an archive into the content store, digests it there, reads it again and unpacks it, each through a
//! process of its own. Here the archive is read once: one thread unpacks each layer while another digests it and writes its
//! file. containerd is asked for nothing but names and references; it never sees the bytes.
//!
//! ```text
//! find ─▶ ContainerdStore ─load(stream)─▶ lease ─▶ area ─▶ read ───────▶ describe ─▶ settle, commit ─▶ names ─▶ LoadedImage
//!                                           │      a directory  layers unpacked,  what lies   each layer    the image
//!                                           │      that goes    digested, each    on what     becomes a     is there
//!                                           │      with the     on its own                    snapshot
//!                                           │      lease
//!                                           └─ any error, or the future dropped: the lease ends, and all of it is garbage
//! ```
//!
//! | room | owns |
//! |---|---|
//! | `feed` | the stream as a reader, and the thread that digests |
//! | `header`, `extensions`, `tar` | tar archives |
//! | `archive` | the outer archive: what is a layer, what is kept |
//! | `packing` | the file of a layer, read without compression |
//! | `tree`, `layer`, `attributes` | unpacking one layer without being led out of its directory |
//! | `description`, `documents`, `digests` | what the archive says: order, names, identifier |
//! | `blobs` | the files of layers, on their way into the content store |
//! | `settle` | what had to wait for the layers below |
//! | `area`, `client`, `message` | containerd's directories and its calls |
//! | `commit` | snapshots, content, names |
//!
//! # What the engine needs
//! Read in Docker 28.5's and containerd 2.1's sources, and tried:
//!
//! * A container starts from a manifest, a configuration and the snapshot of the highest layer, whose name is the chain
//!   identifier. Files of layers are not asked for. But without them `docker inspect` has no configuration, `docker image ls`
//!   no labels, `docker save` and `push` fail. So they are there, too.
//! * The content store takes a file for its own that lies in its directory under its digest already, when a write with that
//!   digest is committed at the offset of its size (its policy of shared content, the default). It does not read it. A file
//!   that was put there and is not known yet is removed by the next collection, so nothing is left after a crash.
//! * The identifier of an image is the digest of the object that `index.json` names, or of the manifest that is composed
//!   of a `manifest.json`. It is the one that `docker load` gives; both store the same objects under the same labels, and
//!   what they have stored is the same, file by file, with owners, permissions, times and attributes (tested).
//!   Except that the engine composes another manifest, and so another identifier, when its store happens to have a layer of
//!   such an archive in compressed form, too.
//! * A lease holds everything that is made under it, an active snapshot included, whose directory is where layers are
//!   unpacked. Layers are renamed into the snapshots that they become once it is known which lies on which: the parent of
//!   a snapshot cannot be changed.
//! * Like containerd itself in its default configuration, nothing here forces files to the disk: after a power failure the
//!   store may know of a snapshot whose files are empty. The engine's own road forces the files of layers, but not what
//!   is unpacked, which is no better.
//!
//! # Where it differs from the engine's own road
//! * Hard links with absolute targets and links to files of layers below are made (the file is copied into the layer, as
//!   overlayfs would do it); containerd refuses the latter. A link to nothing, which it refuses as well, is left out and
//!   reported ([`LostLinks`]).
//! * An archive whose layers are not those that its configuration names is an error and leaves nothing. Docker 28.5 says
//!   that it loaded such an image and keeps its name.
//! * A directory that stands in place of a deleted one in the same layer is empty at first, as the specification has it;
//!   with containerd what was deleted comes back.
//! * Holes of sparse files stay holes; containerd writes zeros.
//! * Layers compressed otherwise than with gzip or zstd, several images in one archive, other platforms: left to the engine
//!   ([`LoadError::Fallback`]).

mod archive;
mod area;
mod attributes;
mod blobs;
mod client;
mod commit;
mod description;
mod digests;
mod documents;
mod extensions;
mod feed;
mod header;
mod layer;
mod message;
mod packing;
mod settle;
mod tar;
mod tree;

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::Docker;
use serde::Deserialize;
use tc_engine::{EngineError, Fault, ImageStream};
use tokio::sync::mpsc;

use archive::Known;
use area::Area;
use blobs::Blobs;
use client::{Client, SNAPSHOTTER};
use commit::{Commit, Made};
use description::{Contents, Puzzle};
use feed::{Feed, PIECES, Piece};
use layer::LayerError;
use message::Labels;
use tar::TarError;

pub use layer::Limits;
pub use settle::LostLinks;

/// How long what a worker left behind outlives it, if nobody sweeps.
const LEASE_HOURS: i64 = 6;
/// Longest that asking containerd's socket who is behind it may take.
const PEER_BOUND: Duration = Duration::from_secs(5);
/// Longest that the engine may take to tell about itself.
const INFO_BOUND: Duration = Duration::from_secs(60);
/// Most configurations of images that are read to know which layers are there.
const CONFIGURATIONS: usize = 256;
/// Whose lease it is.
const OWNER_LABEL: &str = "tc-worker.owner";

/// The store of an engine, within reach.
#[derive(Debug, Clone)]
pub struct ContainerdStore {
    client: Client,
    /// containerd's process.
    pid: Option<i32>,
    owner: String,
}

/// What an image that was loaded is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// As its archive says, and taken away from the image that had the name before, as `docker load` does it.
    Archive,
    /// Nothing. A name that the image has already stays.
    None,
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// The identifier, `sha256:…`: the same that `docker load` of this archive gives it in an empty store.
    pub id: String,
    /// The names in the archive, in full.
    pub names: Vec<String>,
    /// How many layers it has, and how many of them the store had already.
    pub layers: (usize, usize),
    /// Links that could not be made.
    pub lost_links: LostLinks,
}

/// Why an image was not loaded. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No other way will do better.
    #[error(transparent)]
    Final(#[from] EngineError),
    /// This way is closed; the engine's own is open, with a stream from the beginning.
    #[error("{0}")]
    Fallback(String),
}

impl From<LayerError> for LoadError {
    fn from(error: LayerError) -> Self {
        let task = |text: String| Self::Final(EngineError::new(Fault::Task, text));
        match error {
            LayerError::Tar(TarError::Damaged(why)) => task(format!("the image's archive is damaged: {why}")),
            LayerError::Tar(TarError::Read(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                task(format!("the image's archive is damaged: {error}"))
            }
            LayerError::TooLarge(why) => task(why.to_owned()),
            LayerError::NoRoom => Self::Final(EngineError::new(Fault::Resource, error.to_string())),
            other => Self::Fallback(format!("unpack the image: {other}")),
        }
    }
}

impl From<Puzzle> for LoadError {
    fn from(puzzle: Puzzle) -> Self {
        match puzzle {
            Puzzle::Lie(why) => {
                Self::Final(EngineError::new(Fault::Task, format!("the image's archive contradicts itself: {why}")))
            }
            Puzzle::Strange(why) => Self::Fallback(format!("read the image's archive: {why}")),
        }
    }
}

impl ContainerdStore {
    /// Finds the store behind an engine. `owner` names this worker, for [`ContainerdStore::sweep`].
    ///
    /// # Errors
    /// A sentence fragment that says why this way is closed: another kind of store, another user, another machine.
    pub async fn find(docker: &Docker, owner: &str) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root may write into the image store".to_owned());
        }
        let info = tokio::time::timeout(INFO_BOUND, docker.info()).await;
        let info = info.map_err(|_| "the engine does not tell about itself".to_owned())?;
        let info = info.map_err(|error| format!("ask the engine about itself: {error}"))?;
        let status = info.driver_status.unwrap_or_default();
        let is = |name: &str, value: &str| status.iter().any(|pair| pair.iter().map(String::as_str).eq([name, value]));
        if info.driver.as_deref() != Some(SNAPSHOTTER) || !is("driver-type", "io.containerd.snapshotter.v1") {
            return Err(format!("the engine keeps images in {}", info.driver.unwrap_or_default()));
        }
        let options = info.security_options.unwrap_or_default();
        if let Some(option) = options.iter().find(|option| option.contains("name=userns") || option.contains("name=rootless")) {
            return Err(format!("the engine maps users ({option})"));
        }
        let containerd = info.containerd.ok_or("the engine does not say where containerd is")?;
        let address = containerd.address.ok_or("the engine does not say where containerd is")?;
        let socket = address.strip_prefix("unix://").unwrap_or(&address);
        let namespace = containerd.namespaces.and_then(|namespaces| namespaces.containers);
        let client = Client::connect(socket, namespace.as_deref().unwrap_or("moby")).await?;
        let store = Self { client, pid: peer(socket).await, owner: owner.to_owned() };
        let lease = store.lease().await.map_err(|error| error.to_string())?;
        let area = Area::make(&lease.client, &lease.id, store.pid).await;
        lease.end(true).await;
        area.map(|_| store)
    }

    /// Removes what loads of this owner left behind that were not finished: those of a worker that was killed. To be called
    /// while this owner loads nothing. Returns how many there were.
    pub async fn sweep(&self) -> Result<usize, String> {
        let leases = self.client.leases(OWNER_LABEL, &self.owner).await.map_err(|error| error.to_string())?;
        for lease in &leases {
            self.client.delete_lease(lease, true).await.map_err(|error| error.to_string())?;
        }
        Ok(leases.len())
    }

    /// Loads an image. The stream is read to its end, and nothing can be seen of the image before its stream has ended
    /// well. Dropping the future gives up.
    ///
    /// # Errors
    /// See [`LoadError`]. Nothing is left but layers that other images have as well.
    pub async fn load(&self, stream: &mut dyn ImageStream, names: Names, limits: Limits) -> Result<LoadedImage, LoadError> {
        let lease = self.lease().await?;
        let loaded = self.load_under(&lease, stream, names, limits).await;
        // Collecting garbage takes a moment, and after most successes there is none but an empty directory.
        lease.end(!matches!(loaded, Ok((_, false)))).await;
        loaded.map(|(image, _)| image)
    }

    async fn load_under(
        &self,
        lease: &Lease,
        stream: &mut dyn ImageStream,
        names: Names,
        limits: Limits,
    ) -> Result<(LoadedImage, bool), LoadError> {
        let client = &lease.client;
        let area = Area::make(client, &lease.id, self.pid).await.map_err(LoadError::Fallback)?;
        let known = self.known().await?;
        let directory =
            area.directory().try_clone_to_owned().map_err(|error| LoadError::Fallback(format!("open the area: {error}")))?;
        let (sender, receiver) = mpsc::channel(PIECES);
        let (blobs, whole) = mpsc::channel(blobs::WAITING);
        let reader = tokio::task::spawn_blocking(move || {
            let feed = Feed::new(receiver).map_err(TarError::from)?;
            let mut limits = limits;
            let read = archive::read(feed, directory, &known, &mut limits, blobs);
            read.map(|(contents, trees)| (contents, trees, limits))
        });
        let store = Blobs { client, lease: &lease.id, area: &area };
        let (broken, adopted) = tokio::join!(forward(stream, sender), store.adopt(whole));
        let read = reader.await.map_err(|error| LoadError::Fallback(format!("unpack the image: {error}")))?;
        if let Some(error) = broken {
            return Err(error.into());
        }
        let (contents, trees, limits): (Contents, _, _) = read?;
        adopted?;
        let description = description::describe(&contents, architecture())?;
        let layers = description.layers.len();
        let had = description.layers.iter().filter(|layer| layer.found.is_none_or(|at| trees[at].is_none())).count();
        let (lease, description) = (&lease.id, &description);
        let commit = Commit { client, lease, area: &area, trees, description, limits };
        let Made { garbage, lost_links } = commit.perform(names).await?;
        let (id, names) = (description.target.digest.clone(), description.names.clone());
        let wanted: HashSet<&String> = description.layers.iter().map(|place| &place.blob).collect();
        let garbage = garbage || contents.layers.iter().any(|file| !wanted.contains(&file.blob));
        Ok((LoadedImage { id, names, layers: (layers, had), lost_links }, garbage))
    }

    async fn lease(&self) -> Result<Lease, LoadError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let id = format!("tc-worker-{}-{nanos:x}-{number}", std::process::id());
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(LEASE_HOURS);
        let labels = Labels::from([
            (OWNER_LABEL.to_owned(), self.owner.clone()),
            // After this containerd removes it by itself.
            ("containerd.io/gc.expire".to_owned(), until.to_string()),
        ]);
        self.client.create_lease(&id, labels).await?;
        Ok(Lease { client: self.client.under(&id), id, ended: false })
    }

    /// What the store has.
    async fn known(&self) -> Result<Known, LoadError> {
        #[derive(Deserialize)]
        struct Config {
            rootfs: RootFs,
        }
        #[derive(Deserialize)]
        struct RootFs {
            diff_ids: Vec<String>,
        }
        let mut known = Known::default();
        let mut configurations = Vec::new();
        for info in self.client.contents().await? {
            if let Some(diff) = info.labels.get("containerd.io/uncompressed") {
                known.uncompressed.insert(info.digest.clone(), diff.clone());
            }
            if let Some(top) = info.labels.get(&format!("containerd.io/gc.ref.snapshot.{SNAPSHOTTER}")) {
                configurations.push((info.digest.clone(), top.clone()));
            }
            known.blobs.insert(info.digest);
        }
        for (config, top) in configurations.iter().take(CONFIGURATIONS) {
            if !self.client.has_snapshot(top).await? {
                continue;
            }
            // Whatever is wrong with one of them, its layers are just not known.
            if let Ok(bytes) = self.client.read(config).await
                && let Ok(config) = serde_json::from_slice::<Config>(&bytes)
            {
                known.diffs.extend(config.rootfs.diff_ids);
            }
        }
        Ok(known)
    }
}

/// Gives the stream to the thread that reads it. Returns what broke it.
async fn forward(stream: &mut dyn ImageStream, to: mpsc::Sender<Piece>) -> Option<EngineError> {
    loop {
        let piece = match stream.next().await {
            Ok(Some(bytes)) => Piece::Bytes(bytes),
            Ok(None) => Piece::End,
            Err(error) => return Some(error),
        };
        let last = matches!(piece, Piece::End);
        // The reader knows better than we why it went away.
        if to.send(piece).await.is_err() || last {
            return None;
        }
    }
}

/// A lease that ends with its owner.
#[derive(Debug)]
struct Lease {
    /// The way to containerd under this lease.
    client: Client,
    id: String,
    ended: bool,
}

impl Lease {
    /// Returns when what only the lease held is gone, or else leaves that to the next collection.
    async fn end(mut self, collect: bool) {
        self.ended = true;
        end(&self.client, &self.id, collect).await;
    }
}

async fn end(client: &Client, lease: &str, collect: bool) {
    if let Err(error) = client.delete_lease(lease, collect).await {
        // It expires by itself.
        tracing::warn!(lease, %error, "a lease in the image store could not be ended");
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.ended
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (client, id) = (self.client.clone(), self.id.clone());
            // Bounded as every call is; if the program ends first, the lease is left to the next sweep.
            runtime.spawn(async move { end(&client, &id, true).await });
        }
    }
}

/// The process behind a Unix socket.
pub(crate) async fn peer(socket: &str) -> Option<i32> {
    let connected = tokio::time::timeout(PEER_BOUND, tokio::net::UnixStream::connect(socket)).await.ok()?.ok()?;
    connected.peer_cred().ok()?.pid().filter(|&pid| pid > 0)
}

/// This machine's architecture in the words of images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests;
