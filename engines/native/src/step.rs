//! A program between the worker and a command, where the worker's `oom_score_adj` could not be taken off the command otherwise.
//!
//! A worker may run with an `oom_score_adj` that makes the kernel spare it. Its children inherit the value, and a process can
//! always give itself the ordinary one by writing to `/proc/self/oom_score_adj`. But the files of a process that has made itself
//! undumpable belong to root, the copy of the worker between clone and exec is as undumpable as the worker, and making
//! it dumpable for a moment would let other tasks read the worker's secrets in it. After an exec a process is an ordinary
//! one again. So the copy becomes this program first, which has no secrets, sets the value, and becomes the command.
//!
//! ```text
//! worker ──clone──▶ copy ──exec──▶ step: oom_score_adj = 0 ──exec──▶ command
//!   ◀───────────── standard error of the step, closed by the second exec, or a report ──┘
//! ```

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
    process::ExitCode,
};

use tc_sys::{
    fd,
    launch::{self, NotStarted, Place, Program, REPORT_BYTES, Stage, Started},
    process,
};

use crate::reaper::{REAPER_COMMAND, wire};

/// The second argument of the hidden sub-command that makes this program a step.
pub(crate) const STEP: &str = "step";

/// Whether the way over a step is needed for an ordinary `oom_score_adj`.
pub(crate) fn is_needed() -> bool {
    process::is_undumpable() && process::identity().0 != 0
}

/// Starts a program over a step. Otherwise like [`launch::launch`].
pub(crate) fn launch_over(step_program: &Path, program: &Program, place: &Place<'_>) -> Result<Started, NotStarted> {
    let fail = |error: io::Error| NotStarted::at(Stage::OomScore, &error);
    let mut request = fd::memory_file(c"program").map_err(fail)?;
    request.write_all(&wire::encode_program(program)).and_then(|()| request.seek(SeekFrom::Start(0))).map_err(fail)?;
    let (report, report_end) = fd::pipe().map_err(fail)?;
    let step = Program {
        candidates: vec![CString::new(step_program.as_os_str().as_bytes()).map_err(|error| fail(error.into()))?],
        searched: false,
        argv: [c"task-step".to_owned()]
            .into_iter()
            .chain([REAPER_COMMAND, STEP].into_iter().filter_map(|argument| CString::new(argument).ok()))
            .collect(),
        env: Vec::new(),
        directory: program.directory.clone(),
    };
    let place = Place { input: request.as_fd(), error: report_end.as_fd(), ordinary_oom_score: false, ..*place };
    let started = launch::launch(&step, &place).map_err(|failed| match failed.stage {
        // The author of the task has not heard of this program.
        Stage::Exec(_) | Stage::NotFound => NotStarted { stage: Stage::OomScore, ..failed },
        _ => failed,
    })?;
    drop(report_end);
    let mut told = Vec::with_capacity(REPORT_BYTES);
    let read = File::from(report).read_to_end(&mut told);
    match (read, <[u8; REPORT_BYTES]>::try_from(told.as_slice())) {
        (Ok(0), _) => Ok(started),
        (read, told) => {
            drop(process::signal(started.pidfd.as_fd(), process::KILL));
            process::reap(started.pidfd.as_fd());
            read.map_err(fail)?;
            Err(told.map_or(NotStarted { stage: Stage::OomScore, errno: BROKEN }, NotStarted::from_bytes))
        }
    }
}

/// `EPIPE`: the step said something that is no report.
const BROKEN: i32 = 32;

/// The whole life of a step. Standard input is the program, standard error the way to report.
pub(crate) fn step_main() -> ExitCode {
    let Ok(report) = io::stderr().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let failed = match become_command() {
        Ok(failed) => failed,
        Err(error) => NotStarted::at(Stage::OomScore, &error),
    };
    // If this fails the worker sees a command that ends at once with a failure.
    drop(File::from(report).write_all(&failed.to_bytes()));
    ExitCode::FAILURE
}

fn become_command() -> io::Result<NotStarted> {
    let mut bytes = Vec::new();
    File::from(io::stdin().as_fd().try_clone_to_owned()?).read_to_end(&mut bytes)?;
    let program = wire::decode_program(&bytes)?;
    process::set_ordinary_oom_score()?;
    let null = File::open("/dev/null")?;
    launch::set_stream(0, null.as_fd())?;
    launch::set_stream(2, io::stdout().as_fd())?;
    Ok(launch::become_program(&program))
}
