//! Waiting for processes, sending them signals, and settings of the calling process.

use std::{
    ffi::CStr,
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr,
    time::Duration,
};

use crate::{check, check_long, fd::own, uninterrupted};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its process id.
    pub pid: u32,
    /// How it ended.
    pub exit: Exit,
    /// Processor time in user mode, of the process and the children that it waited for.
    pub user: Duration,
    /// Processor time in kernel mode, likewise.
    pub kernel: Duration,
}

/// Asks a process to end. Can be ignored.
pub const TERMINATE: i32 = libc::SIGTERM;
/// Ends a process.
pub const KILL: i32 = libc::SIGKILL;
/// Stops a process until it is continued or killed. Cannot be ignored.
pub const FREEZE: i32 = libc::SIGSTOP;

/// Takes the end of a child of this process, if it has ended. The child is gone afterwards.
pub fn try_wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    wait_for(libc::P_PIDFD, pidfd.as_raw_fd().cast_unsigned(), libc::WNOHANG)
}

/// Takes the end of the child with this number, if it has ended. For children whose number cannot be reused meanwhile:
/// zombies that nobody else waits for.
pub fn try_wait_pid(pid: u32) -> io::Result<Option<Ended>> {
    wait_for(libc::P_PID, pid, libc::WNOHANG)
}

/// Takes the end of any child. Only for a process that owns all its children, which the worker does not.
///
/// # Errors
/// `ECHILD` when there are no children left, see [`is_childless`].
pub fn try_wait_any() -> io::Result<Option<Ended>> {
    wait_for(libc::P_ALL, 0, libc::WNOHANG)
}

/// Whether an error of [`try_wait_any`] says that there are no children.
pub fn is_childless(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECHILD)
}

/// Waits for a child that is about to end, and forgets how it did.
pub fn reap(pidfd: BorrowedFd<'_>) {
    // Failing means that it is not a child or was taken already; either way there is nothing to do.
    drop(wait_for(libc::P_PIDFD, pidfd.as_raw_fd().cast_unsigned(), 0));
}

fn wait_for(kind: libc::idtype_t, id: u32, flags: libc::c_int) -> io::Result<Option<Ended>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    uninterrupted(|| {
        // SAFETY: the kernel fills the two structures, which are valid when zeroed. The C library's waitid has no usage.
        check_long(unsafe {
            libc::syscall(libc::SYS_waitid, kind, id, info.as_mut_ptr(), libc::WEXITED | flags, usage.as_mut_ptr())
        })
    })?;
    // SAFETY: both are initialised, by the kernel or with zeroes; the fields read are those of a SIGCHLD.
    let (info, usage, pid, status) = unsafe {
        let info = info.assume_init();
        (info, usage.assume_init(), info.si_pid(), info.si_status())
    };
    if pid == 0 {
        return Ok(None);
    }
    let exit = if info.si_code == libc::CLD_EXITED { Exit::Code(status) } else { Exit::Signal(status) };
    let pid = u32::try_from(pid).map_err(io::Error::other)?;
    Ok(Some(Ended { pid, exit, user: duration(usage.ru_utime), kernel: duration(usage.ru_stime) }))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let micros = u64::try_from(time.tv_usec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// A descriptor that means the process that has this number now.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call touches no memory of ours.
    let fd = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    i32::try_from(fd).map(own).map_err(io::Error::other)
}

/// Sends a signal to one process.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: without a siginfo the call touches no memory of ours.
    check_long(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, ptr::null::<libc::siginfo_t>(), 0)
    })?;
    Ok(())
}

/// Makes orphans among the descendants of this process its children, instead of children of process 1.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: the call takes a number.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })?;
    Ok(())
}

/// Whether orphans may become children of this process.
pub fn adopts_orphans() -> bool {
    let mut set: libc::c_int = 0;
    // SAFETY: the kernel writes one int through the pointer.
    let asked = unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut set, 0, 0, 0) };
    std::process::id() == 1 || (asked == 0 && set != 0)
}

/// Keeps other processes of the same user from reading this one's memory, environment and open files.
pub fn make_undumpable() -> io::Result<()> {
    // SAFETY: the call takes a number.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    Ok(())
}

/// Whether other processes of the same user are kept out, see [`make_undumpable`].
pub fn is_undumpable() -> bool {
    // SAFETY: the call takes no further arguments.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 }
}

/// Changes the name under which `ps` and `killall` know the calling thread; in a process of one thread, the process.
/// The kernel keeps 15 bytes.
pub fn rename_process(name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends with a NUL byte by its type.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) })?;
    Ok(())
}

/// Blocks every signal that can be blocked, for the calling thread and what it starts.
pub fn block_signals() -> io::Result<()> {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigfillset initialises the set, and the old set is not asked for.
    check(unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut())
    })?;
    Ok(())
}

/// How eager the kernel is to kill this process when memory runs out, from -1000 to 1000.
pub fn oom_score_adj() -> io::Result<i32> {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    text.trim().parse().map_err(io::Error::other)
}

/// Gives this process the ordinary value of 0.
pub fn set_ordinary_oom_score() -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", "0")
}

/// Effective user and group of this process.
pub fn identity() -> (u32, u32) {
    // SAFETY: the calls cannot fail and touch no memory.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Supplementary groups of this process.
pub fn groups() -> io::Result<Vec<u32>> {
    // SAFETY: with a size of 0 nothing is written.
    let count = check(unsafe { libc::getgroups(0, ptr::null_mut()) })?;
    let mut groups = vec![0; usize::try_from(count).map_err(io::Error::other)?];
    // SAFETY: the list has room for `count` entries.
    let got = check(unsafe { libc::getgroups(count, groups.as_mut_ptr()) })?;
    groups.truncate(usize::try_from(got).map_err(io::Error::other)?);
    Ok(groups)
}

/// The session of this process.
pub fn session() -> u32 {
    // SAFETY: the call cannot fail for the calling process.
    unsafe { libc::getsid(0) }.cast_unsigned()
}

/// Sends SIGKILL to one child or process by its number, for numbers that cannot have been reused.
pub fn kill_pid(pid: u32) -> io::Result<()> {
    // SAFETY: the call takes two numbers.
    check(unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) })?;
    Ok(())
}
