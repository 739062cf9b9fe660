//! The engine: what it finds out at start-up, and what it sweeps away.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tc_engine::{Engine, EngineError, Environment, Fault, Ground, Identity, Keep, Names, Owner, Swept};
use tc_sys::{
    process,
    removal::{self, What},
};

use crate::{
    cgroup::{Base, Group},
    environment,
    ground::{NativeGround, Place, is_in_use},
    quiet::{REMOVAL_BOUND, explain},
    tree::KILL_BOUND,
};

/// Names of task directories begin with this; nothing else is swept away.
const TASK_PREFIX: &str = "task_";

/// How the processes of a run are held together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Containment {
    /// A control group where one can be made, a reaper elsewhere.
    #[default]
    Detect,
    /// A control group, or no engine.
    Cgroup,
    /// A reaper.
    Reaper,
}

/// What the engine has to be told.
#[derive(Debug, Clone)]
pub struct NativeOptions {
    /// The program that calls [`crate::reaper_main`] when its first argument is [`crate::REAPER_COMMAND`]: normally this one.
    pub reaper_program: PathBuf,
    /// How the processes of a run are held together.
    pub containment: Containment,
}

/// What all runs of an engine have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Where control groups are made, if they are.
    pub(crate) base: Option<Base>,
    pub(crate) reaper_program: PathBuf,
    pub(crate) ordinary_oom_score: bool,
    pub(crate) identity: Identity,
    pub(crate) environment: Environment,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(base) = &self.base {
            base.forget();
        }
    }
}

/// Runs tasks as native processes of the worker's own user.
#[derive(Debug)]
pub struct NativeEngine {
    shared: Arc<Shared>,
    why_no_cgroup: Option<String>,
}

impl NativeEngine {
    /// Finds out how processes can be held together. To be called before the worker makes itself undumpable.
    ///
    /// # Errors
    /// When control groups were asked for and cannot be made.
    pub fn new(options: NativeOptions) -> io::Result<Self> {
        let (base, why_no_cgroup) = match options.containment {
            Containment::Reaper => (None, None),
            Containment::Cgroup => (Some(Base::establish()?), None),
            Containment::Detect => match Base::establish() {
                Ok(base) => (Some(base), None),
                Err(error) => (None, Some(error.to_string())),
            },
        };
        if base.is_none() {
            // What a task leaves behind by killing its reaper comes to this process.
            process::become_subreaper()?;
        }
        let shared = Shared {
            base,
            reaper_program: options.reaper_program,
            ordinary_oom_score: process::oom_score_adj()? != 0,
            identity: environment::current_identity(),
            environment: environment::inherited(std::env::vars_os()),
        };
        Ok(Self { shared: Arc::new(shared), why_no_cgroup })
    }

    /// How the processes of a run are held together: never [`Containment::Detect`].
    pub fn containment(&self) -> Containment {
        if self.shared.base.is_some() { Containment::Cgroup } else { Containment::Reaper }
    }

    /// Why no control groups are used although they were looked for.
    pub fn why_no_cgroup(&self) -> Option<&str> {
        self.why_no_cgroup.as_deref()
    }
}

#[async_trait]
impl Engine for NativeEngine {
    fn name(&self) -> &'static str {
        "insecure"
    }

    async fn health(&self) -> Result<(), String> {
        if let Some(base) = &self.shared.base {
            return base.ensure().map_err(|error| format!("no cgroup can be made: {error}"));
        }
        let program = &self.shared.reaper_program;
        match fs::metadata(program) {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => Ok(()),
            Ok(_) => Err(format!("{} is not a program", program.display())),
            Err(error) => Err(format!("{}: {error}", program.display())),
        }
    }

    async fn sweep(&self, owner: &Owner, keep: Keep) -> Swept {
        let (shared, tasks_dir) = (Arc::clone(&self.shared), owner.tasks_dir.clone());
        let swept = tokio::task::spawn_blocking(move || {
            let mut swept = Swept::default();
            // Processes first: they would go on writing into the directories.
            if let Some(base) = &shared.base {
                for group in base.stale() {
                    sweep_group(group, &keep, &mut swept);
                }
                base.forget_dead();
            }
            sweep_directories(&tasks_dir, &keep, &mut swept);
            swept
        });
        swept.await.unwrap_or_else(|error| Swept { removed: Vec::new(), failed: vec![format!("sweep: {error}")] })
    }

    async fn reserve(&self, names: Names) -> Result<Box<dyn Ground>, EngineError> {
        let place = tokio::task::spawn_blocking(move || Place::make(names)).await;
        let place = place.map_err(|error| EngineError::new(Fault::Worker, format!("make a task directory: {error}")))??;
        Ok(Box::new(NativeGround { place, shared: Arc::clone(&self.shared) }))
    }
}

/// Ends what a worker that is gone has left running.
fn sweep_group(group: Group, keep: &Keep, swept: &mut Swept) {
    let name = group.name();
    if keep(&name) {
        return;
    }
    let deadline = Instant::now() + KILL_BOUND;
    while group.is_populated().unwrap_or(false) && Instant::now() < deadline {
        group.kill();
        std::thread::sleep(Duration::from_millis(2));
    }
    match group.remove() {
        Ok(()) => swept.removed.push(name),
        Err(error) => swept.failed.push(format!("remove the cgroup of run {name}: {error}")),
    }
}

fn sweep_directories(tasks_dir: &Path, keep: &Keep, swept: &mut Swept) {
    let entries = match fs::read_dir(tasks_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            swept.failed.push(format!("list \"{}\": {error}", tasks_dir.display()));
            return;
        }
    };
    let Ok(parent) = File::open(tasks_dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let shown = name.to_string_lossy().into_owned();
        let is_leftover = shown.starts_with(TASK_PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && !keep(&shown)
            && !is_in_use(&entry.path());
        if !is_leftover {
            continue;
        }
        let Ok(name) = CString::new(name.as_bytes()) else { continue };
        match removal::remove(parent.as_fd(), &name, What::Everything, Instant::now() + REMOVAL_BOUND) {
            Ok(()) => {
                if !swept.removed.contains(&shown) {
                    swept.removed.push(shown);
                }
            }
            Err(left) => {
                swept.failed.push(format!("remove \"{}\": {}", entry.path().display(), explain(&left)));
            }
        }
    }
}
