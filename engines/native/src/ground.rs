//! What exists of a run before its commands start: its directory, then what will hold its processes together.

use std::{
    ffi::CString,
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use tc_engine::{EngineError, Environment, Fault, Ground, Identity, Names, Quiet, RunHandle, Sandbox, SandboxPlan, Sink};
use tc_sys::beneath::Root;

use crate::{
    engine::Shared,
    output::Pipe,
    quiet::NativeQuiet,
    reaper::{Launched, Link},
    run::Running,
    tree::Tree,
};

/// The directory in the task directory into which the worker may put its own files. Programs expect it to exist.
pub(crate) const WORKER_DIR: &str = "generic-worker";

/// The directory of one run.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) names: Names,
    /// The task directory, whatever the task does to its name.
    pub(crate) root: Arc<Root>,
    /// The directory that the task directory is in.
    pub(crate) parent: File,
    /// The name of the task directory in `parent`.
    pub(crate) name: CString,
    /// Tells a sweep by another worker that this run is alive.
    _lock: File,
}

impl Place {
    /// Makes the directory. Blocks.
    pub(crate) fn make(names: Names) -> Result<Self, EngineError> {
        let path = names.task_dir.clone();
        Self::try_make(names).map_err(|error| {
            let fault = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Resource,
                _ => Fault::Worker,
            };
            EngineError::new(fault, format!("make task directory \"{}\": {error}", path.display()))
        })
    }

    fn try_make(names: Names) -> io::Result<Self> {
        let path = &names.task_dir;
        let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::other("is no path of a directory"));
        };
        let name = CString::new(name.as_bytes())?;
        make_private(path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => fs::create_dir_all(parent_path).and_then(|()| make_private(path)),
            _ => Err(error),
        })?;
        let furnished = (|| {
            let own = path.join(WORKER_DIR);
            make_private(&own)?;
            let lock = File::open(&own)?;
            lock.try_lock().map_err(io::Error::from)?;
            io::Result::Ok((Root::open(path)?, File::open(parent_path)?, lock))
        })();
        match furnished {
            Ok((root, parent, lock)) => Ok(Self { root: Arc::new(root), parent, name, _lock: lock, names }),
            Err(error) => {
                // It was made a moment ago and nobody has used it.
                drop(fs::remove_dir_all(path));
                Err(error)
            }
        }
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Whether a task directory belongs to a run of a worker that is alive.
pub(crate) fn is_in_use(task_dir: &Path) -> bool {
    match File::open(task_dir.join(WORKER_DIR)) {
        Ok(lock) => matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

/// A reserved run.
pub(crate) struct NativeGround {
    pub(crate) place: Place,
    pub(crate) shared: Arc<Shared>,
}

#[async_trait]
impl Ground for NativeGround {
    fn task_dir(&self) -> &Path {
        &self.place.names.task_dir
    }

    fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    fn base_environment(&self) -> Environment {
        self.shared.environment.clone()
    }

    async fn create(self: Box<Self>, plan: SandboxPlan) -> Result<Box<dyn Sandbox>, (EngineError, Box<dyn Quiet>)> {
        let Self { place, shared } = *self;
        let run = place.names.run.clone();
        let made = tokio::task::spawn_blocking(move || {
            let pipe = Pipe::new().map_err(|error| format!("make a pipe: {error}"))?;
            Made::new(&shared, &run).map(|made| (pipe, made))
        });
        let made = match made.await {
            Ok(made) => made,
            Err(error) => Err(format!("prepare a run: {error}")),
        };
        match made.and_then(|(pipe, made)| Ok((pipe, made.attach()?))) {
            Ok((pipe, tree)) => Ok(Box::new(NativeSandbox { place, pipe, tree, plan })),
            Err(message) => Err((EngineError::new(Fault::Worker, message), Box::new(NativeQuiet::new(place)))),
        }
    }

    async fn quiesce(self: Box<Self>) -> Box<dyn Quiet> {
        Box::new(NativeQuiet::new(self.place))
    }
}

/// What will hold the processes together, before it belongs to a runtime.
enum Made {
    Ready(Tree),
    Reaper(Launched),
}

impl Made {
    /// Blocks.
    fn new(shared: &Shared, run: &str) -> Result<Self, String> {
        let Some(base) = &shared.base else {
            return Launched::start(&shared.reaper_program).map(Self::Reaper);
        };
        let null = File::open("/dev/null").map_err(|error| format!("open /dev/null: {error}"))?;
        let group = base.create(run).map_err(|error| format!("make a cgroup: {error}"))?;
        Ok(Self::Ready(Tree::Group {
            group,
            null,
            ordinary_oom_score: shared.ordinary_oom_score,
            step_program: shared.reaper_program.clone(),
        }))
    }

    fn attach(self) -> Result<Tree, String> {
        match self {
            Self::Ready(tree) => Ok(tree),
            Self::Reaper(launched) => Link::new(launched).map(Tree::Reaper).map_err(|error| format!("watch a reaper: {error}")),
        }
    }
}

/// A run that is ready to start.
struct NativeSandbox {
    place: Place,
    pipe: Pipe,
    tree: Tree,
    plan: SandboxPlan,
}

#[async_trait]
impl Sandbox for NativeSandbox {
    fn start(self: Box<Self>, sink: Arc<dyn Sink>) -> Box<dyn RunHandle> {
        let Self { place, pipe, tree, plan } = *self;
        Box::new(Running::new(place, tree, pipe, plan, sink))
    }

    async fn quiesce(self: Box<Self>) -> Box<dyn Quiet> {
        let quiet = NativeQuiet::new(self.place);
        match self.tree.dissolve().await {
            Ok(()) => Box::new(quiet),
            Err(left) => Box::new(quiet.with_remains(left)),
        }
    }
}

impl Place {
    /// Something to make `*at` calls with.
    pub(crate) fn parent_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.parent.as_fd()
    }
}
