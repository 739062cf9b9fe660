//! A run whose commands may be running.
//!
//! ```text
//!            run(i)                        the program runs              it ends
//! Idle ───────────────▶ Starting (thread) ─────────────────▶ Running ─────────────▶ Idle
//!   ▲                      │ refused
//!   └──────────────────────┘
//! ```
//!
//! `run` may be dropped in every state; the state stays, and `stop` and `quiesce` go on from it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tc_engine::{CommandEnd, EngineError, Exit, Fault, Quiet, RunHandle, SandboxPlan, Sink, StopReason};
use tc_sys::process::{self, Ended};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    ground::Place,
    output::{Output, Pipe},
    program::{self, Refusal},
    quiet::NativeQuiet,
    tree::{Command, KILL_BOUND, Started, Tree, watch},
};

enum State {
    Idle,
    Starting(JoinHandle<Result<Started, Refusal>>),
    Running(Command),
}

/// A started run.
pub(crate) struct Running {
    /// Taken out by `quiesce` only.
    parts: Option<Parts>,
    plan: SandboxPlan,
    state: State,
    /// No command may start any more.
    closed: bool,
}

struct Parts {
    place: Place,
    tree: Arc<Tree>,
    output: Result<Output, String>,
}

/// What a start or an end came to.
enum Outcome {
    Ended(Ended),
    Refused(String),
}

fn worker_fault(message: impl Into<String>) -> EngineError {
    EngineError::new(Fault::Worker, message)
}

impl Running {
    pub(crate) fn new(place: Place, tree: Tree, pipe: Pipe, plan: SandboxPlan, sink: Arc<dyn Sink>) -> Self {
        let output = pipe
            .open(&place.names.run, sink)
            .map_err(|error| format!("start the thread that takes the task's output: {error}"));
        let parts = Parts { place, tree: Arc::new(tree), output };
        Self { parts: Some(parts), plan, state: State::Idle, closed: false }
    }

    fn parts(&self) -> Result<&Parts, EngineError> {
        self.parts.as_ref().ok_or_else(|| worker_fault("the run is over"))
    }

    /// Begins to start the command, in a thread that may block.
    fn begin(&mut self, index: usize) -> Result<Option<String>, EngineError> {
        let parts = self.parts()?;
        let output = parts.output.as_ref().map_err(|error| worker_fault(error.clone()))?;
        let output = output.write_end().ok_or_else(|| worker_fault("the output of the run is closed"))?;
        let spec = self.plan.commands.get(index).ok_or_else(|| worker_fault(format!("there is no command {index}")))?;
        let fallback = self.plan.fallback_path.as_deref();
        let program = match program::prepare(&spec.argv, &self.plan.env, fallback, &parts.place.names.task_dir) {
            Ok(program) => program,
            Err(text) => return Ok(Some(text)),
        };
        let tree = Arc::clone(&parts.tree);
        self.state = State::Starting(tokio::task::spawn_blocking(move || {
            use std::os::fd::AsFd;
            tree.start(&program, output.as_fd())
        }));
        Ok(None)
    }

    /// Waits until what is being started runs. Returns why it does not. May be dropped and called again.
    async fn started(&mut self) -> Result<Option<String>, EngineError> {
        let State::Starting(thread) = &mut self.state else { return Ok(None) };
        let started = thread.await;
        self.state = State::Idle;
        match started.map_err(|error| worker_fault(format!("start a command: {error}")))? {
            Ok(Started::Child(pidfd)) => {
                let pidfd = watch(pidfd).map_err(|error| worker_fault(format!("watch a command: {error}")))?;
                self.state = State::Running(Command::Child(pidfd));
                Ok(None)
            }
            Ok(Started::Reaped) => {
                self.state = State::Running(Command::Reaped);
                Ok(None)
            }
            Err(Refusal::Task(text)) => Ok(Some(text)),
            Err(Refusal::Worker(text)) => Err(worker_fault(text)),
        }
    }

