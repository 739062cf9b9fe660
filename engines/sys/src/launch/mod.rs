//! Starting a program: a copy of this process with only the calling thread in it, set up, and replaced by the program.
//!
//! ```text
//! launch ──clone3(PIDFD [, INTO_CGROUP])──▶ child: signals, session, streams, directory, exec ──▶ the program
//!    ◀── closed report pipe: it runs ── or ── stage and errno through the report pipe: it does not
//! ```
//!
//! No memory is shared with the child (no `CLONE_VM`), so nothing it does can disturb the worker. Between the clone and the
//! exec only system calls are made: everything that allocates is prepared before.

mod child;
mod failure;

use std::{
    ffi::{CString, OsStr},
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    ptr,
};

pub use failure::{NotStarted, REPORT_BYTES, Stage};

use child::{Prepared, child, forget_signals, try_candidates};

use crate::{
    check, check_long,
    fd::{above_standard_streams, own, pipe},
    process,
};

/// What to start. Made once, before the clone.
#[derive(Debug)]
pub struct Program {
    /// Paths that are tried in order until one can be executed; relative ones are relative to `directory`.
    pub candidates: Vec<CString>,
    /// Whether the candidates are places of a search path. Then one that is not an executable file is passed over.
    pub searched: bool,
    /// The arguments, the first of which is the program's name.
    pub argv: Vec<CString>,
    /// The complete environment as `NAME=value`.
    pub env: Vec<CString>,
    /// The working directory.
    pub directory: CString,
}

/// Where to start it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Standard input.
    pub input: BorrowedFd<'a>,
    /// Standard output.
    pub output: BorrowedFd<'a>,
    /// Standard error.
    pub error: BorrowedFd<'a>,
    /// The directory of the cgroup that the process is born into, and its open `cgroup.procs` for kernels that cannot do that.
    pub cgroup: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// Whether the process gets an ordinary `oom_score_adj` of 0 before it becomes the program.
    pub ordinary_oom_score: bool,
}

/// A process that was started. It stays a zombie until somebody waits for it through its descriptor.
#[derive(Debug)]
pub struct Started {
    /// Its process id, which is also the id of its process group and session.
    pub pid: u32,
    /// A descriptor that means this process and no later one with the same number.
    pub pidfd: OwnedFd,
}

/// Born in this cgroup. The constant of the `libc` crate does not fit its own type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Starts a program and returns when it runs.
///
/// Blocks for as long as the kernel takes to find and load the program.
pub fn launch(program: &Program, place: &Place<'_>) -> Result<Started, NotStarted> {
    let streams = |error: &io::Error| NotStarted::at(Stage::Streams, error);
    let (report_in, report_end) = pipe().map_err(|e| streams(&e))?;
    let report_out = above_standard_streams(report_end.as_fd()).map_err(|e| streams(&e))?;
    // Only the child may hold this end while we wait for it to be closed.
    drop(report_end);
    let input = above_standard_streams(place.input).map_err(|e| streams(&e))?;
    let output = above_standard_streams(place.output).map_err(|e| streams(&e))?;
    let error = above_standard_streams(place.error).map_err(|e| streams(&e))?;
    let mut prepared = Prepared {
        candidates: pointers(&program.candidates),
        searched: program.searched,
        argv: pointers(&program.argv),
        env: pointers(&program.env),
        directory: program.directory.as_ptr(),
        streams: [input.as_raw_fd(), output.as_raw_fd(), error.as_raw_fd()],
        cgroup_procs: -1,
        report: report_out.as_raw_fd(),
        ordinary_oom_score: place.ordinary_oom_score,
    };
    // Signals stay blocked until the child has forgotten our handlers: one of them running there would write into pipes
    // that the child shares with us.
    let mask = block_all_signals();
    let cloned = clone_process(&mut prepared, place);
    restore_signals(&mask);
    let started = cloned.map_err(|error| NotStarted::at(Stage::Clone, &error))?;
    drop((report_out, input, output, error));

    let mut report = Vec::with_capacity(REPORT_BYTES);
    let read = std::fs::File::from(report_in).read_to_end(&mut report);
    match (read, <[u8; REPORT_BYTES]>::try_from(report.as_slice())) {
        // The pipe was closed by the exec, or by the death of the child before it; its end will tell.
        (Ok(0), _) => Ok(started),
        (Ok(_), Ok(report)) => {
            process::reap(started.pidfd.as_fd());
            Err(NotStarted::from_bytes(report))
        }
        (Ok(_), Err(_)) => Err(NotStarted { stage: Stage::Streams, errno: libc::EIO }),
        (Err(error), _) => Err(streams(&error)),
    }
}

