//! What a session stands on: directories, the embedded queue on its port, the worker on that, and somebody who hears signals.

use std::{io, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{
    home::Home,
    setting::{self, Listener, Told, unable},
    settings,
    summary::{EXCEPTION, USAGE},
};
use crate::{
    api::{Credentials, CredentialsCell, HttpTransport, Queue, Secret, Services},
    cli::{args::ExecArgs, engine, problems::Failure, signals::Signals},
    config::WhenDown,
    local::{Options, Server},
    seam::{NoHostActions, SystemClock, SystemDisk, SystemRandom, slugid},
    worker::{self, Control, Ended, Parts, WorkerEvent},
};

const CLIENT_ID: &str = "tc-worker/exec";
/// How long a claim holds. The wall clock counts, and a laptop may sleep: nobody else waits for its tasks.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// How long a call on loopback takes to arrive, with room to spare.
const CALLS_ON_THEIR_WAY: Duration = Duration::from_millis(25);
/// How long the worker may take to end when nothing runs any more.
const END_BOUND: Duration = Duration::from_secs(30);

/// What is open while tasks run. Fields are dropped in this order: directories last.
pub struct Stage {
    /// The embedded queue.
    pub server: Server,
    /// Speaks to it.
    pub queue: Queue,
    /// Steers the worker.
    pub control: Control,
    /// The worker.
    pub worker: JoinHandle<Ended>,
    /// What it tells.
    pub events: mpsc::UnboundedReceiver<WorkerEvent>,
    /// Hears signals.
    pub told: Told,
    /// Why no container task can be run, if some are wanted beside others.
    pub no_containers: Option<Failure>,
    _store: TempDir,
    _home: Home,
}

impl Stage {
    /// Starts everything, for that many tasks, so many of which are for containers. If all are, an engine for them has to be there.
    pub async fn open(arguments: &ExecArgs, tasks: usize, containers: usize, listener: Listener) -> Result<Self, Failure> {
        // First of all, so that no signal leaves anything behind.
        let signals = Signals::listen_at_terminal().map_err(|error| unable("listen to signals", &error))?;
        let told = Told::listen(signals);
        let store = store(arguments)?;
        let home = Home::make()?;
        let token = slugid(&SystemRandom) + &slugid(&SystemRandom);
        let options = Options {
            claim_timeout: CLAIM_TIMEOUT,
            any_queue: true,
            ..Options::new(store.path().to_owned(), (CLIENT_ID.to_owned(), token.clone()))
        };
        let server = Server::start_on(listener.socket, options).map_err(|error| unable("start the embedded queue", &error))?;
        let root_url = server.root_url();
        let transport = HttpTransport::new(None, true)
            .map_err(|error| Failure::new(EXCEPTION, "set up the connection to the embedded queue").because_of(error))?;
        let transport = Arc::new(transport);
        let services = Services::new(&root_url, transport.clone(), Arc::new(SystemClock), Arc::new(SystemRandom))
            .map_err(|error| Failure::new(EXCEPTION, "use the embedded queue's root URL").because_of(error))?;
        let queue = services.queue(CredentialsCell::new(Credentials {
            client_id: CLIENT_ID.to_owned(),
            access_token: Secret::new(token.clone()),
            certificate: None,
        }));
        let engine = engine::engine(tc_engine_native::Containment::Detect).map_err(|failure| failure.with_code(EXCEPTION))?;
        let jobs = arguments.jobs.unwrap_or_else(|| setting::usual_jobs(tasks));
        let mut config = settings::config(&root_url, (CLIENT_ID, &token), home.path(), jobs, settings::caches(arguments));
        let (mut docker, mut no_containers) = (None, None);
        if containers > 0 {
            match setting::container_engine(&config).await {
                Ok(engine) => docker = Some(engine),
                Err(failure) if containers == tasks => return Err(failure),
                Err(failure) => no_containers = Some(failure),
            }
        }
        if containers < tasks {
            // An engine that fails later does not keep the other tasks either.
            config.own.docker.when_down = WhenDown::NativeOnly;
        }
        let (control, input) = Control::new();
        let (send, events) = mpsc::unbounded_channel();
        let parts = Parts {
            config: Arc::new(config),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            disk: Arc::new(SystemDisk),
            host: Arc::new(NoHostActions),
            transport,
            engine,
            docker,
            events: Some(send),
            // The file is the machine's, and a worker of it may run beside us.
            status_file: None,
            images_as_they_are: true,
            log_header_from_task: true,
        };
        let worker = tokio::spawn(worker::run(parts, input));
        Ok(Self { server, queue, control, worker, events, told, no_containers, _store: store, _home: home })
    }

    /// Ends the worker and the queue. Returns whether the worker did not end.
    pub async fn wind_down(&mut self) -> bool {
        self.control.finish();
        // A worker without a call under way ends by itself, and a call that is just being made gets through to the queue.
        if !self.worker.is_finished() && timeout(CALLS_ON_THEIR_WAY, &mut self.worker).await.is_ok() {
            tracing::debug!("The worker has ended before its queue");
        }
        // Ends the worker's long poll, so that it ends too.
        self.server.shutdown().await;
        let stuck = !self.worker.is_finished() && timeout(END_BOUND, &mut self.worker).await.is_err();
        if stuck {
            tracing::error!("The worker does not end; leaving it behind");
            self.worker.abort();
        }
        stuck
    }
}

/// The place of artifact bytes: on the file system that they will stay on.
fn store(arguments: &ExecArgs) -> Result<TempDir, Failure> {
    let dir = &arguments.artifacts;
    let made = fs_err::create_dir_all(dir).and_then(|()| tempfile::Builder::new().prefix(".tc-worker-").tempdir_in(dir));
    made.map_err(|error: io::Error| {
        Failure::new(USAGE, format!("use \"{}\" for artifacts", dir.display()))
            .because(&error)
            .with_hint("--artifacts names another directory")
    })
}
