//! What comes back from a running command.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

/// Where the bytes that a task writes to its standard output and error go.
///
/// Called from a thread of the engine, in the order in which the bytes came. It may block for as long as a write to a
/// local file blocks, and it cannot fail: the receiver keeps its own record of what it could not store.
pub trait Sink: Send + Sync + 'static {
    /// Takes the next bytes.
    fn write(&self, bytes: &[u8]);
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code, 0–255.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It never started. The text names the program and the reason, ready for the task log, for instance
    /// `exec: "x": executable file not found in $PATH` or `fork/exec /p: permission denied`.
    NotStarted(String),
}

impl Exit {
    /// Whether the command did what its author wanted.
    pub fn is_success(&self) -> bool {
        *self == Self::Code(0)
    }
}

/// The end of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandEnd {
    /// How it ended.
    pub exit: Exit,
    /// Processor time in user mode, of the command and the children it waited for; zero where the engine does not know.
    pub user: Duration,
    /// Processor time in kernel mode, likewise.
    pub kernel: Duration,
    /// Time from before the start until after the end, on the monotonic clock.
    pub wall: Duration,
    /// Whether memory ran out and it failed, be it that the command itself was killed for it or a child of it. Engines that
    /// cannot know say no.
    pub out_of_memory: bool,
}

/// Whether a command has ended, for those who wait for what comes after it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Over(Arc<OnceLock<Instant>>);

impl Over {
    /// It has ended now, unless it has before.
    pub fn set(&self) {
        self.0.get_or_init(Instant::now);
    }

    /// When it ended; none as long as that is not known.
    pub fn at(&self) -> Option<Instant> {
        self.0.get().copied()
    }
}

/// Why the worker ends a run before its commands are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// The queue says that the task was canceled.
    Canceled,
    /// `task.deadline` has passed.
    Deadline,
    /// The claim ran out or was taken away.
    LeaseLost,
    /// `payload.maxRunTime` has passed.
    MaxRunTime,
    /// The machine is short of memory.
    Memory,
    /// The task log could not be stored.
    LogLost,
    /// The worker has to go.
    WorkerShutdown,
    /// A part of the worker that serves this run failed.
    WorkerFault,
}
