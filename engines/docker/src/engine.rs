//! The engine: whether it works, what it sweeps away, where runs begin.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bollard::query_parameters::ListContainersOptionsBuilder;
use tc_engine::{
    Engine, EngineError, Fault, Ground, Identity, Image, ImageBytes, ImageWant, Keep, Names, Owner, Progress, Room, Swept,
};
use tokio::task::spawn_blocking;

use crate::{
    connection::{Connection, Failure},
    container::volume::Declared,
    directory::Directory,
    ground::DockerGround,
    image::Images,
    labels::OwnerIdentity,
    network, sweep, tree,
};

/// How long things may take. The defaults are against hangs; nothing waits for them on a healthy machine.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// A question that is answered from memory.
    pub call: Duration,
    /// Creating a container or a network. A busy disk makes this slow.
    pub create: Duration,
    /// Starting a container.
    pub start: Duration,
    /// From a kill to a proof that nothing runs, and removing what a lost reply may have left.
    pub kill: Duration,
    /// One attempt to remove a container, whose files may be many.
    pub removal_call: Duration,
    /// Removing everything of a run, including the time in which an engine is restarted.
    pub removal: Duration,
    /// How long a container is looked for that a lost call may still bring.
    pub late: Duration,
    /// Removing the task directory.
    pub directory: Duration,
    /// After a container's end, how long its output may pause before it is taken as complete.
    pub silence: Duration,
    /// After a container's end, how long output may still come.
    pub drain: Duration,
    /// Whether the engine is fit.
    pub health: Duration,
    /// While a container runs, the engine is asked for its version this often, and may take as long to answer.
    pub look: Duration,
    /// An engine at whose address nobody has been for this long is dead and not merely restarted: a restart takes some
    /// seconds. What it has of the run is left for a sweep.
    pub absent: Duration,
    /// An engine that has not answered once for this long will not tell how the container ends. An engine that is only busy
    /// answers this question from memory, so this is generous.
    pub frozen: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(30),
            create: Duration::from_secs(120),
            start: Duration::from_secs(120),
            kill: Duration::from_secs(45),
            removal_call: Duration::from_secs(120),
            removal: Duration::from_secs(300),
            late: Duration::from_secs(3),
            directory: Duration::from_secs(300),
            silence: Duration::from_secs(5),
            drain: Duration::from_secs(120),
            health: Duration::from_secs(20),
            look: Duration::from_secs(30),
            absent: Duration::from_secs(20),
            frozen: Duration::from_secs(600),
        }
    }
}

/// What the engine has to be told.
#[derive(Debug)]
pub struct DockerOptions {
    /// The way to the engine; nothing has to be there yet.
    pub connection: Connection,
    /// Whose everything is that is made.
    pub owner: OwnerIdentity,
    /// Its images.
    pub images: Images,
    /// How long things may take.
    pub bounds: Bounds,
}

/// What all runs of an engine have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connection: Connection,
    pub(crate) owner: OwnerIdentity,
    pub(crate) bounds: Bounds,
    pub(crate) identity: Identity,
    /// What is known about the volumes of images.
    pub(crate) declared: Arc<Declared>,
}

/// Runs tasks in containers of a Docker engine.
#[derive(Debug)]
pub struct DockerEngine {
    shared: Arc<Shared>,
    images: Images,
}

impl DockerEngine {
    /// Does not go to the engine yet; [`Engine::health`] does.
    pub fn new(options: DockerOptions) -> Self {
        let DockerOptions { connection, owner, images, bounds } = options;
        let (uid, gid) = tc_sys::process::identity();
        let groups = tc_sys::process::groups().unwrap_or_default();
        let groups = groups.into_iter().filter(|group| *group != gid).map(|group| group.to_string()).collect();
        let identity = Identity { uid, gid, groups };
        let declared = images.declared();
        Self { shared: Arc::new(Shared { connection, owner, bounds, identity, declared }), images }
    }
}

#[async_trait]
impl Engine for DockerEngine {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn image(
        &self,
        want: &ImageWant,
        bytes: Option<Arc<dyn ImageBytes>>,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, EngineError> {
        self.images.image(want, bytes, progress).await
    }

    async fn remove_tree(&self, path: &Path) -> Result<(), EngineError> {
        if self.shared.identity.uid == 0 {
            // What stopped root stops a container, too.
            return Err(EngineError::new(Fault::Worker, format!("the engine cannot delete {} either", path.display())));
        }
        tree::empty(&self.shared, &self.images.latest(), path).await
    }

    async fn make_room(&self, bytes: u64) -> Vec<String> {
        self.images.make_room(bytes).await
    }

    async fn room(&self) -> Option<Room> {
        self.images.room().await
    }

    async fn health(&self) -> Result<(), String> {
        let Shared { connection, bounds, .. } = &*self.shared;
        // The engine may be another one than last time, so this is asked anew each time.
        connection.negotiate().await.map_err(|failure| failure.to_string())?;
        // An engine that is stuck still tells its version; this needs what creating a container needs.
        let options = ListContainersOptionsBuilder::default().limit(1).build();
        let listed = connection.call(bounds.health, connection.docker().list_containers(Some(options))).await;
        match listed {
            // What the listing says is of no interest.
            Ok(_) | Err(Failure::Garbage(_)) => Ok(()),
            Err(failure) => Err(format!("the Docker engine cannot list its containers: {failure}")),
        }
    }

    async fn sweep(&self, owner: &Owner, keep: Keep) -> Swept {
        sweep::sweep(&self.shared, &owner.worker, &keep).await
    }

    async fn reserve(&self, names: Names) -> Result<Box<dyn Ground>, EngineError> {
        let path = names.task_dir.clone();
        let directory = spawn_blocking(move || Directory::make(&path)).await;
        let directory =
            directory.map_err(|error| EngineError::new(Fault::Worker, format!("make a task directory: {error}")))??;
        if !names.network {
            return Ok(Box::new(DockerGround::new(Arc::clone(&self.shared), names.run, directory, None)));
        }
        let network = match network::create(&self.shared, &names.run).await {
            Ok(network) => network,
            Err(error) => {
                let shared = Arc::clone(&self.shared);
                // Nobody has used it, and the error that counts is the other one.
                drop(spawn_blocking(move || directory.remove(&shared.bounds)).await);
                return Err(error);
            }
        };
        Ok(Box::new(DockerGround::new(Arc::clone(&self.shared), names.run, directory, Some(network))))
    }
}
