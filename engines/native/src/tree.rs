//! All processes of one run, held together by a control group or by a reaper.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use tc_sys::{
    launch::{self, Place, Program},
    process::{self, Ended},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Instant,
};

use crate::{
    cgroup::Group,
    orphans,
    program::{self, Refusal},
    reaper::Link,
    step,
};

/// How long everything may take to die. Longer means that something hangs in the kernel.
pub(crate) const KILL_BOUND: Duration = Duration::from_secs(30);

/// What holds the processes of a run together.
#[derive(Debug)]
pub(crate) enum Tree {
    /// A control group; commands are children of this process.
    Group {
        /// The group.
        group: Group,
        /// Standard input of every command.
        null: File,
        /// Whether this process is one that the kernel spares, which its children shall not be.
        ordinary_oom_score: bool,
        /// How to start a step, see [`crate::step`].
        step_program: PathBuf,
    },
    /// A reaper; commands are its children.
    Reaper(Link),
}

/// A command that runs.
#[derive(Debug)]
pub(crate) enum Command {
    /// A child of this process.
    Child(AsyncFd<OwnedFd>),
    /// A child of the reaper.
    Reaped,
}

/// A command that was started, before it belongs to a runtime.
pub(crate) enum Started {
    Child(OwnedFd),
    Reaped,
}

impl Tree {
    /// Starts a program and returns when it runs. Blocks.
    pub(crate) fn start(&self, program: &Program, output: BorrowedFd<'_>) -> Result<Started, Refusal> {
        let explain = |failed| program::explain(program, &failed);
        match self {
            Self::Group { group, null, ordinary_oom_score, step_program } => {
                let place = Place {
                    input: null.as_fd(),
                    output,
                    error: output,
                    cgroup: Some((group.directory.as_fd(), group.procs.as_fd())),
                    ordinary_oom_score: *ordinary_oom_score,
                };
                let started = if *ordinary_oom_score && step::is_needed() {
                    step::launch_over(step_program, program, &place)
                } else {
                    launch::launch(program, &place)
                };
                started.map(|started| Started::Child(started.pidfd)).map_err(explain)
            }
            Self::Reaper(link) => match link.start(program, output) {
                Ok(None) => Ok(Started::Reaped),
                Ok(Some(failed)) => Err(explain(failed)),
                Err(error) => Err(Refusal::Worker(reaper_lost(&error))),
            },
        }
    }

    /// The end of a command that was started. Can be called again when it was interrupted.
    pub(crate) async fn end_of(&self, command: &Command) -> Result<Ended, String> {
        match (self, command) {
            (Self::Reaper(link), Command::Reaped) => link.command_end().await.map_err(|error| reaper_lost(&error)),
            (_, Command::Child(pidfd)) => {
                let watched = async {
                    loop {
                        let mut ready = pidfd.readable().await?;
                        if let Some(ended) = process::try_wait(pidfd.get_ref().as_fd())? {
                            return io::Result::Ok(ended);
                        }
                        ready.clear_ready();
                    }
                };
                watched.await.map_err(|error| format!("wait for a command: {error}"))
            }
            (Self::Group { .. }, Command::Reaped) => Err("wait for a command: it has no reaper".into()),
        }
    }

    /// Asks everything to end.
    pub(crate) fn terminate(&self) {
        match self {
            Self::Group { group, .. } => group.terminate(),
            // A reaper that is gone is noticed by whoever waits for its reports.
            Self::Reaper(link) => drop(link.terminate()),
        }
    }

    /// Kills everything. Returns before all is dead.
    pub(crate) fn kill(&self) {
        match self {
            Self::Group { group, .. } => {
                // Most runs leave nothing behind, and looking is cheaper than killing.
                if group.is_populated().unwrap_or(true) {
                    group.kill();
                }
            }
            Self::Reaper(link) => drop(link.kill()),
        }
    }

    /// Kills a reaper that does not answer. What it held together comes to this process.
    pub(crate) fn kill_reaper(&self) {
        if let Self::Reaper(link) = self {
            link.kill_reaper();
        }
    }

    /// Waits for the processes of a run that nobody wants any more and that were killed. Blocks.
    pub(crate) fn end_abandoned(&self, command: Option<&OwnedFd>) {
        let Self::Group { group, .. } = self else { return };
        let deadline = std::time::Instant::now() + KILL_BOUND;
        while group.is_populated().unwrap_or(false) && std::time::Instant::now() < deadline {
            group.kill();
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(command) = command {
            drop(process::try_wait(command.as_fd()));
        }
        orphans::reap_members(group);
    }

    /// After the last [`Tree::kill`]: waits until everything is dead, or says why that is not so.
    pub(crate) async fn emptied(&self) -> Result<(), String> {
        match self {
            Self::Group { group, .. } => {
                let deadline = Instant::now() + KILL_BOUND;
                let mut wait = Duration::from_millis(1);
                while group.is_populated().map_err(|error| format!("read the state of a cgroup: {error}"))? {
                    if Instant::now() >= deadline {
                        return Err(format!(
                            "processes of the task are still alive {} s after they were killed: {}",
                            KILL_BOUND.as_secs(),
                            pids(group)
                        ));
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_millis(20));
                    group.kill();
                }
                Ok(())
            }
            Self::Reaper(link) => match tokio::time::timeout(KILL_BOUND, link.emptied()).await {
                Ok(Ok(true)) => Ok(()),
                Ok(Ok(false)) => Err("processes of the task are still alive after they were killed".into()),
                Ok(Err(_gone)) => kill_strays(link).await,
                Err(_) => {
                    // Stopped by the task, or hanging. Without it its tree comes to this process.
                    link.kill_reaper();
                    kill_strays(link).await
                }
            },
        }
    }

    /// Waits for dead processes that have come to this one.
    pub(crate) fn reap_orphans(&self) {
        if let Self::Group { group, .. } = self {
            orphans::reap_members(group);
        }
    }

    /// Removes what held the processes together. There must be none left.
    pub(crate) async fn dissolve(self) -> Result<(), String> {
        match self {
            Self::Group { group, .. } => {
                let removed = tokio::task::spawn_blocking(|| group.remove()).await;
                match removed {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(format!("remove the cgroup of a run: {error}")),
                    Err(error) => Err(format!("remove the cgroup of a run: {error}")),
                }
            }
            Self::Reaper(link) => {
                link.end().await;
                Ok(())
            }
        }
    }
}

fn reaper_lost(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            "the reaper of the run is gone; something, perhaps the task itself, has killed it".into()
        }
        _ => format!("talk to the reaper of the run: {error}"),
    }
}

/// Lets the runtime watch a descriptor for readability. Must be called inside a runtime.
#[expect(deprecated, reason = "unsound only for types whose descriptor can change, and the replacement needs unsafe code")]
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

async fn kill_strays(link: &Link) -> Result<(), String> {
    link.wait_dead().await;
    match tokio::task::spawn_blocking(orphans::kill_strays).await {
        Ok(true) => Ok(()),
        Ok(false) => Err("the task has killed its reaper, and what it left behind could not be killed".into()),
        Err(error) => Err(format!("kill what a reaper left behind: {error}")),
    }
}

fn pids(group: &Group) -> String {
    let pids: Vec<String> = group.members().iter().take(10).map(|seen| seen.pid.to_string()).collect();
    pids.join(", ")
}
