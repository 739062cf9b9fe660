//! Images: bringing them, knowing which are there, removing those that nobody uses.
//!
//! | file | owns |
//! |---|---|
//! | `flight` | one acquisition however many wait, and what they are told |
//! | `load` | archives: there already, or brought, by which road and how often |
//! | `feed`, `heard` | one archive: stream → filter → engine, and what it says to it |
//! | `mend` | what engines refuse in layers, made such that they do not |
//! | `past` | archives past the engine, into containerd's store |
//! | `filter`, `outcome`, `documents`, `known`, `tar` | what passes, what is rewritten, what need not be sent; pure |
//! | `pull`, `reference` | registries: what is there, tags and digests, mirrors, passwords |
//! | `table` | what was brought and what for, over restarts |
//! | `room` | removing the least recently used |
//! | `patience` | how long the engine may take, and whether it is still there |
//! | `failure` | what the engine's bad news mean |
//!
//! An image of a registry is looked up by the one name that all its names stand for. One of which the engine has lost a part is
//! not there. An image is resolved to its identifier, and containers are made from that: a name can come to mean another image at
//! any time. Archives bring no names of their own into the engine, see `documents`.

mod documents;
mod failure;
mod feed;
mod filter;
mod flight;
mod heard;
mod known;
mod load;
mod mend;
mod outcome;
mod past;
mod patience;
mod pull;
mod reference;
mod room;
mod table;
pub(crate) mod tar;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::{models::ImageInspect, query_parameters::RemoveImageOptionsBuilder};
use tc_engine::{EngineError, Fault, Image, ImageBytes, ImageWant, Progress, Room, WantKey};
use tokio::sync::OnceCell;

pub use load::OWN_REPOSITORY;
pub use outcome::Bounds;
pub use patience::Patience;

use self::{flight::Flights, known::Store, table::Table};
use crate::{Connection, container::volume::Declared};

/// Who pulls from a registry. Files are read at each use, so that what is in them can be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A user name, and the file that holds the password.
    Password {
        /// The user's name.
        username: Username,
        /// Where the password is.
        password_file: PathBuf,
    },
    /// The file that holds a token for the registry.
    Token {
        /// Where the token is.
        token_file: PathBuf,
    },
}

/// A user's name. It is not shown where a registry's settings are.
#[derive(Clone, PartialEq, Eq)]
pub enum Username {
    /// As it is.
    Given(String),
    /// In a file.
    File(PathBuf),
}

impl fmt::Debug for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("…"),
            Self::File(path) => path.fmt(f),
        }
    }
}

/// How one registry is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryAccess {
    /// Who pulls, if the registry wants to know.
    pub login: Option<Login>,
    /// Registries, each perhaps with a path, that have the same images and are asked first.
    pub mirrors: Vec<String>,
}

/// Which images may be removed when the disk is short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Collect {
    /// Those that this worker brought.
    #[default]
    Own,
    /// Any that no container uses.
    Host,
}

/// By which name leases in containerd's store are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseOwner {
    /// Only this process uses the name: what has it when the process begins was left by one that is dead.
    Alone(String),
    /// Others may use it as well, so nothing is removed; containerd forgets it after some hours.
    Shared(String),
}

/// What time it is.
pub type Now = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// How many bytes are free on the disk that holds a directory; none if that cannot be told.
pub type FreeBytes = Arc<dyn Fn(&Path) -> Option<u64> + Send + Sync>;

/// How images are treated.
#[derive(Clone)]
pub struct ImagesOptions {
    /// The engine.
    pub connection: Connection,
    /// Where the table of images is kept.
    pub state_dir: PathBuf,
    /// How long a tag is trusted before the registry is asked again.
    pub manifest_ttl: Duration,
    /// Registries by host, as in names of images; `docker.io` where a name has none.
    pub registries: BTreeMap<String, RegistryAccess>,
    /// Which images may be removed.
    pub collect: Collect,
    /// Whose unfinished work in containerd's store is whose.
    pub owner: LeaseOwner,
    /// Whether archives may be written past the engine, where that can be.
    pub past_the_engine: bool,
    /// An image that was asked for within this time is not removed, even if no container uses it (yet).
    pub keep_recent: Duration,
    /// Bounds of an archive.
    pub bounds: Bounds,
    /// How long the engine may take.
    pub patience: Patience,
    /// How often a pull is tried when nothing is there.
    pub pull_attempts: u32,
    /// How long to wait before the second attempt; twice as long before each further one.
    pub first_wait: Duration,
    /// What time it is.
    pub now: Now,
    /// What is free on a disk.
    pub free_bytes: FreeBytes,
}

impl ImagesOptions {
    /// The defaults: tags are trusted for an hour, only own images are removed, and none within half an hour of its use.
    pub fn new(connection: Connection, state_dir: PathBuf) -> Self {
        Self {
            connection,
            state_dir,
            manifest_ttl: Duration::from_secs(3600),
            registries: BTreeMap::new(),
            collect: Collect::Own,
            owner: LeaseOwner::Shared(format!("process/{}", std::process::id())),
            past_the_engine: true,
            keep_recent: Duration::from_secs(1800),
            bounds: Bounds::default(),
            patience: Patience::default(),
            pull_attempts: 6,
            first_wait: Duration::from_secs(1),
            now: Arc::new(SystemTime::now),
            free_bytes: Arc::new(room::free_bytes),
        }
    }
}

