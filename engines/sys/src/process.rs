//! Properties of the calling process.

use std::{ffi::CString, io};

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: only options whose argument is an integer come here.
    let result = unsafe { libc::prctl(option, argument, zero, zero, zero) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps other processes of the same user from reading this one's memory and environment, and from tracing it.
pub fn make_undumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Makes this process the parent of all its descendants that lose theirs.
pub fn make_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// Changes the name under which the process appears in lists; 15 bytes of it count.
pub fn rename(name: &str) -> io::Result<()> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the kernel reads at most 16 bytes up to the terminator, which is there.
    let result = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How readily the kernel kills this process when memory is short, -1000 to 1000; 0 if that cannot be told.
pub fn oom_score_adj() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// How many bytes can be read from a pipe right now.
pub fn readable_bytes(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<usize> {
    use std::os::fd::AsRawFd as _;
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open for the time of the call, and the kernel writes one integer to where `count` is.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(count).unwrap_or(0)) }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn a_pipe_tells_what_is_in_it() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        assert_eq!(readable_bytes(reader.as_fd()).expect("told"), 0);
        writer.write_all(b"12345").expect("written");
        assert_eq!(readable_bytes(reader.as_fd()).expect("told"), 5);
    }

    #[test]
    fn the_name_changes() {
        std::thread::spawn(|| {
            rename("another-name").expect("renamed");
            let name = std::fs::read_to_string("/proc/thread-self/comm").expect("readable");
            assert_eq!(name.trim(), "another-name");
        })
        .join()
        .expect("the thread ends");
    }
}
