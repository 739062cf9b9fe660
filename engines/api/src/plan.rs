//! What the worker asks of an engine: names, commands, environment.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

/// Environment variables by name. Sorted, so that two runs of one task look the same.
pub type Environment = BTreeMap<OsString, OsString>;

/// The names of everything that a run may create. The caller chooses them, so that they can be written down before
/// anything exists and be found again after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// A name unique among the runs of this worker, fit for directories, users and cgroups: `[A-Za-z0-9_-]{1,64}`.
    pub run: String,
    /// The task's directory. It does not exist yet; the engine makes it.
    pub task_dir: PathBuf,
}

/// Who swept things belong to: one worker on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// `<workerGroup>/<workerId>`
    pub worker: String,
    /// The directory under which task directories are made.
    pub tasks_dir: PathBuf,
}

/// One command of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// The program and its arguments; never empty. Run directly, without a shell.
    pub argv: Vec<OsString>,
}

/// Everything an engine needs to run a task's commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPlan {
    /// The commands, in order. [`crate::RunHandle::run`] refers to them by position.
    pub commands: Vec<CommandSpec>,
    /// The complete environment of each command; nothing is added to it.
    pub env: Environment,
    /// Directories that are searched for a bare program name when the task's own `PATH` does not have it.
    pub fallback_path: Option<OsString>,
}
