//! The traits an engine implements.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    CommandEnd, Environment, Image, ImageBytes, ImageWant, Keep, Names, Over, Owner, Progress, Quiet, SandboxPlan, Sink,
    StopReason,
};

/// Whose fault an engine error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The payload can never be run as it is.
    Payload,
    /// The task asked for something that cannot be.
    Task,
    /// The engine or this worker is broken.
    Worker,
    /// The machine or a service it needs is short of something, for now.
    Resource,
    /// What ran the task went away under it, through no fault of the task; elsewhere or later it will run.
    Lost,
}

/// What went wrong in an engine.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// Whose fault it is.
    pub fault: Fault,
    /// A lowercase sentence fragment that names the object.
    pub message: String,
}

impl EngineError {
    /// An error of the given kind.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into() }
    }
}

/// Proof that nothing of a run is left.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone(());

impl Gone {
    /// An engine says this after it has verified it.
    pub fn verified() -> Self {
        Self(())
    }

    /// For runs that end before anything was made for them.
    pub fn nothing_was_made() -> Self {
        Self(())
    }
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Names of runs whose remains were removed.
    pub removed: Vec<String>,
    /// What could not be removed, as sentences for the worker log.
    pub failed: Vec<String>,
}

/// How much room a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What is free.
    pub free_bytes: u64,
    /// What it has in all.
    pub size_bytes: u64,
}

/// Something that can run tasks.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// The engine's name as it appears in metadata and logs, for instance `insecure`.
    fn name(&self) -> &'static str;

    /// Whether a task could be run now; if not, a sentence fragment that says why.
    async fn health(&self) -> Result<(), String>;

    /// Removes what dead runs of this owner left behind. May be called while others run.
    async fn sweep(&self, owner: &Owner, keep: Keep) -> Swept;

    /// Brings an image, or finds that it is there. However many tasks want the same image at once, it is acquired once;
    /// dropping the returned future ends the acquisition only if nobody else waits for it. `bytes` is there for
    /// [`ImageWant::Artifact`] and is opened only if the engine does not have the image, again for a second attempt.
    ///
    /// # Errors
    /// [`Fault::Task`] when there is no such image or what was brought is none, [`Fault::Resource`] when it could not be
    /// reached or there is no room, [`Fault::Lost`] when the engine went away.
    async fn image(
        &self,
        want: &ImageWant,
        bytes: Option<Arc<dyn ImageBytes>>,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, EngineError> {
        let _ = (bytes, progress);
        Err(EngineError::new(Fault::Worker, format!("the engine {} has no images, {want} is wanted", self.name())))
    }

    /// Removes what nobody uses, least recently used first, until about this many bytes are free again on the disks that
    /// the engine uses. Returns a sentence for each thing removed.
    async fn make_room(&self, bytes: u64) -> Vec<String> {
        let _ = bytes;
        Vec::new()
    }

    /// The room on the disk where the engine keeps images and containers; none if it keeps nothing or that cannot be told.
    async fn room(&self) -> Option<Room> {
        None
    }

    /// Deletes a tree on this machine that the worker may not delete by itself, because a task with other rights has made it.
    ///
    /// # Errors
    /// When something of it is still there, or the engine has no rights that the worker does not have.
    async fn remove_tree(&self, path: &Path) -> Result<(), EngineError> {
        Err(EngineError::new(Fault::Worker, format!("the engine {} cannot delete {}", self.name(), path.display())))
    }

    /// Makes the task directory and whatever else has to exist before the sandbox: a user, a network, a cgroup.
    async fn reserve(&self, names: Names) -> Result<Box<dyn Ground>, EngineError>;
}

/// Who the task is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Numeric user id.
    pub uid: u32,
    /// Numeric primary group id.
    pub gid: u32,
    /// Names of the groups the task is a member of, without the user's private group.
    pub groups: Vec<String>,
}

/// Reserved space in which nothing runs yet.
#[async_trait]
pub trait Ground: Send + Sync {
    /// The task's directory; it exists.
    fn task_dir(&self) -> &Path;

    /// Who the task's processes will be.
    fn identity(&self) -> &Identity;

    /// The environment below everything that the payload and the worker set.
    fn base_environment(&self) -> Environment;

    /// The address under which the task reaches this machine, where that is not the loopback address.
    async fn host_address(&self) -> Result<Option<IpAddr>, EngineError> {
        Ok(None)
    }

    /// Prepares everything except the commands themselves. When this fails the ground has been given back to quiet.
    async fn create(self: Box<Self>, plan: SandboxPlan) -> Result<Box<dyn Sandbox>, (EngineError, Box<dyn Quiet>)>;

    /// Gives up before anything was started.
    async fn quiesce(self: Box<Self>) -> Box<dyn Quiet>;
}

/// Ready to start.
#[async_trait]
pub trait Sandbox: Send {
    /// Opens the way for output. No command runs until [`RunHandle::run`] is called.
    fn start(self: Box<Self>, sink: Arc<dyn Sink>) -> Box<dyn RunHandle>;

    /// Gives up before anything was started.
    async fn quiesce(self: Box<Self>) -> Box<dyn Quiet>;
}

/// A run whose commands may be running.
#[async_trait]
pub trait RunHandle: Send {
    /// Runs the command at `index` of the plan to its end. When it returns, every byte that the command itself wrote has
    /// been given to the sink; background processes live on, and their output still reaches the sink.
    ///
    /// Dropping the returned future leaves the command running; call [`RunHandle::stop`] then.
    async fn run(&mut self, index: usize) -> Result<CommandEnd, EngineError>;

    /// Shows when the command that is run next, or now, has ended; it may take a while until [`RunHandle::run`] returns after
    /// that. Engines for which both are the same never say it.
    fn over(&self) -> Over {
        Over::default()
    }

    /// Ends everything of the task: asks first if `grace` is not zero, then kills. Returns when the running command is dead.
    async fn stop(&mut self, reason: StopReason, grace: Duration);

    /// Kills what is left, verifies that nothing of the task runs any more, and gives the sink every byte written until then.
    ///
    /// # Errors
    /// When processes cannot be killed within the engine's bound; the run is then a worker fault, and must not be read from.
    async fn quiesce(self: Box<Self>) -> Result<Box<dyn Quiet>, EngineError>;
}
