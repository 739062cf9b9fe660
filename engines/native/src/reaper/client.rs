//! The worker's end of a reaper.

use std::{
    io,
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::Path,
    time::Duration,
};

use tc_sys::{
    open::c_string,
    spawn::{Program, Started, spawn},
    wait::{Child, End, try_wait},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::{
    REAPER_COMMAND,
    wire::{Ask, Tell, decode, encode},
};
use crate::{cage, command::Prepared, pump::Pump};

/// Longest wait for a tree to be empty; the reaper itself gives up a little earlier.
const QUIET_BOUND: Duration = Duration::from_secs(40);
/// Longest wait for the reaper to take a message in.
const ASK_BOUND: Duration = Duration::from_secs(30);

/// A reaper that runs.
pub struct Reaper {
    socket: UnixStream,
    heard: Vec<u8>,
    process: Started,
}

impl Reaper {
    /// Starts a reaper whose commands write to `pump`.
    pub fn start(program: &Path, pump: &Pump) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let output = pump.entrance().ok_or_else(|| io::Error::other("the output is closed"))?;
        let process = spawn(&Program {
            path: &c_string(program.as_os_str())?,
            argv: &[c"tc-worker-reaper".to_owned(), c_string(REAPER_COMMAND.as_ref())?],
            envp: &[],
            cwd: c"/",
            stdin: theirs.as_fd(),
            output,
            cgroup: None,
            reset_oom_score: false,
        })?;
        Ok(Self { socket: UnixStream::from_std(ours)?, heard: Vec::new(), process })
    }

    /// Asks for a command to be started.
    pub async fn ask_start(&mut self, command: &Prepared, cwd: &Path) -> io::Result<()> {
        let bytes = |list: &[std::ffi::CString]| list.iter().map(|s| s.as_bytes().to_vec()).collect();
        self.ask(&Ask::Start {
            path: command.path.as_bytes().to_vec(),
            argv: bytes(&command.argv),
            envp: bytes(&command.envp),
            cwd: cwd.as_os_str().as_bytes().to_vec(),
        })
        .await
    }

    /// Asks for everything to be killed.
    pub async fn ask_kill(&mut self) -> io::Result<()> {
        self.ask(&Ask::Kill).await
    }

    async fn ask(&mut self, message: &Ask) -> io::Result<()> {
        let bytes = encode(message)?;
        timeout(ASK_BOUND, self.socket.write_all(&bytes)).await?
    }

    /// The next message. May be dropped and called again without losing any.
    pub async fn hear(&mut self) -> io::Result<Tell> {
        loop {
            if let Some(message) = decode(&mut self.heard)? {
                return Ok(message);
            }
            if self.socket.read_buf(&mut self.heard).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the reaper of the task is gone"));
            }
        }
    }

    /// Returns when nothing of the tree is left, and the reaper neither. `mark` is an entry of the environment of every
    /// command of this run and of no other; it finds what is left when the task has killed its reaper.
    pub async fn quiet(mut self, mark: &[u8]) -> io::Result<()> {
        let told = async {
            self.ask(&Ask::Quiet).await?;
            loop {
                match self.hear().await? {
                    Tell::Quiet => return Ok(()),
                    Tell::Undead => return Err(io::Error::other("processes of the task do not die")),
                    // The end of a command that nobody asks for any more.
                    _ => {}
                }
            }
        };
        let told: io::Result<()> = timeout(QUIET_BOUND, told).await?;
        if told.as_ref().is_err_and(|e| matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe)) {
            kill_marked(mark).await?;
        } else {
            told?;
        }
        self.reap().await
    }

    /// Takes the end of the reaper itself.
    async fn reap(self) -> io::Result<()> {
        let pidfd = tc_sys::readiness::readable(self.process.pidfd)?;
        drop(timeout(QUIET_BOUND, pidfd.readable()).await?);
        try_wait(Child::Pidfd(pidfd.get_ref().as_fd())).map(drop)
    }

    /// The reaper's process id.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }
}

/// Kills every process with this entry in its environment until there is none.
async fn kill_marked(mark: &[u8]) -> io::Result<()> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let deadline = tokio::time::Instant::now() + QUIET_BOUND;
    loop {
        let marked: Vec<i32> = cage::processes()
            .into_iter()
            .filter(|pid| *pid != own)
            .filter(|pid| {
                std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|env| env.split(|b| *b == 0).any(|entry| entry == mark))
            })
            .collect();
        if marked.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(io::Error::other("processes of the task do not die"));
        }
        marked.into_iter().for_each(cage::kill_process);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An end as the reaper tells it.
pub fn end(code: Result<i32, i32>, user: u64, kernel: u64) -> End {
    End { code, user: Duration::from_micros(user), kernel: Duration::from_micros(kernel) }
}