    /// Waits until whatever was begun has ended. May be dropped and called again.
    async fn ended(&mut self) -> Result<Option<Outcome>, EngineError> {
        if let Some(text) = self.started().await? {
            return Ok(Some(Outcome::Refused(text)));
        }
        let State::Running(command) = &self.state else { return Ok(None) };
        let ended = self.parts()?.tree.end_of(command).await;
        self.state = State::Idle;
        ended.map(|ended| Some(Outcome::Ended(ended))).map_err(worker_fault)
    }

    /// Kills everything, whatever is being started meanwhile, and takes the end of the command.
    async fn kill(&mut self) {
        self.closed = true;
        let Ok(parts) = self.parts() else { return };
        parts.tree.kill();
        if matches!(self.state, State::Starting(_)) {
            // A process that is born after the kill is not killed by it, so the birth is awaited and followed by another.
            let settled = timeout(KILL_BOUND, self.started()).await;
            if let Ok(parts) = self.parts() {
                parts.tree.kill();
                if settled.is_err() {
                    parts.tree.kill_reaper();
                }
            }
        }
        // What does not die is found by `quiesce`, which is where it counts.
        drop(timeout(KILL_BOUND, self.ended()).await);
    }
}

#[async_trait]
impl RunHandle for Running {
    async fn run(&mut self, index: usize) -> Result<CommandEnd, EngineError> {
        if self.closed {
            return Err(worker_fault("the run was stopped"));
        }
        let begun = Instant::now();
        let outcome = match self.begin(index)? {
            Some(refused) => Outcome::Refused(refused),
            None => self.ended().await?.ok_or_else(|| worker_fault("a command was lost"))?,
        };
        let ended = match outcome {
            Outcome::Ended(ended) => ended,
            Outcome::Refused(text) => {
                let exit = Exit::NotStarted(text);
                let (user, kernel) = (Duration::ZERO, Duration::ZERO);
                return Ok(CommandEnd { exit, user, kernel, wall: begun.elapsed(), out_of_memory: false });
            }
        };
        let wall = begun.elapsed();
        let parts = self.parts()?;
        parts.tree.reap_orphans();
        parts.output.as_ref().map_err(|error| worker_fault(error.clone()))?.settle().await.map_err(worker_fault)?;
        let exit = match ended.exit {
            process::Exit::Code(code) => Exit::Code(code),
            process::Exit::Signal(signal) => Exit::Signal(signal),
        };
        Ok(CommandEnd { exit, user: ended.user, kernel: ended.kernel, wall, out_of_memory: false })
    }

    async fn stop(&mut self, _reason: StopReason, grace: Duration) {
        self.closed = true;
        if !grace.is_zero()
            && !matches!(self.state, State::Idle)
            && let Ok(parts) = self.parts()
        {
            parts.tree.terminate();
            // An error here comes up again in `quiesce`.
            drop(timeout(grace, self.ended()).await);
        }
        self.kill().await;
    }

    async fn quiesce(mut self: Box<Self>) -> Result<Box<dyn Quiet>, EngineError> {
        self.kill().await;
        let Some(Parts { place, tree, output }) = self.parts.take() else { return Err(worker_fault("the run is over")) };
        tree.emptied().await.map_err(worker_fault)?;
        tree.reap_orphans();
        if let Ok(output) = output {
            output.finish().await.map_err(worker_fault)?;
        }
        let tree = Arc::try_unwrap(tree).map_err(|_| worker_fault("a command is still being started"))?;
        tree.dissolve().await.map_err(worker_fault)?;
        Ok(Box::new(NativeQuiet::new(place)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever drops a run has not made it quiet: a panic, most likely. Its processes end all the same. A reaper sees the
        // end of its socket; what is in a group is killed here.
        let Some(Parts { tree, place, .. }) = self.parts.take() else { return };
        tree.kill();
        let command = match std::mem::replace(&mut self.state, State::Idle) {
            State::Running(Command::Child(pidfd)) => Some(pidfd.into_inner()),
            _ => None,
        };
        if let Tree::Group { .. } = &*tree {
            let ending = move || tree.end_abandoned(command.as_ref());
            // Without a thread the processes are dead as well, only their group and a zombie remain.
            drop(std::thread::Builder::new().name(format!("end-{}", place.names.run)).spawn(ending));
        }
    }
}
