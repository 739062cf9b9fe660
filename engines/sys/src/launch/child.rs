//! What a cloned child does before it becomes the program.
//!
//! Nothing here allocates, locks or touches memory that another thread may have left half-changed: only system calls are made,
//! with what was prepared before the clone.

use std::{os::fd::RawFd, ptr};

use super::REPORT_BYTES;

/// In a report: this is the error of a candidate, not of a stage before it.
pub(super) const EXEC: u32 = 5;
/// In a report: no candidate was found.
pub(super) const NOT_FOUND: u32 = 6;

/// Everything that the child needs, as plain numbers and pointers into memory that the caller owns.
pub(super) struct Prepared {
    pub(super) candidates: Vec<*const libc::c_char>,
    pub(super) searched: bool,
    pub(super) argv: Vec<*const libc::c_char>,
    pub(super) env: Vec<*const libc::c_char>,
    pub(super) directory: *const libc::c_char,
    pub(super) streams: [RawFd; 3],
    pub(super) cgroup_procs: RawFd,
    pub(super) report: RawFd,
    pub(super) ordinary_oom_score: bool,
}

/// The child's way from the clone to the program. Makes system calls only.
///
/// # Safety
/// To be called in a freshly cloned process whose memory is its own, with all pointers in `prepared` valid.
pub(super) unsafe fn child(prepared: &Prepared) -> ! {
    // SAFETY: only async-signal-safe functions are called, with pointers that the caller vouches for.
    unsafe {
        forget_signals();
        if prepared.cgroup_procs >= 0 && libc::write(prepared.cgroup_procs, c"0".as_ptr().cast(), 1) != 1 {
            give_up(prepared, 1, 0);
        }
        // A session of its own: no terminal can stop the command or send it signals that were meant for the worker.
        if libc::setsid() < 0 {
            give_up(prepared, 2, 0);
        }
        for (target, source) in (0..).zip(prepared.streams) {
            if libc::dup2(source, target) < 0 {
                give_up(prepared, 2, 0);
            }
        }
        if prepared.ordinary_oom_score && !set_ordinary_oom_score() {
            give_up(prepared, 3, 0);
        }
        close_inherited();
        if libc::chdir(prepared.directory) < 0 {
            give_up(prepared, 4, 0);
        }
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        let (stage, position) = try_candidates(&prepared.candidates, prepared.searched, &prepared.argv, &prepared.env);
        give_up(prepared, stage, position)
    }
}

/// Tries the candidates as a shell would: the first that is a file which may be executed decides. Returns only when none
/// could be executed, with the number of the stage and the candidate's position; the error is in errno.
///
/// # Safety
/// The lists must end with a null pointer, and the pointers before it must be valid strings.
pub(super) unsafe fn try_candidates(
    candidates: &[*const libc::c_char],
    searched: bool,
    argv: &[*const libc::c_char],
    env: &[*const libc::c_char],
) -> (u32, usize) {
    let candidates = candidates.split_last().map_or(&[][..], |(_null, candidates)| candidates);
    // SAFETY: the caller vouches for the pointers; only async-signal-safe functions are called.
    unsafe {
        for (position, candidate) in candidates.iter().enumerate() {
            libc::execve(*candidate, argv.as_ptr(), env.as_ptr());
            let errno = *libc::__errno_location();
            let absent = matches!(errno, libc::ENOENT | libc::ENOTDIR | libc::EACCES);
            if !searched || !absent || is_executable_file(*candidate) {
                *libc::__errno_location() = errno;
                return (EXEC, position);
            }
        }
        *libc::__errno_location() = libc::ENOENT;
        (NOT_FOUND, 0)
    }
}

/// Whether a failed candidate is a program all the same, so that it is its interpreter or its file system that is at fault.
///
/// # Safety
/// `path` must be a valid C string.
unsafe fn is_executable_file(path: *const libc::c_char) -> bool {
    let mut status = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the path is valid, and a zeroed stat structure is one.
    unsafe {
        libc::stat(path, status.as_mut_ptr()) == 0
            && status.assume_init().st_mode & libc::S_IFMT == libc::S_IFREG
            && libc::access(path, libc::X_OK) == 0
    }
}

/// Gives every signal its default meaning. Raw, because the C library hides two of them.
///
/// # Safety
/// To be called in a process that has no other threads.
pub(super) unsafe fn forget_signals() {
    const SIGNALS: libc::c_int = 64;
    // The kernel's structure is not that of the C library; on every architecture zeroes mean the default action.
    let default = [0_u64; 4];
    for signal in 1..=SIGNALS {
        // SAFETY: the structure is larger than the kernel's, and the old action is not asked for. Errors (SIGKILL) do not matter.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<libc::c_void>(), 8_usize);
        }
    }
}

/// Sees to it that nothing but the standard streams reaches the program, whoever forgot to mark a descriptor.
///
/// # Safety
/// To be called in a process that has no other threads.
unsafe fn close_inherited() {
    // SAFETY: marking descriptors touches no memory.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) < 0 {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            for fd in 3..libc::c_int::try_from(limit.rlim_cur).unwrap_or(65_536).min(65_536) {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// # Safety
/// To be called in a process that has no other threads.
unsafe fn set_ordinary_oom_score() -> bool {
    // SAFETY: constant strings, and a descriptor that this function opened.
    unsafe {
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        file >= 0 && libc::write(file, c"0".as_ptr().cast(), 1) == 1
    }
}

/// Tells the parent why there will be no program, and ends.
///
/// # Safety
/// To be called in a cloned child; `report` must be open.
unsafe fn give_up(prepared: &Prepared, stage: u32, position: usize) -> ! {
    // SAFETY: errno is thread-local, the buffer is valid for its length, and _exit does not return.
    unsafe {
        let report = report(stage, position, *libc::__errno_location());
        libc::write(prepared.report, report.as_ptr().cast(), report.len());
        libc::_exit(127)
    }
}

/// A report: stage, position, errno. Allocates nothing, so that a cloned child may call it.
pub(super) fn report(stage: u32, position: usize, errno: i32) -> [u8; REPORT_BYTES] {
    #[expect(clippy::cast_possible_truncation, reason = "a search path has fewer than four billion entries")]
    let position = position as u32;
    let words = stage.to_ne_bytes().into_iter().chain(position.to_ne_bytes()).chain(errno.to_ne_bytes());
    let mut report = [0_u8; REPORT_BYTES];
    for (to, from) in report.iter_mut().zip(words) {
        *to = from;
    }
    report
}
