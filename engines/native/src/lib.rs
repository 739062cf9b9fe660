//! Native processes as the current user.
//!
//! ```text
//! NativeEngine ─reserve─▶ NativeGround ─create─▶ NativeSandbox ─start─▶ Running ─quiesce─▶ NativeQuiet
//!                          directory,              commands,             pump, current      files, removal
//!                          cage                    environment           command
//! ```
//!
//! All processes of a run live in one [`cage`]: a control group of their own where a cgroup2 hierarchy can be written, else
//! below a small reaper process. Either knows every process of the run, also those that left their session, their process
//! group and their parents; quiet means that there is none.
//!
//! A task that runs as the worker's own user can do to its worker what that user can, root above all: move itself into
//! another control group, kill the reaper, or the worker. What this engine promises holds against accidents, and against
//! everything that such a task cannot undo.

mod cage;
mod command;
mod files;
mod ground;
mod pump;
mod reaper;
mod removal;
mod running;

use std::{io, path::PathBuf};

use async_trait::async_trait;
use tc_engine::{Engine, EngineError, Fault, Ground, Names, Owner, Swept};

use self::cage::Hierarchy;
pub use self::reaper::{REAPER_COMMAND, reaper_main};

/// How the processes of a run are kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Containment {
    /// A control group if one can be made, else a reaper.
    Detect,
    /// A control group.
    Cgroup,
    /// A reaper process.
    Reaper,
}

/// What the engine is made with.
#[derive(Debug, Clone)]
pub struct NativeOptions {
    /// The program that enters [`reaper_main`] when its first argument is [`REAPER_COMMAND`]; the worker itself.
    pub reaper_program: PathBuf,
    /// How to keep processes together.
    pub containment: Containment,
}

/// Runs tasks as processes of the current user.
pub struct NativeEngine {
    hierarchy: Option<Hierarchy>,
    reaper_program: PathBuf,
    /// The worker is protected from being killed for memory; its tasks are not.
    reset_oom_score: bool,
}

impl NativeEngine {
    /// An engine.
    ///
    /// # Errors
    /// When control groups are demanded and none can be made.
    pub fn new(options: NativeOptions) -> io::Result<Self> {
        let hierarchy = match options.containment {
            Containment::Reaper => None,
            Containment::Cgroup => Some(Hierarchy::new()?),
            Containment::Detect => match Hierarchy::new() {
                Ok(hierarchy) => Some(hierarchy),
                Err(error) => {
                    tracing::debug!("no control groups: {error}");
                    None
                }
            },
        };
        let reset_oom_score = tc_sys::process::oom_score_adj() != 0;
        Ok(Self { hierarchy, reaper_program: options.reaper_program, reset_oom_score })
    }

    /// How processes are kept together, for people.
    pub fn containment(&self) -> &'static str {
        if self.hierarchy.is_some() { "a control group for each task" } else { "a reaper process for each task" }
    }
}

#[async_trait]
impl Engine for NativeEngine {
    fn name(&self) -> &'static str {
        "insecure"
    }

    async fn health(&self) -> Result<(), String> {
        Ok(())
    }

    async fn sweep(&self, owner: &Owner, keep: &[String]) -> Swept {
        let (tasks_dir, keep) = (owner.tasks_dir.clone(), keep.to_vec());
        let group = self.hierarchy.as_ref().map(Hierarchy::own_group);
        let swept = tokio::task::spawn_blocking(move || {
            // Processes first: what they hold cannot be removed for good.
            let mut swept = group.map(|group| cage::sweep(&group)).unwrap_or_default();
            removal::sweep(&tasks_dir, &keep, &mut swept);
            swept
        });
        swept.await.unwrap_or_else(|panic| Swept { removed: Vec::new(), failed: vec![format!("sweep: {panic}")] })
    }

    async fn reserve(&self, names: Names) -> Result<Box<dyn Ground>, EngineError> {
        let cage = match &self.hierarchy {
            Some(hierarchy) => ground::Reserved::Group(
                hierarchy
                    .make(&names.run)
                    .map_err(|e| EngineError::new(Fault::Worker, format!("make a control group for the task: {e}")))?,
            ),
            None => ground::Reserved::Reaper(self.reaper_program.clone()),
        };
        let ground = ground::NativeGround::make(names, cage, self.reset_oom_score)?;
        Ok(Box::new(ground))
    }
}
