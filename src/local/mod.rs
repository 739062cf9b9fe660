//! The embedded queue: Taskcluster's queue and the services around it in one process, for `exec`, for the `queue` command, and for tests.
//!
//! It is the server's side only; the worker talks to it over sockets like to any deployment.
//!
//! ```text
//!  listen ──▶ routes ──▶ endpoint ──▶ tasks | claims | artifacts | index ─▶ desk ──▶ state
//!  (TCP, TLS)            (auth, body,   (one function per call)     (lock,    (pure: tasks, runs,
//!                         faults)             │                      line,     lanes, expiries,
//!             transfer ◀──────────────────────┤                      clock)    artifacts, names)
//!             (signed PUT and GET) ──▶ store  └▶ auth | secrets | object | worker_manager | purge ──▶ shelf
//!                                     (files)                                                        (values by name)
//! ```
//! - [`state`] decides everything about tasks and does nothing: no I/O, no clock, no lock.
//! - `desk` holds the state, hands claims to those who wait, and lets time pass.
//! - `auth` verifies Hawk with the `hawk` crate; the worker signs with code of its own, so that each proves the other. It also is the auth
//!   service: clients, roles, and what scopes they stand for.
//! - `secrets`, `object`, `worker_manager` and `purge` are services of their own, with no influence on the books. What they keep is on
//!   shelves.
//! - `bodies` bounds what the bodies of all calls take in memory together.
//! - `store` and `transfer` keep artifact bytes in files behind signed URLs; `object` keeps its own beside them.
//! - `ledger` keeps what has to survive a restart, if there is a data directory.
//! - [`faults`] spoils requests and answers, and `network` makes connections slow, when that is asked for.

pub mod amount;
mod artifacts;
mod auth;
mod bodies;
pub(crate) mod check;
mod claims;
pub mod command;
pub(crate) mod definition;
mod desk;
mod endpoint;
mod exposure;
mod fault;
pub mod faults;
mod groups;
mod index;
mod ledger;
mod listen;
mod network;
mod object;
mod owed;
mod page;
mod purge;
mod queues;
mod reply;
mod routes;
mod secrets;
mod shelf;
pub mod state;
mod store;
mod tasks;
mod transfer;
mod view;
mod worker_manager;
mod workers;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use tokio::net::TcpListener;

pub use auth::{Roster, RosterError};
pub use faults::Faults;
pub use listen::TlsFiles;
pub use network::Network;

use crate::seam::{Clock, Random, SystemClock, SystemRandom};
use auth::Clients;
use desk::Desk;
use ledger::{Ledger, secrets::Secrets};
use state::{Rules, Storage, TaskId};
use store::Store;

/// How long the server waits for its own tasks when it closes, after which they are left behind.
const CLOSING_TIME: Duration = Duration::from_secs(10);

/// How long a claim holds in deployments.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// What a server is started with. Not `Debug`: it holds a secret.
pub struct Options {
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// Speak https.
    pub tls: Option<TlsFiles>,
    /// How long a claim holds.
    pub claim_timeout: Duration,
    /// The directory for artifact bytes, unless there is a data directory, which has them then; it is made if it is missing.
    pub store: PathBuf,
    /// Client id and access token of the one client, which has all scopes.
    pub credentials: (String, String),
    /// More clients, and the roles.
    pub roster: Roster,
    /// Whether a claim gets tasks of any task queue, whatever queue it asks for.
    pub any_queue: bool,
    /// What goes wrong on purpose; nothing by default.
    pub faults: Faults,
    /// The network that clients are made to feel; a perfect one by default.
    pub network: Network,
    /// The clock by which everything expires.
    pub clock: Arc<dyn Clock>,
    /// Where secrets and ids come from.
    pub random: Arc<dyn Random>,
    /// Where everything is kept over restarts; nothing is kept without it.
    pub data_dir: Option<PathBuf>,
}

impl Options {
    /// A server on any port of the loopback address, with the machine's clock and a claim timeout of 20 minutes, as deployments have it.
    pub fn new(store: PathBuf, credentials: (String, String)) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            claim_timeout: CLAIM_TIMEOUT,
            store,
            credentials,
            roster: Roster::default(),
            any_queue: false,
            faults: Faults::default(),
            network: Network::default(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            data_dir: None,
        }
    }
}

/// An artifact as it was published, for the process that the queue is embedded in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredArtifact {
    /// The run that published it.
    pub run_id: u32,
    /// Its name.
    pub name: String,
    /// `s3`, `object`, `reference`, `link` or `error`.
    pub storage_type: &'static str,
    /// Its content type.
    pub content_type: String,
    /// The encoding of the bytes in `path`.
    pub content_encoding: Option<String>,
    /// The file that holds its bytes, if it has been uploaded. It belongs to the server as long as that runs.
    pub path: Option<PathBuf>,
    /// How many bytes the file has.
    pub bytes: Option<u64>,
    /// Where a link or a reference leads.
    pub target: Option<String>,
    /// Reason and message of an error artifact.
    pub error: Option<(String, String)>,
}

/// A queue that runs. Dropping it closes it without waiting.
pub struct Server {
    desk: Arc<Desk>,
    root_url: String,
    address: SocketAddr,
}

