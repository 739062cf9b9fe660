//! Starting a program: directly into its control group, with a descriptor to wait on, and with nothing inherited that was
//! not named.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// What to start, and in which surroundings.
pub struct Program<'a> {
    /// Path of the program; relative ones count from `cwd`.
    pub path: &'a CStr,
    /// Its arguments, the first of which is its name.
    pub argv: &'a [CString],
    /// Its environment, each `NAME=value`.
    pub envp: &'a [CString],
    /// Its working directory.
    pub cwd: &'a CStr,
    /// Its standard input.
    pub stdin: BorrowedFd<'a>,
    /// Its standard output and standard error.
    pub output: BorrowedFd<'a>,
    /// The control group it starts in: the open directory, and its open `cgroup.procs` for kernels that cannot start there.
    pub cgroup: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// Set its readiness to be killed for memory to neutral; for workers that are protected themselves.
    pub reset_oom_score: bool,
}

/// A program that was started, or is about to fail to start.
#[derive(Debug)]
pub struct Started {
    /// Its process id; also that of its process group.
    pub pid: i32,
    /// Becomes readable when it ends.
    pub pidfd: OwnedFd,
    /// At its end when the program runs; before, eight bytes that say why it does not. See [`Failure::read`].
    pub failure: OwnedFd,
}

/// Which step did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Changing the directory.
    Chdir,
    /// Starting the program itself.
    Exec,
    /// Anything before.
    Setup,
}

/// Why a program did not start.
#[derive(Debug)]
pub struct Failure {
    /// Which step failed.
    pub step: Step,
    /// How.
    pub error: io::Error,
}

impl Failure {
    /// What the bytes from [`Started::failure`] mean; none if there were none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (step, errno) = bytes.split_at_checked(4)?;
        let step = match i32::from_ne_bytes(step.try_into().ok()?) {
            1 => Step::Chdir,
            2 => Step::Exec,
            _ => Step::Setup,
        };
        let errno = i32::from_ne_bytes(errno.get(..4)?.try_into().ok()?);
        Some(Self { step, error: io::Error::from_raw_os_error(errno) })
    }
}

/// Everything that the child needs, as plain values that were made before it exists.
struct Prepared {
    path: *const libc::c_char,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    cwd: *const libc::c_char,
    stdin: libc::c_int,
    output: libc::c_int,
    cgroup_procs: libc::c_int,
    reset_oom_score: bool,
    failure: libc::c_int,
}

/// Starts a program in a process group of its own.
///
/// # Errors
/// When no process could be made. A program that cannot be started is told through [`Started::failure`].
pub fn spawn(program: &Program<'_>) -> io::Result<Started> {
    let (failure, failure_in_child) = cloexec_pipe()?;
    let terminated = |list: &[CString]| list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let mut prepared = Prepared {
        path: program.path.as_ptr(),
        argv: terminated(program.argv),
        envp: terminated(program.envp),
        cwd: program.cwd.as_ptr(),
        stdin: program.stdin.as_raw_fd(),
        output: program.output.as_raw_fd(),
        cgroup_procs: -1,
        reset_oom_score: program.reset_oom_score,
        failure: failure_in_child.as_raw_fd(),
    };
    let (pid, pidfd) = match program.cgroup {
        Some((directory, procs)) => match fork(&prepared, Some(directory)) {
            // A kernel or a sandbox that cannot start a process in a group: let the child move itself.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::E2BIG)) => {
                prepared.cgroup_procs = procs.as_raw_fd();
                fork(&prepared, None)?
            }
            other => other?,
        },
        None => fork(&prepared, None)?,
    };
    Ok(Started { pid, pidfd, failure })
}

fn cloexec_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two descriptors to where `fds` is.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both were just made and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

fn fork(prepared: &Prepared, cgroup: Option<BorrowedFd<'_>>) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all zeroes is the neutral value of this plain structure of integers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = libc::CLONE_PIDFD as u64;
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: without CLONE_VM the child has a copy of this memory, so it can go on from here. It has one thread, and other
    // threads of the parent may have held locks: until it executes a program or exits, it only makes system calls with values
    // that were prepared before.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match pid {
        0 => child(prepared),
        pid if pid > 0 => {
            // SAFETY: the kernel made this descriptor for us; its number is valid because the call succeeded.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok((i32::try_from(pid).unwrap_or(i32::MAX), pidfd))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// `CLONE_INTO_CGROUP`, Linux 5.7.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The life of the child up to the program. Only system calls, no allocation, no lock.
fn child(prepared: &Prepared) -> ! {
    let fail = |step: i32| -> ! {
        // SAFETY: plain system calls on values of this frame; `_exit` runs no code of the parent's program.
        unsafe {
            let errno = *libc::__errno_location();
            let mut message = [0_u8; 8];
            message[..4].copy_from_slice(&step.to_ne_bytes());
            message[4..].copy_from_slice(&errno.to_ne_bytes());
            libc::write(prepared.failure, message.as_ptr().cast(), message.len());
            libc::_exit(127)
        }
    };
    // SAFETY: every pointer was made by the parent from values that outlive this call, in memory that is a copy of its own.
    unsafe {
        if prepared.cgroup_procs >= 0 && libc::write(prepared.cgroup_procs, c"0".as_ptr().cast(), 1) < 0 {
            fail(0);
        }
        if libc::setpgid(0, 0) != 0 {
            fail(0);
        }
        // The worker ignores SIGPIPE and may block signals; its task does neither.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        // First out of the way of 0, 1 and 2, so that none of the three overwrites a source of another.
        let (stdin, output) =
            (libc::fcntl(prepared.stdin, libc::F_DUPFD_CLOEXEC, 3), libc::fcntl(prepared.output, libc::F_DUPFD_CLOEXEC, 3));
        if stdin < 0 || output < 0 || libc::dup2(stdin, 0) < 0 || libc::dup2(output, 1) < 0 || libc::dup2(output, 2) < 0 {
            fail(0);
        }
        if prepared.reset_oom_score {
            reset_oom_score();
        }
        // Whatever else is open, here or in a library, ends with the program.
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, CLOSE_RANGE_CLOEXEC);
        if libc::chdir(prepared.cwd) != 0 {
            fail(1);
        }
        libc::execve(prepared.path, prepared.argv.as_ptr(), prepared.envp.as_ptr());
        fail(2)
    }
}

/// `CLOSE_RANGE_CLOEXEC`, Linux 5.11.
const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// Sets the readiness to be killed for memory to neutral. A worker that keeps others from reading its memory does not own
/// its files in `/proc`, unless it is root; so that is lifted for the time of the write.
///
/// # Safety
/// Only for the child of a fork: it changes the whole process.
unsafe fn reset_oom_score() {
    // SAFETY: plain system calls with constant arguments.
    unsafe {
        let mut fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        let mut lifted = false;
        if fd < 0 {
            libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
            lifted = true;
            fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        }
        if fd >= 0 {
            libc::write(fd, c"0".as_ptr().cast(), 1);
            libc::close(fd);
        }
        if lifted {
            libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        }
    }
}

/// `/dev/null`, for reading.
pub fn nothing() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/dev/null")?.into())
}
