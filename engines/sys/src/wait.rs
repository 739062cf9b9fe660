//! The end of a child, by its descriptor: never waits for a child that somebody else waits for.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

/// How a process ended, and what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Exit code, or minus the number of the signal that ended it.
    pub code: Result<i32, i32>,
    /// Processor time in user mode, with that of the children it waited for.
    pub user: Duration,
    /// Processor time in kernel mode, likewise.
    pub kernel: Duration,
}

/// Which child.
#[derive(Debug, Clone, Copy)]
pub enum Child<'a> {
    /// By descriptor.
    Pidfd(BorrowedFd<'a>),
    /// By process id.
    Pid(i32),
    /// Whichever ended. Only for processes that own all of their children.
    Any,
}

/// Takes the end of a child if it has ended. Returns its process id with it.
pub fn try_wait(child: Child<'_>) -> io::Result<Option<(i32, End)>> {
    let (kind, id) = match child {
        Child::Pidfd(fd) => (libc::P_PIDFD, fd.as_raw_fd()),
        Child::Pid(pid) => (libc::P_PID, pid),
        Child::Any => (libc::P_ALL, 0),
    };
    // SAFETY: all zeroes is a valid value of these plain structures; the kernel fills them.
    let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: both pointers are to live structures of the right types. The fifth argument is the kernel's own extension.
    let result =
        unsafe { libc::syscall(libc::SYS_waitid, kind, id, &raw mut info, libc::WEXITED | libc::WNOHANG, &raw mut usage) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: after a successful call both fields are those of a child's end, or zero if there was none.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let code = if info.si_code == libc::CLD_EXITED { Ok(status) } else { Err(status) };
    Ok(Some((pid, End { code, user: duration(usage.ru_utime), kernel: duration(usage.ru_stime) })))
}

fn duration(time: libc::timeval) -> Duration {
    let (secs, micros) = (u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_usec).unwrap_or(0));
    Duration::new(secs, micros.saturating_mul(1000))
}