impl fmt::Debug for ImagesOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImagesOptions").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}

/// The images of one engine.
#[derive(Debug, Clone)]
pub struct Images {
    inner: Arc<Inner>,
    flights: Arc<Flights<WantKey>>,
}

#[derive(Debug)]
struct Inner {
    options: ImagesOptions,
    connection: Connection,
    table: Table,
    /// What images say about volumes is noted whenever one is looked at.
    declared: Arc<Declared>,
    /// Set once what dead loads left in containerd's store was removed.
    leases_swept: OnceCell<()>,
}

impl Images {
    /// Images as `options` say. The engine is not asked yet.
    pub fn new(options: ImagesOptions) -> Self {
        let table = Table::open(&options.state_dir);
        let (connection, declared) = (options.connection.clone(), Arc::default());
        let inner = Inner { connection, options, table, declared, leases_swept: OnceCell::new() };
        Self { inner: Arc::new(inner), flights: Arc::default() }
    }

    /// See [`tc_engine::Engine::image`].
    ///
    /// # Errors
    /// As the boundary says; [`Fault::Worker`] for an artifact without bytes.
    pub async fn image(
        &self,
        want: &ImageWant,
        bytes: Option<Arc<dyn ImageBytes>>,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, EngineError> {
        let (inner, wanted) = (self.inner.clone(), want.clone());
        let begin = move |report: Arc<flight::Report>| async move {
            match wanted {
                ImageWant::Registry { ref name, as_it_is, .. } => {
                    let subject = wanted.to_string();
                    let found = inner.registry(name, &subject, as_it_is, &report).await;
                    found.map_err(|error| EngineError::new(error.fault, without(&error.message, &subject)))
                }
                ImageWant::Artifact { key, shown } => {
                    let bytes = bytes
                        .ok_or_else(|| EngineError::new(Fault::Worker, format!("image {shown}: nothing supplies its bytes")))?;
                    inner.artifact(&key, &shown, &*bytes, &report).await
                }
            }
        };
        let landed = self.flights.join(&want.key(), progress, begin).await;
        // One acquisition may be for several who call the image differently.
        match want {
            ImageWant::Registry { shown, .. } => landed
                .map(|image| Image { name: Some(shown.clone()), ..image })
                .map_err(|error| EngineError::new(error.fault, format!("{want}: {}", error.message))),
            ImageWant::Artifact { .. } => landed,
        }
    }

    /// The volumes that images declare.
    pub(crate) fn declared(&self) -> Arc<Declared> {
        Arc::clone(&self.inner.declared)
    }

    /// Identifiers of the images that were asked for, the latest first.
    pub(crate) fn latest(&self) -> Vec<String> {
        let mut rows: Vec<_> = self.inner.table.rows().images.into_iter().collect();
        rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.used));
        rows.into_iter().map(|(id, _)| id).collect()
    }

    /// See [`tc_engine::Engine::make_room`].
    pub async fn make_room(&self, bytes: u64) -> Vec<String> {
        self.inner.make_room(bytes).await
    }

    /// See [`tc_engine::Engine::room`].
    pub async fn room(&self) -> Option<Room> {
        self.inner.room().await
    }
}

/// A message without the subject that it begins with.
fn without<'a>(message: &'a str, subject: &str) -> &'a str {
    message.strip_prefix(subject).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(message)
}

impl Inner {
    fn now_secs(&self) -> u64 {
        (self.options.now)().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    fn touch(&self, id: &str) {
        let now = self.now_secs();
        self.table.change(|rows| rows.images.entry(id.to_owned()).or_default().used = now);
    }

    /// What the engine knows about an image; none if it has none, or only part of one.
    async fn inspect(&self, image: &str, what: &str) -> Result<Option<ImageInspect>, EngineError> {
        match self.ask(|| self.connection.docker().inspect_image(image)).await {
            Ok(found) => {
                self.declared.note(&found);
                Ok(Some(found))
            }
            Err(error) if failure::is_missing(&error) => Ok(None),
            Err(error) if failure::is_half_there(&error) => {
                tracing::info!("{what}: the engine has only part of {image}, so it is brought again");
                Ok(None)
            }
            Err(error) => Err(failure::engine_error(what, &error)),
        }
    }

    /// Removes a name or an identifier, and the image if that was its last one and nobody uses it.
    async fn remove(&self, image: &str) -> Result<(), bollard::errors::Error> {
        let options = RemoveImageOptionsBuilder::default().force(false).noprune(false).build();
        let removed = self.connection.docker().remove_image(image, Some(options), None);
        patience::within(self.options.patience.removal, removed).await.map(|_| ())
    }

    /// How the engine keeps its images.
    async fn store(&self, what: &str) -> Result<Store, EngineError> {
        let info = self.ask(|| self.connection.docker().info()).await.map_err(|error| failure::engine_error(what, &error))?;
        let status = info.driver_status.unwrap_or_default();
        if status.iter().any(|pair| pair.iter().any(|text| text.starts_with("io.containerd.snapshotter"))) {
            return Ok(Store::Containerd);
        }
        Ok(match info.driver.as_deref() {
            Some("overlay2" | "fuse-overlayfs" | "vfs" | "btrfs" | "zfs" | "aufs" | "devicemapper") => Store::Graph,
            _ => Store::Unknown,
        })
    }
}
