//! The worker's side of a reaper.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::Duration,
};

use tc_sys::{
    fd,
    launch::{self, NotStarted, Place, Program},
    process::{self, Ended},
    socket,
};
use tokio::io::unix::AsyncFd;

use super::{
    REAPER_COMMAND,
    wire::{self, REPORT_BYTES, Report},
};
use crate::{
    orphans::{self, Registration},
    program,
    tree::watch,
};

/// How long a reaper may take until it is ready.
const READY_BOUND: Duration = Duration::from_secs(10);

/// How long a reaper may take to end when its tree is empty.
const END_BOUND: Duration = Duration::from_secs(5);

/// A reaper that was started, before it belongs to a runtime.
#[derive(Debug)]
pub(crate) struct Launched {
    socket: OwnedFd,
    pidfd: OwnedFd,
    registration: Registration,
}

impl Launched {
    /// Starts a reaper and waits until it is ready. Blocks.
    pub(crate) fn start(reaper_program: &Path) -> Result<Self, String> {
        let say = |error: io::Error| format!("start a reaper: {error}");
        let (socket, theirs) = socket::pair().map_err(say)?;
        let null = File::options().read(true).write(true).open("/dev/null").map_err(say)?;
        let path = CString::new(reaper_program.as_os_str().as_bytes()).map_err(|error| say(error.into()))?;
        let program = Program {
            candidates: vec![path],
            searched: false,
            // Not under the worker's name: tasks and people call `pkill` with it.
            argv: vec![CString::from(c"task-reaper"), CString::new(REAPER_COMMAND).unwrap_or_default()],
            env: Vec::new(),
            directory: CString::from(c"/"),
        };
        let place = Place {
            input: theirs.as_fd(),
            output: null.as_fd(),
            error: null.as_fd(),
            cgroup: None,
            // It does this itself, when it has become an ordinary process of its user.
            ordinary_oom_score: false,
        };
        let (started, registration) = orphans::register(|| launch::launch(&program, &place)).map_err(|failed| {
            let (program::Refusal::Task(text) | program::Refusal::Worker(text)) = program::explain(&program, &failed);
            format!("start a reaper: {text}")
        })?;
        drop(theirs);
        let launched = Self { socket, pidfd: started.pidfd, registration };
        let mut buffer = [0; REPORT_BYTES];
        let ready = socket::receive_within(launched.socket.as_fd(), &mut buffer, READY_BOUND)
            .and_then(|message| Report::decode(&buffer[..message.bytes]));
        let fault = match ready {
            Ok(Report::Ready) => return Ok(launched),
            Ok(_) => "it said something else than that it is ready".to_owned(),
            Err(error) => error.to_string(),
        };
        drop(process::signal(launched.pidfd.as_fd(), process::KILL));
        process::reap(launched.pidfd.as_fd());
        Err(format!("start a reaper with {}: {fault}", reaper_program.display()))
    }
}

/// The connection to a reaper.
#[derive(Debug)]
pub(crate) struct Link {
    socket: AsyncFd<OwnedFd>,
    process: AsyncFd<OwnedFd>,
    _registration: Registration,
}

impl Link {
    /// Must be called inside a runtime.
    pub(crate) fn new(launched: Launched) -> io::Result<Self> {
        let socket = watch(launched.socket)?;
        let process = watch(launched.pidfd)?;
        Ok(Self { socket, process, _registration: launched.registration })
    }

    /// Starts a program and returns when it runs, or why it does not. Blocks; nobody else may read reports meanwhile.
    pub(crate) fn start(&self, program: &Program, output: BorrowedFd<'_>) -> io::Result<Option<NotStarted>> {
        let mut file = fd::memory_file(c"program")?;
        file.write_all(&wire::encode_program(program))?;
        socket::send(self.socket.as_fd(), &[wire::START], &[file.as_fd(), output])?;
        let mut buffer = [0; REPORT_BYTES];
        let message = socket::receive(self.socket.as_fd(), &mut buffer, true)?;
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match Report::decode(&buffer[..message.bytes])? {
            Report::Started => Ok(None),
            Report::Refused(failed) => Ok(Some(failed)),
            _ => Err(io::Error::other("a reaper reports something else than it was asked for")),
        }
    }

    /// The end of the command, or an error when the reaper is gone.
    pub(crate) async fn command_end(&self) -> io::Result<Ended> {
        match self.report().await? {
            Report::Ended { exit, user, kernel } => Ok(Ended { pid: 0, exit, user, kernel }),
            _ => Err(io::Error::other("a reaper reports something else than it was asked for")),
        }
    }

    /// The answer to [`Link::kill`]: whether nothing is left. Passes over the end of a command that nobody waits for.
    pub(crate) async fn emptied(&self) -> io::Result<bool> {
        loop {
            match self.report().await? {
                Report::Empty => return Ok(true),
                Report::NotEmpty => return Ok(false),
                _ => {}
            }
        }
    }

    async fn report(&self) -> io::Result<Report> {
        loop {
            let mut guard = self.socket.readable().await?;
            let mut buffer = [0; REPORT_BYTES];
            let received = guard.try_io(|socket| socket::receive(socket.as_fd(), &mut buffer, false));
            match received {
                Ok(Ok(message)) if message.bytes == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(message)) => return Report::decode(&buffer[..message.bytes]),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }

    /// Asks everything below the reaper to end.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        socket::send(self.socket.as_fd(), &[wire::TERMINATE], &[])
    }

    /// Tells the reaper to kill everything below it.
    pub(crate) fn kill(&self) -> io::Result<()> {
        socket::send(self.socket.as_fd(), &[wire::KILL], &[])
    }

    /// Kills the reaper itself, for one that does not answer.
    pub(crate) fn kill_reaper(&self) {
        // It may be dead already.
        drop(process::signal(self.process.get_ref().as_fd(), process::KILL));
    }

    /// Waits for a reaper that is dead or about to be. Its children have come to this process then.
    pub(crate) async fn wait_dead(&self) {
        drop(tokio::time::timeout(END_BOUND, self.process.readable()).await);
    }

    /// Lets the reaper go, and waits until it is gone.
    pub(crate) async fn end(self) {
        let Self { socket, process, .. } = self;
        drop(socket);
        if tokio::time::timeout(END_BOUND, process.readable()).await.is_err() {
            drop(process::signal(process.get_ref().as_fd(), process::KILL));
            // SIGKILL cannot be refused; what can take time is a kernel call it is in.
            drop(tokio::time::timeout(END_BOUND, process.readable()).await);
        }
        drop(process::try_wait(process.get_ref().as_fd()));
    }
}
