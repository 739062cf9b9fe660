//! Getting the place ready before the first claim: directories, remains of earlier runs, the live log server.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::fcntl::{Flock, FlockArg};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{Parts, WorkerEvent, gate};
use crate::{
    api::{Credentials, CredentialsCell, PurgeCache, Queue, Services},
    cache::{CacheStore, Options, Powers, Purges, TABLE},
    log::{LiveServer, reachable_host},
    observe::metrics::{self, event},
    run::{
        context::{LiveLogs, Workshop},
        images::ImageDesk,
    },
};

/// A worker that may claim.
pub struct Ready {
    /// What all runs share.
    pub shop: Arc<Workshop>,
    /// The queue, with the worker's own credentials.
    pub queue: Queue,
    /// Where to tell about runs, if anybody listens.
    pub events: Option<mpsc::UnboundedSender<WorkerEvent>>,
    /// Held until the worker ends.
    pub _locks: [Flock<File>; 2],
    /// Where to say which tasks run now, if anywhere.
    pub status_file: Option<PathBuf>,
}

/// Gets ready, or says what stands in the way.
pub async fn prepare(parts: Parts) -> Result<Ready, String> {
    let config = &parts.config;
    fs_err::create_dir_all(&config.tasks_dir).map_err(|e| format!("make the directory for tasks: {e}"))?;
    fs_err::create_dir_all(&config.own.state_dir).map_err(|e| format!("make the state directory: {e}"))?;
    let locks = [lock(&config.own.state_dir)?, lock(&config.tasks_dir)?];
    let spool_dir = config.own.state_dir.join("spool");
    clear(&spool_dir);
    info!("Tasks run in {}, logs and state are kept in {}", config.tasks_dir.display(), config.own.state_dir.display());
    if config.clean_up_task_dirs {
        let swept = parts.engine.sweep(&gate::owner(config), Arc::new(|_: &str| false)).await;
        for name in &swept.removed {
            info!("Removed what an earlier run left behind: {name}");
        }
        for failure in &swept.failed {
            warn!("{failure}");
        }
    }
    if let Some(boot) = boot_time() {
        metrics::emit(config, event::INSTANCE_BOOT, boot, None);
    }
    let services =
        Services::new(&config.root_url, Arc::clone(&parts.transport), Arc::clone(&parts.clock), Arc::clone(&parts.random))
            .map_err(|e| format!("use root URL {}: {e}", config.root_url))?;
    let credentials = CredentialsCell::new(Credentials {
        client_id: config.client_id.clone(),
        access_token: config.access_token.clone(),
        certificate: config.certificate.clone(),
    });
    let queue = services.queue(credentials.clone());
    let purges = Purges::new(PurgeCache::new(&services, credentials), config.task_queue_id());
    let caches = Arc::new(caches(&parts));
    let live = live_logs(&parts).await;
    let shop = Workshop {
        config: Arc::clone(config),
        clock: Arc::clone(&parts.clock),
        random: Arc::clone(&parts.random),
        disk: Arc::clone(&parts.disk),
        host: Arc::clone(&parts.host),
        services,
        engine: Arc::clone(&parts.engine),
        docker: parts.docker.clone(),
        images: ImageDesk::open(parts.images_as_they_are, Arc::clone(&parts.disk), &config.own.state_dir),
        live,
        caches,
        purges,
        spool_dir,
        header_from_task: parts.log_header_from_task,
    };
    Ok(Ready { shop: Arc::new(shop), queue, events: parts.events, status_file: parts.status_file, _locks: locks })
}

/// The store of caches. The reference worker keeps its table in the directory in which it is started, which is often the
/// one that has its directory for caches.
fn caches(parts: &Parts) -> CacheStore {
    let dir = &parts.config.caches_dir;
    let mut import: Vec<PathBuf> = dir.parent().map(|parent| parent.join(TABLE)).into_iter().collect();
    import.extend(std::env::current_dir().ok().map(|cwd| cwd.join(TABLE)));
    let powers = parts.docker.clone().map(|engine| Powers { engine, runtime: tokio::runtime::Handle::current() });
    CacheStore::open(Options {
        dir: dir.clone(),
        import,
        clock: Arc::clone(&parts.clock),
        random: Arc::clone(&parts.random),
        disk: Arc::clone(&parts.disk),
        powers,
    })
}

/// Starts the live log server. Without it tasks run all the same.
async fn live_logs(parts: &Parts) -> Option<LiveLogs> {
    let config = &parts.config;
    if !config.live_log_is_served() {
        info!("Live logs are off");
        return None;
    }
    let host = match config.public_ip {
        Some(host) => Some(host),
        None => reachable_host(&config.root_url).await,
    };
    let Some(host) = host else {
        warn!("Live logs are off: this machine has no address at which others could reach it; set publicIP");
        return None;
    };
    let (port, random) = (config.livelog_expose_port, Arc::clone(&parts.random));
    // A host that only this machine reaches is served only there.
    let server = if host.is_loopback() {
        LiveServer::bind(SocketAddr::new(host, port), random).await
    } else {
        LiveServer::bind_all(port, random).await
    };
    match server {
        Ok(server) => {
            let base_url = format!("http://{}", SocketAddr::new(host, server.port()));
            Some(LiveLogs { server, base_url })
        }
        Err(error) => {
            warn!("Live logs are off: could not listen on port {}: {error}", config.livelog_expose_port);
            None
        }
    }
}

/// Makes sure that no other worker uses this directory: each would sweep the other's tasks away. The directory itself is
/// locked, so nothing has to be removed afterwards.
fn lock(directory: &Path) -> Result<Flock<File>, String> {
    let opened = File::open(directory).map_err(|e| format!("open {}: {e}", directory.display()))?;
    Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        format!(
            "use the directory {}: another worker uses it ({error}); give each worker a tasksDir and a tcWorker.stateDir of its own",
            directory.display()
        )
    })
}

/// Removes logs of runs that a worker did not live to publish.
fn clear(spool_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(spool_dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())) {
        if let Err(error) = std::fs::remove_file(entry.path()) {
            warn!("Could not remove {}: {error}", entry.path().display());
        }
    }
}

/// When this machine was started, from the kernel.
fn boot_time() -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_second(i64::try_from(sysinfo::System::boot_time().ok()?).ok()?).ok()
}
