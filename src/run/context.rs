//! What the phases and the optional parts of one run share.

use std::{
    ffi::OsString,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tc_engine::{Bind, Engine, Environment, Identity, Image};
use tc_payload::{docker::Container, native::Payload};

use super::{
    images::ImageDesk,
    keeper,
    kill::KillSwitch,
    outcome::{Blame, RunError},
};
use crate::{
    api::{CredentialsCell, Queue, Services, Task},
    cache::{CacheStore, Purges},
    config::Config,
    log::{LiveServer, TaskLog},
    observe::memory::MemoryWatch,
    seam::{Clock, Disk, HostActions, Random},
};

/// What all runs of a worker share. Immutable.
pub struct Workshop {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
    /// Small state files.
    pub disk: Arc<dyn Disk>,
    /// The machine.
    pub host: Arc<dyn HostActions>,
    /// Taskcluster's services.
    pub services: Services,
    /// What runs the commands of native tasks.
    pub engine: Arc<dyn Engine>,
    /// What runs containers; none where container payloads are off.
    pub docker: Option<Arc<dyn Engine>>,
    /// What runs and the prefetch tell each other about images.
    pub images: ImageDesk,
    /// Serves live logs; none when they are off.
    pub live: Option<LiveLogs>,
    /// Writable caches.
    pub caches: Arc<CacheStore>,
    /// What caches somebody wants to be made anew.
    pub purges: Purges,
    /// Where logs and compressed artifacts lie while a task runs.
    pub spool_dir: PathBuf,
    /// Whether the log header names the task's own queue instead of this worker's.
    pub header_from_task: bool,
}

#[cfg(test)]
impl Workshop {
    /// A workshop on this machine, with a native engine that runs nothing.
    pub fn for_test(config: Config, services: Services, docker: Option<Arc<dyn Engine>>, spool_dir: PathBuf) -> Self {
        use crate::{
            api::PurgeCache,
            seam::{NoHostActions, SystemClock, SystemDisk, SystemRandom},
        };
        let (clock, random, disk) = (Arc::new(SystemClock), Arc::new(SystemRandom), Arc::new(SystemDisk));
        let caches = CacheStore::open(crate::cache::Options {
            dir: config.caches_dir.clone(),
            import: Vec::new(),
            clock: clock.clone(),
            random: random.clone(),
            disk: disk.clone(),
            powers: None,
        });
        let purges = PurgeCache::new(&services, CredentialsCell::anonymous());
        Self {
            images: ImageDesk::open(false, disk.clone(), &config.own.state_dir),
            purges: Purges::new(purges, config.task_queue_id()),
            config: Arc::new(config),
            clock,
            random,
            disk,
            host: Arc::new(NoHostActions),
            services,
            engine: Arc::new(tc_engine::fake::FakeEngine::new([])),
            docker,
            live: None,
            caches: Arc::new(caches),
            spool_dir,
            header_from_task: false,
        }
    }
}

/// The live log server and how the world reaches it.
pub struct LiveLogs {
    /// The server.
    pub server: LiveServer,
    /// `http://host:port`
    pub base_url: String,
}

/// One run: what its phases and parts see.
pub struct RunContext {
    /// The task.
    pub task_id: String,
    /// Its run.
    pub run_id: u32,
    /// Its definition.
    pub task: Arc<Task>,
    /// Its checked payload; for a container task the parts that all tasks have.
    pub payload: Payload,
    /// What only a container task has.
    pub container: Option<Container>,
    /// What all runs share.
    pub shop: Arc<Workshop>,
    /// Its log.
    pub log: Arc<TaskLog>,
    /// The queue, with the run's credentials.
    pub queue: Queue,
    /// The run's credentials, always the newest.
    pub credentials: CredentialsCell,
    /// Ends the run.
    pub kill: KillSwitch,
    /// Memory of the machine while the current command runs.
    pub memory: MemoryWatch,
    /// What parts add to the environment of the commands.
    extra_env: Mutex<Environment>,
    /// Known from [`super::outcome::Phase::Ground`] on.
    place: OnceLock<Place>,
    /// Artifact names that parts publish, with the part's name; known from the end of admission.
    reserved: OnceLock<Vec<(String, &'static str)>>,
    /// What the task may do, once that was asked for; as long as it was not, its own list counts.
    scopes: OnceLock<Vec<String>>,
    /// The image of a container task, known from the end of furnishing on.
    image: OnceLock<Image>,
    /// Directories that parts put into the container.
    binds: Mutex<Vec<Bind>>,
    /// How far its commands came.
    commands: Mutex<CommandsState>,
}

/// How far the commands of a run came, for those who have to know what state the task left things in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CommandsState {
    /// None was started.
    #[default]
    NotStarted,
    /// One was started and has not ended by itself: it runs, or was ended from outside, or its engine went away.
    Unfinished,
    /// The last one that was started has ended by itself, with this exit code if it has one.
    Ended(Option<i64>),
}

/// Where a run lives.
#[derive(Debug)]
pub struct Place {
    /// The task's directory.
    pub task_dir: PathBuf,
    /// Who its processes are.
    pub identity: Identity,
}

/// The parts of a [`RunContext`] that exist before its payload is known.
#[derive(Clone)]
pub struct Basics {
    /// The task.
    pub task_id: String,
    /// Its run.
    pub run_id: u32,
    /// Its definition.
    pub task: Arc<Task>,
    /// What all runs share.
    pub shop: Arc<Workshop>,
    /// Its log.
    pub log: Arc<TaskLog>,
    /// The queue, with the run's credentials.
    pub queue: Queue,
    /// The run's credentials.
    pub credentials: CredentialsCell,
    /// Ends the run.
    pub kill: KillSwitch,
}

impl RunContext {
    /// A run with a checked payload.
    pub fn new(basics: Basics, payload: Payload, container: Option<Container>) -> Self {
        let Basics { task_id, run_id, task, shop, log, queue, credentials, kill } = basics;
        Self {
            task_id,
            run_id,
            task,
            payload,
            container,
            shop,
            log,
            queue,
            credentials,
            kill,
            memory: MemoryWatch::default(),
            extra_env: Mutex::default(),
            place: OnceLock::new(),
            reserved: OnceLock::new(),
            scopes: OnceLock::new(),
            image: OnceLock::new(),
            binds: Mutex::default(),
            commands: Mutex::default(),
        }
    }

    /// Notes what the task may do, with what its roles stand for. The first call counts.
    pub fn set_scopes(&self, scopes: Vec<String>) {
        // Nobody but admission calls this, and it runs once.
        drop(self.scopes.set(scopes));
    }

    /// What the task may do.
    pub fn scopes(&self) -> &[String] {
        self.scopes.get().unwrap_or(&self.task.scopes)
    }

    /// Notes the image of a container task. The first call counts.
    pub fn set_image(&self, image: Image) {
        // Nobody but the part that brings it calls this, and it runs once.
        drop(self.image.set(image));
    }

    /// The image of a container task, once it is there.
    pub fn image(&self) -> Option<&Image> {
        self.image.get()
    }

    /// Puts a directory of this machine into the container.
    pub fn add_bind(&self, bind: Bind) {
        self.binds.lock().unwrap_or_else(PoisonError::into_inner).push(bind);
    }

    /// The directories that parts put into the container.
    pub fn binds(&self) -> Vec<Bind> {
        self.binds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how far the commands came.
    pub fn note_commands(&self, state: CommandsState) {
        *self.commands.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// How far the commands came.
    pub fn commands_state(&self) -> CommandsState {
        *self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a variable to the environment of the commands.
    pub fn add_env(&self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.extra_env.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), value.into());
    }

    /// What parts added to the environment.
    pub fn extra_env(&self) -> Environment {
        self.extra_env.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes where the run lives. The first call counts.
    pub fn settle(&self, place: Place) {
        // Nobody but the ground phase calls this, and it runs once.
        drop(self.place.set(place));
    }

    /// Where the run lives, once ground was reserved.
    pub fn place(&self) -> Option<&Place> {
        self.place.get()
    }

    /// Notes which artifact names are taken by parts. The first call counts.
    pub fn reserve_names(&self, names: Vec<(String, &'static str)>) {
        // Nobody but admission calls this, and it runs once.
        drop(self.reserved.set(names));
    }

    /// Artifact names that parts publish, each with the part's name.
    pub fn reserved_names(&self) -> &[(String, &'static str)] {
        self.reserved.get().map_or(&[], Vec::as_slice)
    }

    /// What a refused artifact of this run means.
    pub async fn explain_conflict(&self, artifact: &str) -> RunError {
        explain_conflict(&self.queue, &self.task_id, self.run_id, artifact).await
    }
}

/// What a refused artifact means: a conflict while the run is still ours is the payload's fault, otherwise the run is lost.
/// Asks the queue once.
pub async fn explain_conflict(queue: &Queue, task_id: &str, run_id: u32, artifact: &str) -> RunError {
    match queue.status(task_id).await {
        Ok(status) => match keeper::verdict(&status, run_id) {
            None => {
                RunError::new(Blame::Payload, format!("artifact {artifact:?} exists already in this run with other properties"))
            }
            Some(kill) => kill.into(),
        },
        Err(error) => RunError::new(Blame::Service, format!("could not ask for the status of the task: {error}")),
    }
}
