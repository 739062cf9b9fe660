//! A run whose commands may be running.
//!
//! ```text
//! Idle ──run(i)──▶ Starting ──▶ InCommand ──ended, output caught up──▶ Idle
//!                     │             │
//!                     └──────stop───┴──▶ everything killed, the command's end taken
//! ```
//!
//! What `run` waits for is kept here, not in its future: a `run` that is dropped half-way leaves the command to `stop`.

use std::{io, os::fd::AsFd as _, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tc_engine::{CommandEnd, CommandSpec, EngineError, Exit, Fault, Quiet, RunHandle, SandboxPlan, Sink, StopReason};
use tc_sys::{
    readiness::readable,
    spawn::{Failure, Program, Started, Step, nothing, spawn},
    wait::{Child, End, try_wait},
};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, timeout},
};

use crate::{
    cage::Group,
    command::{self, Prepared},
    files::NativeQuiet,
    ground::Reserved,
    pump::Pump,
    reaper::{Reaper, Tell, end},
};

/// Longest wait for a killed command.
const DEATH_BOUND: Duration = Duration::from_secs(30);

enum Cage {
    Group { group: Group, current: Option<AsyncFd<std::os::fd::OwnedFd>> },
    Reaper { reaper: Box<Reaper>, in_command: bool },
}

/// A run.
pub struct Running {
    task_dir: PathBuf,
    plan: SandboxPlan,
    /// `None` only after `quiesce` has taken it.
    cage: Option<Cage>,
    pump: Option<Pump>,
    reset_oom_score: bool,
}

impl Running {
    /// Opens the way for output, and starts the reaper if there is one. Gives the group back when that fails.
    pub fn start(
        task_dir: PathBuf,
        cage: Reserved,
        plan: SandboxPlan,
        reset_oom_score: bool,
        sink: Arc<dyn Sink>,
    ) -> Result<Self, (io::Error, Option<Group>)> {
        let pump = match Pump::start(sink) {
            Ok(pump) => pump,
            Err(error) => {
                let Reserved::Group(group) = cage else { return Err((error, None)) };
                return Err((error, Some(group)));
            }
        };
        let cage = match cage {
            Reserved::Group(group) => Cage::Group { group, current: None },
            Reserved::Reaper(program) => {
                let reaper = Reaper::start(&program, &pump).map_err(|error| (error, None))?;
                tracing::debug!("process {} keeps the task's processes together", reaper.pid());
                Cage::Reaper { reaper: Box::new(reaper), in_command: false }
            }
        };
        Ok(Self { task_dir, plan, cage: Some(cage), pump: Some(pump), reset_oom_score })
    }

    /// Runs a prepared command to its end, or tells why it did not start.
    async fn complete(&mut self, prepared: &Prepared) -> io::Result<Result<End, Failure>> {
        let Some(pump) = &self.pump else { return Err(io::Error::other("the run has ended")) };
        match &mut self.cage {
            None => Err(io::Error::other("the run has ended")),
            Some(Cage::Group { group, current }) => {
                let output = pump.entrance().ok_or_else(|| io::Error::other("the output is closed"))?;
                let nothing = nothing()?;
                let cwd = tc_sys::open::c_string(self.task_dir.as_os_str())?;
                let started = spawn(&Program {
                    path: &prepared.path,
                    argv: &prepared.argv,
                    envp: &prepared.envp,
                    cwd: &cwd,
                    stdin: nothing.as_fd(),
                    output,
                    cgroup: Some(group.entrance()),
                    reset_oom_score: self.reset_oom_score,
                });
                let Started { pidfd, failure, .. } = match started {
                    Ok(started) => started,
                    // No process could be made: the machine's limits, or the task's own.
                    Err(error) => return Ok(Err(Failure { step: Step::Exec, error })),
                };
                let pidfd = current.insert(readable(pidfd)?);
                let failure = read_failure(failure).await?;
                let ended = wait(pidfd).await?;
                *current = None;
                Ok(match failure {
                    Some(failure) => Err(failure),
                    None => Ok(ended),
                })
            }
            Some(Cage::Reaper { reaper, in_command }) => {
                *in_command = true;
                reaper.ask_start(prepared, &self.task_dir).await?;
                loop {
                    match reaper.hear().await? {
                        Tell::Started => {}
                        Tell::NotStarted(step, errno) => {
                            *in_command = false;
                            let step = match step {
                                1 => Step::Chdir,
                                2 => Step::Exec,
                                _ => Step::Setup,
                            };
                            return Ok(Err(Failure { step, error: io::Error::from_raw_os_error(errno) }));
                        }
                        Tell::Ended { code, user, kernel } => {
                            *in_command = false;
                            return Ok(Ok(end(code, user, kernel)));
                        }
                        Tell::Quiet | Tell::Undead => return Err(io::Error::other("the reaper ended early")),
                    }
                }
            }
        }
    }
}

async fn read_failure(failure: std::os::fd::OwnedFd) -> io::Result<Option<Failure>> {
    let failure = readable(failure)?;
    let mut bytes = [0; 8];
    loop {
        let mut ready = failure.readable().await?;
        let read = ready.try_io(|fd| nix::unistd::read(fd, &mut bytes).map_err(io::Error::from));
        if let Ok(n) = read {
            return Ok(Failure::read(&bytes[..n?]));
        }
    }
}