/// Whether processes can be started in this cgroup: starts one that ends at once.
pub fn can_start_in(cgroup: BorrowedFd<'_>, procs: BorrowedFd<'_>) -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let program =
        Program { candidates: Vec::new(), searched: true, argv: Vec::new(), env: Vec::new(), directory: CString::from(c"/") };
    let place = Place {
        input: null.as_fd(),
        output: null.as_fd(),
        error: null.as_fd(),
        cgroup: Some((cgroup, procs)),
        ordinary_oom_score: false,
    };
    match launch(&program, &place) {
        // Without candidates this is as far as it can get.
        Err(NotStarted { stage: Stage::NotFound, .. }) => Ok(()),
        Err(failed) => Err(io::Error::from_raw_os_error(failed.errno)),
        Ok(started) => {
            process::reap(started.pidfd.as_fd());
            Ok(())
        }
    }
}

/// Makes this process, which must have one thread, the program. Returns only when that fails.
///
/// Signals get their default meaning; streams, directory and session stay as they are.
pub fn become_program(program: &Program) -> NotStarted {
    let candidates = pointers(&program.candidates);
    let (argv, env) = (pointers(&program.argv), pointers(&program.env));
    // SAFETY: this process has one thread. Rust's start-up code has made it ignore SIGPIPE, which the program must not inherit.
    unsafe { forget_signals() };
    // SAFETY: the lists end with null pointers, and all strings outlive the call.
    let (stage, position) = unsafe { try_candidates(&candidates, program.searched, &argv, &env) };
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    NotStarted { stage: Stage::of(stage, position), errno }
}

/// Makes a standard stream (0, 1 or 2) of this process mean another open file, for programs that it becomes.
pub fn set_stream(stream: RawFd, file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: standard streams are not owned by anybody who could be surprised; the call touches no memory.
    check(unsafe { libc::dup2(file.as_raw_fd(), stream) })?;
    Ok(())
}

/// A string for the kernel, or `None` when it contains a NUL byte.
pub fn c_string(text: &OsStr) -> Option<CString> {
    CString::new(text.as_bytes()).ok()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

fn block_all_signals() -> libc::sigset_t {
    let mut old = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both sets are ours; a zeroed set is valid, and pthread_sigmask cannot fail with these arguments.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
        old.assume_init()
    }
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: the mask was filled by `block_all_signals`.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut());
    }
}

fn clone_process(prepared: &mut Prepared, place: &Place<'_>) -> io::Result<Started> {
    match clone_modern(prepared, place) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM)) => {
            // Old kernels and seccomp filters refuse clone3; containers may refuse the cgroup flag only.
            prepared.cgroup_procs = place.cgroup.map_or(-1, |(_, procs)| procs.as_raw_fd());
            clone_classic(prepared)
        }
        done => done,
    }
}

