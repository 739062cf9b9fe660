//! What the worker asks of an engine: names, commands, environment.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
    sync::Arc,
};

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
    /// Whether the run gets a network of its own, named after the run. Engines without networks ignore it.
    pub network: bool,
}

/// Who swept things belong to: one worker on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// `<workerGroup>/<workerId>`
    pub worker: String,
    /// The directory under which task directories are made.
    pub tasks_dir: PathBuf,
}

/// Whether a run of this name goes on and has to be left alone. Asked after what there is was listed, so that a run that
/// begins meanwhile is not taken for a dead one.
pub type Keep = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// One command of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// The program and its arguments, run directly, without a shell. Empty only in containers: the image says what runs then.
    pub argv: Vec<OsString>,
}

impl CommandSpec {
    /// Whether these words name a program. An empty word names none: it is found in no directory.
    pub fn names_a_program<W: AsRef<OsStr>>(argv: &[W]) -> bool {
        argv.first().is_some_and(|name| !name.as_ref().is_empty())
    }
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
    /// What the container is like, for engines that make one.
    pub container: Option<ContainerPlan>,
}

/// What a container is like beside its commands and environment. Everything that is not said here is the engine's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerPlan {
    /// The image, as [`crate::Image::id`] names it.
    pub image: String,
    /// All capabilities and devices. Outranks `sys_ptrace`.
    pub privileged: bool,
    /// Adds the capability `SYS_PTRACE`.
    pub sys_ptrace: bool,
    /// Switches seccomp off. Otherwise nothing is said about it, so that the profile of the engine stays in force.
    pub seccomp_unconfined: bool,
    /// Devices of the host, under the same path in the container.
    pub devices: Vec<PathBuf>,
    /// Directories of the host, which exist.
    pub binds: Vec<Bind>,
    /// Absolute paths in the container that are empty writable volumes when it starts and go with it.
    pub volumes: Vec<String>,
    /// Lines for `/etc/hosts`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// GPUs as Docker's command line names them: `all`, a count, or `device=…`.
    pub gpus: Option<String>,
    /// What it may use of the machine.
    pub limits: Limits,
}

/// A directory of the host inside of a container, writable, with the owners it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path in the container, taken literally.
    pub target: String,
}

/// Limits of one container; none unless the pool sets them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, without additional swap.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a processor.
    pub millicpus: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}
