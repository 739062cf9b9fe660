//! The reaper's own side: one thread, no runtime.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    time::{Duration, Instant},
};

use tc_sys::{
    fd,
    launch::{self, NotStarted, Place},
    process, socket,
};

use super::wire::{self, Report};
use crate::{processes, step};

/// How long killing may take. Processes that outlive it hang in the kernel.
const KILL_BOUND: Duration = Duration::from_secs(25);
/// How often processes are stopped before they are killed, in a tree that grows meanwhile.
const FREEZE_ROUNDS: usize = 50;
/// `ECANCELED`: a start that was asked for before the end and handled after it.
const CANCELED: i32 = 125;

/// The whole life of a reaper. To be called first thing in `main` when the first argument is [`super::REAPER_COMMAND`]:
/// before there are threads, with the socket to the worker as standard input.
pub fn reaper_main() -> ExitCode {
    if std::env::args_os().nth(2).is_some_and(|argument| argument == step::STEP) {
        return step::step_main();
    }
    match Reaper::new().and_then(Reaper::serve) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads what it would say. The worker sees the socket's end.
        Err(_) => ExitCode::FAILURE,
    }
}

struct Reaper {
    worker: OwnedFd,
    child_events: OwnedFd,
    null: File,
    /// The command that runs, if one does. Everything else below is background.
    command: Option<u32>,
    killed: bool,
}

impl Reaper {
    fn new() -> io::Result<Self> {
        // Only SIGKILL and SIGSTOP reach a reaper; `kill $PPID` in a task is nothing to die of.
        process::block_signals()?;
        process::rename_process(c"task-reaper")?;
        process::become_subreaper()?;
        if process::oom_score_adj()? != 0 {
            process::set_ordinary_oom_score()?;
        }
        Ok(Self {
            worker: io::stdin().as_fd().try_clone_to_owned()?,
            child_events: fd::child_events()?,
            null: File::options().read(true).write(true).open("/dev/null")?,
            command: None,
            killed: false,
        })
    }

    fn serve(mut self) -> io::Result<()> {
        self.report(Report::Ready)?;
        loop {
            let [from_worker, from_children] = fd::wait_any([self.worker.as_fd(), self.child_events.as_fd()], None)?;
            if from_children {
                self.collect_children()?;
            }
            if from_worker && !self.obey()? {
                return Ok(());
            }
        }
    }

    fn report(&self, report: Report) -> io::Result<()> {
        socket::send(self.worker.as_fd(), &report.encode(), &[])
    }

    /// Handles one message. Returns whether there may be more.
    fn obey(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16];
        let message = socket::receive(self.worker.as_fd(), &mut buffer, true)?;
        match buffer[..message.bytes].first() {
            Some(&wire::START) => {
                let report = self.start(message.files)?;
                self.report(report)?;
            }
            Some(&wire::TERMINATE) => {
                for seen in processes::descendants(std::process::id()) {
                    seen.signal(process::TERMINATE);
                }
            }
            Some(&wire::KILL) => {
                let report = if self.kill_everything()? { Report::Empty } else { Report::NotEmpty };
                self.report(report)?;
            }
            _ => {
                self.kill_everything()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn start(&mut self, files: Vec<OwnedFd>) -> io::Result<Report> {
        if self.killed {
            return Ok(Report::Refused(NotStarted { stage: launch::Stage::Clone, errno: CANCELED }));
        }
        let mut files = files.into_iter();
        let (Some(program), Some(output)) = (files.next(), files.next()) else {
            return Err(io::Error::other("a request to start came without its files"));
        };
        let mut bytes = Vec::new();
        let mut program = File::from(program);
        program.seek(SeekFrom::Start(0))?;
        program.read_to_end(&mut bytes)?;
        let program = wire::decode_program(&bytes)?;
        let place = Place {
            input: self.null.as_fd(),
            output: output.as_fd(),
            error: output.as_fd(),
            cgroup: None,
            ordinary_oom_score: false,
        };
        Ok(match launch::launch(&program, &place) {
            Ok(started) => {
                self.command = Some(started.pid);
                Report::Started
            }
            Err(failed) => Report::Refused(failed),
        })
    }

    /// Takes the ends of children. Returns whether there are others.
    fn collect_children(&mut self) -> io::Result<bool> {
        // Emptied before looking, so that a child that ends later makes it readable again.
        let mut signals = [0; 512];
        while File::from(self.child_events.try_clone()?).read(&mut signals).is_ok() {}
        loop {
            match process::try_wait_any() {
                Ok(Some(ended)) if self.command == Some(ended.pid) => {
                    self.command = None;
                    self.report(Report::Ended { exit: ended.exit, user: ended.user, kernel: ended.kernel })?;
                }
                Ok(Some(_background)) => {}
                Ok(None) => return Ok(true),
                Err(error) if process::is_childless(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Kills until there are no children, which means that there are no descendants. Returns whether that was reached.
    fn kill_everything(&mut self) -> io::Result<bool> {
        self.killed = true;
        let deadline = Instant::now() + KILL_BOUND;
        let mut wait = Duration::from_micros(200);
        // A worker that is gone is no reason to leave anybody alive.
        while !matches!(self.collect_children(), Ok(false)) {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            freeze_all();
            for seen in processes::descendants(std::process::id()) {
                seen.signal(process::KILL);
            }
            // Most die at once; the next round finds those that were being born.
            fd::wait_any([self.child_events.as_fd()], Some(wait))?;
            wait = (wait * 2).min(Duration::from_millis(20));
        }
        Ok(true)
    }
}

/// Stops what is below until nothing new appears. Stopped processes cannot fork, and keep their numbers and places
/// in the process limit occupied, so a task that forks as fast as it can is not faster than the killing.
fn freeze_all() {
    let mut stopped = HashSet::new();
    for _ in 0..FREEZE_ROUNDS {
        let mut found = false;
        for seen in processes::descendants(std::process::id()) {
            if !seen.is_zombie && stopped.insert((seen.pid, seen.started)) {
                seen.signal(process::FREEZE);
                found = true;
            }
        }
        if !found {
            return;
        }
    }
}