fn clone_modern(prepared: &Prepared, place: &Place<'_>) -> io::Result<Started> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all fields of this C structure may be zero.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(libc::CLONE_PIDFD.cast_unsigned());
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some((directory, _)) = place.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(directory.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child gets a copy of our memory and returns here on its own copy of this stack; it then
    // only makes system calls and never returns from `child`. The kernel writes one int to `pidfd`.
    let pid = check_long(unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        // SAFETY: we are in the child, and everything that `prepared` points to was copied with the memory.
        unsafe { child(prepared) }
    }
    Ok(Started { pid: u32::try_from(pid).map_err(io::Error::other)?, pidfd: own(pidfd) })
}

fn clone_classic(prepared: &Prepared) -> io::Result<Started> {
    let mut pidfd: RawFd = -1;
    let flags = libc::c_long::from(libc::CLONE_PIDFD | libc::SIGCHLD);
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: as in `clone_modern`. The third argument is where CLONE_PIDFD stores the descriptor on every architecture; the
    // order of the two after it differs, and both are null.
    let pid = check_long(unsafe { libc::syscall(libc::SYS_clone, flags, none, &raw mut pidfd, none, none) })?;
    if pid == 0 {
        // SAFETY: we are in the child, and everything that `prepared` points to was copied with the memory.
        unsafe { child(prepared) }
    }
    Ok(Started { pid: u32::try_from(pid).map_err(io::Error::other)?, pidfd: own(pidfd) })
}

#[cfg(test)]
mod tests {
    use std::{ffi::CStr, fs::File, io::Read};

    use super::*;
    use crate::{fd, process::Exit};

    fn start(program: &Program) -> (Result<Started, NotStarted>, String) {
        let null = File::open("/dev/null").expect("there is /dev/null");
        let (read, write) = pipe().expect("a pipe");
        let place =
            Place { input: null.as_fd(), output: write.as_fd(), error: write.as_fd(), cgroup: None, ordinary_oom_score: false };
        let started = launch(program, &place);
        drop(write);
        let mut output = String::new();
        File::from(read).read_to_string(&mut output).expect("read");
        (started, output)
    }

    fn shell(script: &CStr) -> Program {
        Program {
            candidates: vec![c"/bin/sh".into()],
            searched: false,
            argv: vec![c"sh".into(), c"-c".into(), script.into()],
            env: vec![c"A=b".into()],
            directory: c"/".into(),
        }
    }

    fn wait(pidfd: BorrowedFd<'_>) -> process::Ended {
        fd::wait_any([pidfd], None).expect("it ends");
        process::try_wait(pidfd).expect("it is our child").expect("it has ended")
    }

    #[test]
    fn a_program_runs_and_tells_how_it_ended() {
        let (started, output) = start(&shell(c"echo $A; exit 3"));
        let started = started.expect("started");
        let ended = wait(started.pidfd.as_fd());
        assert_eq!((output.as_str(), ended.exit, ended.pid), ("b\n", Exit::Code(3), started.pid));
        let (started, _) = start(&shell(c"kill -9 $$"));
        assert_eq!(wait(started.expect("started").pidfd.as_fd()).exit, Exit::Signal(9));
    }

    #[test]
    fn the_classic_clone_does_the_same() {
        let null = File::open("/dev/null").expect("there is /dev/null");
        let program = shell(c"exit 5");
        let prepared = Prepared {
            candidates: pointers(&program.candidates),
            searched: false,
            argv: pointers(&program.argv),
            env: pointers(&program.env),
            directory: program.directory.as_ptr(),
            streams: [null.as_raw_fd(); 3],
            cgroup_procs: -1,
            report: null.as_raw_fd(),
            ordinary_oom_score: false,
        };
        let mask = block_all_signals();
        let started = clone_classic(&prepared);
        restore_signals(&mask);
        assert_eq!(wait(started.expect("started").pidfd.as_fd()).exit, Exit::Code(5));
    }

    #[test]
    fn what_fails_in_the_child_is_told_and_leaves_no_zombie() {
        let mut program = shell(c":");
        program.directory = c"/no/such/directory".into();
        let failed = start(&program).0.expect_err("refused");
        assert_eq!((failed.stage, failed.errno), (Stage::Directory, libc::ENOENT));
        let mut program = shell(c":");
        program.candidates = vec![c"/no/such/a".into(), c"/etc".into()];
        program.searched = true;
        assert_eq!(start(&program).0.expect_err("refused").stage, Stage::NotFound);
        program.searched = false;
        let failed = start(&program).0.expect_err("refused");
        assert_eq!((failed.stage, failed.errno), (Stage::Exec(0), libc::ENOENT));
        // The same as anything a child could have left; other tests of this process have children of their own.
        let ended = wait_for_nothing();
        assert!(ended, "a child was left");
    }

    fn wait_for_nothing() -> bool {
        let me = std::process::id().to_string();
        let entries = std::fs::read_dir("/proc").expect("there is /proc");
        !entries.filter_map(Result::ok).any(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // A zombie that was never anything but a copy of this test has its thread's name.
            stat.rsplit_once(") ")
                .is_some_and(|(name, rest)| rest.starts_with(&format!("Z {me} ")) && name.contains("launch::tests::what_f"))
        })
    }
}
