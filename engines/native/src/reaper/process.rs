//! The reaper's own process. It is small and has one thread, so it waits for all of its children.

use std::{
    collections::HashMap,
    ffi::{CString, OsStr},
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::{ffi::OsStrExt as _, net::UnixStream},
    },
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use tc_sys::{
    open::c_string,
    process,
    spawn::{Failure, Program, Started, nothing, spawn},
    wait::{Child, End, try_wait},
};

use super::wire::{Ask, Tell, decode, encode};
use crate::cage;

/// Longest wait for the death of the tree.
const DEATH_BOUND: Duration = Duration::from_secs(30);

/// The life of a reaper: standard input is its socket, standard output is where commands write to.
pub fn reaper_main() -> ExitCode {
    match reap() {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads what a reaper says; its socket closes, which the worker notices.
        Err(_) => ExitCode::FAILURE,
    }
}

struct Tree {
    socket: UnixStream,
    children: SignalFd,
    /// The command that runs now.
    command: Option<i32>,
}

fn reap() -> io::Result<()> {
    process::rename("tc-reaper")?;
    process::make_subreaper()?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    // Standard input was made for this; commands get another one.
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut tree = Tree { socket, children, command: None };
    let mut heard = Vec::new();
    loop {
        let mut waiting =
            [PollFd::new(tree.socket.as_fd(), PollFlags::POLLIN), PollFd::new(tree.children.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let asked = waiting[0].any().unwrap_or(false);
        tree.take_ends()?;
        if !asked {
            continue;
        }
        let mut piece = vec![0; 64 << 10];
        let n = tree.socket.read(&mut piece)?;
        if n == 0 {
            // The worker is gone. So is the task.
            tree.end_all();
            return Ok(());
        }
        heard.extend_from_slice(&piece[..n]);
        while let Some(ask) = decode(&mut heard)? {
            match ask {
                Ask::Start { path, argv, envp, cwd } => tree.start(&path, &argv, &envp, &cwd)?,
                Ask::Kill => {
                    descendants().into_iter().for_each(cage::kill_process);
                }
                Ask::Quiet => {
                    let told = if tree.end_all() { Tell::Quiet } else { Tell::Undead };
                    return tree.tell(&told);
                }
            }
        }
    }
}

impl Tree {
    fn tell(&mut self, message: &Tell) -> io::Result<()> {
        self.socket.write_all(&encode(message)?)
    }

    fn start(&mut self, path: &[u8], argv: &[Vec<u8>], envp: &[Vec<u8>], cwd: &[u8]) -> io::Result<()> {
        let list =
            |items: &[Vec<u8>]| items.iter().map(|i| c_string(OsStr::from_bytes(i))).collect::<io::Result<Vec<CString>>>();
        let nothing = nothing()?;
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        let started = spawn(&Program {
            path: &c_string(OsStr::from_bytes(path))?,
            argv: &list(argv)?,
            envp: &list(envp)?,
            cwd: &c_string(OsStr::from_bytes(cwd))?,
            stdin: nothing.as_fd(),
            output: output.as_fd(),
            cgroup: None,
            reset_oom_score: process::oom_score_adj() != 0,
        });
        match started.and_then(|started| failure(&started).map(|failure| (started, failure))) {
            Ok((started, None)) => {
                self.command = Some(started.pid);
                self.tell(&Tell::Started)
            }
            Ok((_, Some(failure))) => {
                let step = match failure.step {
                    tc_sys::spawn::Step::Chdir => 1,
                    tc_sys::spawn::Step::Exec => 2,
                    tc_sys::spawn::Step::Setup => 0,
                };
                self.tell(&Tell::NotStarted(step, failure.error.raw_os_error().unwrap_or(0)))
            }
            Err(error) => self.tell(&Tell::NotStarted(0, error.raw_os_error().unwrap_or(0))),
        }
    }

    /// Takes the ends of all children that ended, and tells about the command's.
    fn take_ends(&mut self) -> io::Result<()> {
        while self.children.read_signal()?.is_some() {}
        loop {
            match try_wait(Child::Any) {
                Ok(Some((pid, end))) if self.command == Some(pid) => {
                    self.command = None;
                    self.tell(&ended(&end))?;
                }
                Ok(Some(_)) => {}
                // No child at all is an error of the call, and fine.
                Ok(None) | Err(_) => return Ok(()),
            }
        }
    }

    /// Kills until nothing is left. Returns whether that succeeded.
    fn end_all(&mut self) -> bool {
        let deadline = Instant::now() + DEATH_BOUND;
        loop {
            // Whoever is told about an end now has left, or asks for the end of everything.
            while matches!(try_wait(Child::Any), Ok(Some(_))) {}
            let left = descendants();
            if left.is_empty() {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            left.into_iter().for_each(cage::kill_process);
            let mut waiting = [PollFd::new(self.children.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut waiting, PollTimeout::from(10_u8));
            while matches!(self.children.read_signal(), Ok(Some(_))) {}
        }
    }
}

fn ended(end: &End) -> Tell {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Tell::Ended { code: end.code, user: micros(end.user), kernel: micros(end.kernel) }
}

/// Waits until it is known whether the program runs.
fn failure(started: &Started) -> io::Result<Option<Failure>> {
    let mut waiting = [PollFd::new(started.failure.as_fd(), PollFlags::POLLIN)];
    while let Err(nix::errno::Errno::EINTR) = poll(&mut waiting, PollTimeout::NONE) {}
    let mut bytes = [0; 8];
    let n = nix::unistd::read(&started.failure, &mut bytes)?;
    Ok(Failure::read(&bytes[..n]))
}

/// All processes below this one.
fn descendants() -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in cage::processes() {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut open) = (Vec::new(), vec![i32::try_from(std::process::id()).unwrap_or(0)]);
    while let Some(pid) = open.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(child);
            open.push(child);
        }
    }
    found
}