impl Server {
    /// Starts to listen.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("listen on {}: {error}", options.listen)))?;
        Self::start_on(listener, options)
    }

    /// Serves on a socket that listens already; [`Options::listen`] does not count then.
    pub fn start_on(listener: TcpListener, options: Options) -> io::Result<Self> {
        auth::install();
        let tls = options.tls.as_ref().map(TlsFiles::acceptor).transpose()?;
        let ledger = options.data_dir.as_deref().map_or_else(|| Ok(Ledger::memory()), Ledger::open)?;
        let secrets = Secrets::of(&ledger, &*options.random)?;
        let store_dir = options.data_dir.map_or(options.store, |dir| dir.join("artifacts"));
        let store = Store::open(&store_dir, &secrets.store_key)?;
        let address = listener.local_addr()?;
        let claim_timeout = SignedDuration::try_from(options.claim_timeout).unwrap_or(SignedDuration::MAX);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let purges = purge::Requests::restore(&ledger)?;
        let state = ledger::books::reopen(&ledger, Rules { claim_timeout, any_queue: options.any_queue }, &store)?;
        let ledger = Arc::new(ledger);
        let clients = Clients::new(options.credentials, options.roster, &ledger, options.random)?;
        let clients = clients.with_queue_token(secrets.queue_token);
        let mut desk = Desk::new(state, options.clock, clients, store, ledger, purges, scheme)?;
        desk.faults = faults::Layer::new(options.faults);
        desk.link = network::Link::new(options.network);
        let desk = Arc::new(desk);
        desk.tasks.spawn(desk.clone().watch_the_clock());
        desk.tasks.spawn(listen::accept(listener, tls, routes::router(desk.clone()), desk.clone()));
        Ok(Self { root_url: root_url(scheme, address), desk, address })
    }

    /// The root URL for clients on this machine.
    pub fn root_url(&self) -> String {
        self.root_url.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, ends long polls at once with an empty answer, lets other calls and uploads end for a few seconds. Who has not said all of its
    /// request is not waited for.
    pub async fn shutdown(&self) {
        self.desk.closing.cancel();
        self.desk.tasks.close();
        if tokio::time::timeout(CLOSING_TIME, self.desk.tasks.wait()).await.is_err() {
            tracing::warn!("the embedded queue closed with requests still in progress");
        }
        self.desk.books(|state, _| state.note_fleet());
        let desk = self.desk.clone();
        // Ends by itself once the last records are written; a panic in there is its own affair.
        drop(tokio::task::spawn_blocking(move || desk.ledger.close()).await);
    }

    /// How many requests met each of [`Options::faults`], in their order.
    pub fn faults_met(&self) -> Vec<u64> {
        self.desk.faults.as_ref().map(faults::Layer::met).unwrap_or_default()
    }

    /// Everything that the task's runs have published.
    pub fn published(&self, task_id: &str) -> Vec<StoredArtifact> {
        let Some(id) = TaskId::parse(task_id) else { return Vec::new() };
        let all = self.desk.books(|state, now| {
            let runs = state.status(now, id).map_or(0, |status| status.runs.len());
            let runs = u32::try_from(runs).unwrap_or(u32::MAX);
            (0..runs)
                .flat_map(|run| {
                    state.artifacts(now, id, run, None, usize::MAX).unwrap_or_default().into_iter().map(move |a| (run, a))
                })
                .collect::<Vec<_>>()
        });
        let object = |run_id: u32, name: &str| self.desk.objects.get(&format!("t/{id}/{run_id}/{name}"))?.stored;
        let shown = |(run_id, (name, artifact)): (u32, (String, state::Artifact))| {
            let kept = object(run_id, &name);
            let mut shown = stored_artifact(run_id, name, artifact);
            if let Some(kept) = kept.filter(|_| shown.storage_type == "object") {
                shown.bytes = Some(kept.bytes);
                shown.path = Some(self.desk.store.objects_dir().join(kept.file));
            }
            shown
        };
        all.into_iter().map(shown).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.desk.closing.cancel();
    }
}

fn stored_artifact(run_id: u32, name: String, artifact: state::Artifact) -> StoredArtifact {
    let mut shown = StoredArtifact {
        run_id,
        name,
        storage_type: artifact.storage.type_name(),
        content_type: artifact.content_type,
        content_encoding: None,
        path: None,
        bytes: None,
        target: None,
        error: None,
    };
    match artifact.storage {
        Storage::S3 { stored: Some(stored), .. } => {
            shown.content_encoding = stored.content_encoding;
            shown.bytes = Some(stored.bytes);
            shown.path = Some(stored.path);
        }
        Storage::S3 { stored: None, .. } | Storage::Object { .. } => {}
        Storage::Reference { url } => shown.target = Some(url),
        Storage::Link { artifact } => shown.target = Some(artifact),
        Storage::Error { reason, message } => shown.error = Some((reason, message)),
    }
    shown
}

/// Certificates for this machine are made for its name more often than for its address.
fn root_url(scheme: &str, address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let address = SocketAddr::new(ip, address.port());
    if scheme == "https" && ip.is_loopback() {
        format!("{scheme}://localhost:{}", address.port())
    } else {
        format!("{scheme}://{address}")
    }
}

#[cfg(test)]
mod tests;
