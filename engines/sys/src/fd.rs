//! Pipes, events, memory files, and waiting for them.
//!
//! Every descriptor made here is closed on exec.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use crate::{check, uninterrupted};

/// Takes ownership of a descriptor that a system call has just returned.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: every caller passes the result of a successful call that made a new descriptor, which nobody else knows.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A pipe: the end to read from, the end to write to.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((own(ends[0]), own(ends[1])))
}

/// Asks for room for `bytes` in a pipe. Returns the size it has afterwards.
pub fn set_pipe_bytes(pipe: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    let wanted = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the call takes a number and touches no memory of ours.
    let got = check(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, wanted) })?;
    usize::try_from(got).map_err(io::Error::other)
}

/// How many bytes wait in a pipe.
pub fn waiting_bytes(pipe: BorrowedFd<'_>) -> io::Result<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int through the pointer, which is valid.
    check(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    u64::try_from(count).map_err(io::Error::other)
}

/// Makes reads and writes through this open file return instead of waiting.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call touches no memory of ours.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// The same open file under a number of at least 3, so that setting up the standard streams of a child cannot overwrite it.
pub(crate) fn above_standard_streams(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the call touches no memory of ours.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) }).map(own)
}

/// An event counter, for waking a thread that waits in [`wait_any`].
pub fn event() -> io::Result<OwnedFd> {
    // SAFETY: the call touches no memory of ours.
    check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }).map(own)
}

/// Makes an [`event`] readable.
pub fn raise(event: BorrowedFd<'_>) -> io::Result<()> {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: the buffer is valid for its length.
    let written = unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A file that exists in memory only.
pub fn memory_file(name: &std::ffi::CStr) -> io::Result<File> {
    // SAFETY: the name ends with a NUL byte by its type.
    check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) }).map(|fd| File::from(own(fd)))
}

/// Waits until one of the descriptors can be read without waiting, has ended, or has failed; which ones is in the result.
/// With a `bound` it may return without any.
pub fn wait_any<const N: usize>(fds: [BorrowedFd<'_>; N], bound: Option<Duration>) -> io::Result<[bool; N]> {
    let mut polled =
        fds.map(|fd| libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN | libc::POLLPRI, revents: 0 });
    let millis = bound.map_or(-1, |bound| i32::try_from(bound.as_millis()).unwrap_or(i32::MAX));
    let count = libc::nfds_t::try_from(N).map_err(io::Error::other)?;
    uninterrupted(|| {
        // SAFETY: `polled` is an array of `count` valid entries.
        check(unsafe { libc::poll(polled.as_mut_ptr(), count, millis) })
    })?;
    Ok(polled.map(|entry| entry.revents != 0))
}

/// A descriptor that is readable while one of the process's children has changed state. Blocks SIGCHLD for the calling thread.
pub fn child_events() -> io::Result<OwnedFd> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set, sigaddset gets the initialised set and a valid signal.
    let set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        set.assume_init()
    };
    // SAFETY: the set is initialised, the old set is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) })?;
    // SAFETY: the set is initialised.
    check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) }).map(own)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_pipe_tells_what_waits_in_it() {
        let (read, write) = pipe().expect("a pipe");
        assert!(set_pipe_bytes(write.as_fd(), 1 << 16).expect("room") >= 1 << 16);
        File::from(write).write_all(b"hello").expect("written");
        assert_eq!(waiting_bytes(read.as_fd()).expect("counted"), 5);
        assert_eq!(wait_any([read.as_fd()], None).expect("ready"), [true]);
    }

    #[test]
    fn an_event_is_quiet_until_it_is_raised() {
        let event = event().expect("an event");
        assert_eq!(wait_any([event.as_fd()], Some(Duration::ZERO)).expect("polled"), [false]);
        raise(event.as_fd()).expect("raised");
        assert_eq!(wait_any([event.as_fd()], None).expect("polled"), [true]);
    }
}