async fn wait(pidfd: &AsyncFd<std::os::fd::OwnedFd>) -> io::Result<End> {
    loop {
        let mut ready = pidfd.readable().await?;
        if let Some((_, end)) = try_wait(Child::Pidfd(pidfd.get_ref().as_fd()))? {
            return Ok(end);
        }
        ready.clear_ready();
    }
}

fn engine_error(what: &str, error: &io::Error) -> EngineError {
    EngineError::new(Fault::Worker, format!("{what}: {error}"))
}

#[async_trait]
impl RunHandle for Running {
    async fn run(&mut self, index: usize) -> Result<CommandEnd, EngineError> {
        let began = Instant::now();
        let not_started = |why: String| CommandEnd {
            exit: Exit::NotStarted(why),
            user: Duration::ZERO,
            kernel: Duration::ZERO,
            wall: began.elapsed(),
        };
        let command: CommandSpec = self
            .plan
            .commands
            .get(index)
            .cloned()
            .ok_or_else(|| EngineError::new(Fault::Worker, format!("there is no command {index}")))?;
        let prepared = match command::prepare(&command, &self.plan, &self.task_dir) {
            Ok(prepared) => prepared,
            Err(why) => return Ok(not_started(why)),
        };
        let ended = self.complete(&prepared).await.map_err(|e| engine_error("run the command", &e))?;
        let wall = began.elapsed();
        if let Some(pump) = &self.pump {
            pump.catch_up().await;
        }
        Ok(match ended {
            Ok(End { code, user, kernel }) => {
                let exit = code.map_or_else(Exit::Signal, Exit::Code);
                CommandEnd { exit, user, kernel, wall }
            }
            Err(failure) => not_started(command::explain(&failure, &command, &prepared, &self.task_dir)),
        })
    }

    async fn stop(&mut self, _reason: StopReason, _grace: Duration) {
        // Processes of a user of our own have no claim to a grace that the reference does not give.
        let stopped = match &mut self.cage {
            None => return,
            Some(Cage::Group { group, current }) => match (group.kill(), current.take()) {
                (Ok(()), Some(pidfd)) => {
                    timeout(DEATH_BOUND, wait(&pidfd)).await.map_err(io::Error::from).and_then(|r| r.map(drop))
                }
                (killed, _) => killed,
            },
            Some(Cage::Reaper { reaper, in_command }) => {
                let dead = async {
                    reaper.ask_kill().await?;
                    while *in_command {
                        *in_command = !matches!(reaper.hear().await?, Tell::Ended { .. } | Tell::NotStarted(..));
                    }
                    Ok(())
                };
                timeout(DEATH_BOUND, dead).await.map_err(io::Error::from).and_then(|r| r)
            }
        };
        if let Err(error) = stopped {
            // Quiet decides; it tries again and verifies.
            tracing::warn!("Could not stop the task's processes: {error}");
        }
    }

    async fn quiesce(mut self: Box<Self>) -> Result<Box<dyn Quiet>, EngineError> {
        let group = match self.cage.take() {
            None => return Err(EngineError::new(Fault::Worker, "the run was made quiet before")),
            Some(Cage::Group { group, current }) => {
                group.empty().await.map_err(|e| engine_error("end the task's processes", &e))?;
                if let Some(pidfd) = current {
                    // A command that was neither waited for nor stopped.
                    drop(timeout(DEATH_BOUND, wait(&pidfd)).await);
                }
                Some(group)
            }
            Some(Cage::Reaper { reaper, .. }) => {
                let value = |name: &str| self.plan.env.get(std::ffi::OsStr::new(name)).cloned().unwrap_or_default();
                let mark = [b"TASK_WORKDIR=", value("TASK_WORKDIR").as_encoded_bytes()].concat();
                reaper.quiet(&mark).await.map_err(|e| engine_error("end the task's processes", &e))?;
                None
            }
        };
        if let Some(pump) = self.pump.take() {
            pump.finish().await;
        }
        Ok(Box::new(NativeQuiet::new(self.task_dir.clone(), group)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only a run whose owner failed comes here with a cage; the reaper notices by its socket.
        if let Some(Cage::Group { group, .. }) = &self.cage {
            drop(group.kill());
        }
    }
}

/// A run whose output could not be opened: it runs nothing and says why.
pub struct Broken {
    why: String,
    task_dir: PathBuf,
    group: Option<Group>,
}

impl Broken {
    /// A run that cannot run.
    pub fn new(why: &io::Error, task_dir: PathBuf, group: Option<Group>) -> Self {
        Self { why: why.to_string(), task_dir, group }
    }
}

#[async_trait]
impl RunHandle for Broken {
    async fn run(&mut self, _index: usize) -> Result<CommandEnd, EngineError> {
        Err(EngineError::new(Fault::Worker, format!("prepare to run commands: {}", self.why)))
    }

    async fn stop(&mut self, _reason: StopReason, _grace: Duration) {}

    async fn quiesce(self: Box<Self>) -> Result<Box<dyn Quiet>, EngineError> {
        Ok(Box::new(NativeQuiet::new(self.task_dir, self.group)))
    }
}
