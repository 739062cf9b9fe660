//! A scripted engine for tests of everything around an engine.
//!
//! ```
//! use tc_engine::fake::{FakeEngine, Step};
//! let engine = FakeEngine::new([Step::prints("hello\n"), Step::exits(0)]);
//! ```

mod image;
mod run;

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

pub use self::image::Fate;

use crate::{
    Engine, EngineError, Environment, Exit, Gone, Ground, Identity, Image, ImageBytes, ImageWant, Keep, Names, Over, Owner,
    Progress, Quiet, Room, Sandbox, SandboxPlan, Sink, Swept,
};

/// One thing that a scripted command does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Gives these bytes to the sink.
    Print(Vec<u8>),
    /// Takes this long, on tokio's clock.
    Take(Duration),
    /// The command has ended, and it takes this long until the engine has said everything about it.
    Linger(Duration),
    /// Ends the command. The next step belongs to the next command.
    End(Exit),
    /// Runs until it is stopped.
    Hang,
    /// The engine itself fails.
    Fail(String),
    /// The engine has a defect and panics.
    Panic,
}

impl Step {
    /// The command writes this text.
    pub fn prints(text: &str) -> Self {
        Self::Print(text.as_bytes().to_vec())
    }

    /// The command ends with this code.
    pub fn exits(code: i32) -> Self {
        Self::End(Exit::Code(code))
    }
}

/// What happened on the engine, in order; tests compare it.
pub type Journal = Arc<Mutex<Vec<String>>>;

/// Plays one script for every run.
#[derive(Debug, Clone, Default)]
pub struct FakeEngine {
    script: Vec<Step>,
    journal: Journal,
    unhealthy: Arc<Mutex<Option<String>>>,
    room: Arc<Mutex<Option<Room>>>,
    images: image::Images,
}

impl FakeEngine {
    /// An engine each of whose runs plays `script`.
    pub fn new(script: impl IntoIterator<Item = Step>) -> Self {
        Self { script: script.into_iter().collect(), ..Self::default() }
    }

    /// What happened so far.
    pub fn journal(&self) -> Vec<String> {
        lock(&self.journal).clone()
    }

    /// Says what becomes of images that are wanted from now on.
    pub fn set_images(&self, fate: Fate) {
        *lock(&self.images.fate) = fate;
    }

    /// Sets what [`Engine::room`] tells; making room does not change it.
    pub fn set_room(&self, room: Option<Room>) {
        *lock(&self.room) = room;
    }

    /// Makes [`Engine::health`] fail with this reason, or pass again.
    pub fn set_unhealthy(&self, why: Option<&str>) {
        *lock(&self.unhealthy) = why.map(str::to_owned);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One run on the fake engine, in whatever stage it is; the stages share this value.
#[derive(Debug)]
struct FakeRun {
    names: Names,
    identity: Identity,
    script: VecDeque<Step>,
    journal: Journal,
}

impl FakeRun {
    fn note(&self, what: &str) {
        lock(&self.journal).push(format!("{what} {}", self.names.run));
    }
}

#[async_trait]
impl Engine for FakeEngine {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn health(&self) -> Result<(), String> {
        lock(&self.unhealthy).clone().map_or(Ok(()), Err)
    }

    async fn room(&self) -> Option<Room> {
        *lock(&self.room)
    }

    async fn make_room(&self, bytes: u64) -> Vec<String> {
        lock(&self.journal).push(format!("make room {bytes}"));
        Vec::new()
    }

    async fn sweep(&self, _owner: &Owner, _keep: Keep) -> Swept {
        Swept::default()
    }

    async fn image(
        &self,
        want: &ImageWant,
        bytes: Option<Arc<dyn ImageBytes>>,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, EngineError> {
        self.images.bring(&self.journal, want, bytes, progress).await
    }

    async fn reserve(&self, names: Names) -> Result<Box<dyn Ground>, EngineError> {
        let run = FakeRun {
            names,
            identity: Identity { uid: 0, gid: 0, groups: Vec::new() },
            script: self.script.iter().cloned().collect(),
            journal: Arc::clone(&self.journal),
        };
        run.note("reserve");
        Ok(Box::new(run))
    }
}

#[async_trait]
impl Ground for FakeRun {
    fn task_dir(&self) -> &Path {
        &self.names.task_dir
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn base_environment(&self) -> Environment {
        Environment::new()
    }

    async fn create(self: Box<Self>, _plan: SandboxPlan) -> Result<Box<dyn Sandbox>, (EngineError, Box<dyn Quiet>)> {
        self.note("create");
        Ok(self)
    }

    async fn quiesce(self: Box<Self>) -> Box<dyn Quiet> {
        self.note("quiet");
        self
    }
}

#[async_trait]
impl Sandbox for FakeRun {
    fn start(self: Box<Self>, sink: Arc<dyn Sink>) -> Box<dyn crate::RunHandle> {
        self.note("start");
        Box::new(run::Running { run: *self, sink, over: Over::default() })
    }

    async fn quiesce(self: Box<Self>) -> Box<dyn Quiet> {
        self.note("quiet");
        self
    }
}

#[async_trait]
impl Quiet for FakeRun {
    fn read(&self, path: &str, _kind: crate::Kind) -> tokio::sync::mpsc::Receiver<crate::Entry> {
        self.note("read");
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let missing =
            crate::Entry { relative: String::new(), shown: path.to_owned(), content: Err(crate::EntryFault::Missing) };
        // The channel has room for one, and nobody else sends.
        drop(send.try_send(missing));
        receive
    }

    async fn destroy(self: Box<Self>, _keep_files: bool) -> Result<Gone, EngineError> {
        self.note("destroy");
        Ok(Gone::verified())
    }
}
