//! Opening files that somebody else may have prepared to deceive us.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// Opens `path` for reading so that neither it nor any link on the way leads out of `root`, and without waiting for a
/// writer of a FIFO or becoming the owner of a terminal. `path` must be relative.
///
/// # Errors
/// `EXDEV` when something leads out; else what opening a file gives.
pub fn beneath(root: BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    openat2(root, path, flags, libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS).map(File::from)
}

/// Opens `path` only to name it: no right to the thing itself is needed. As [`beneath`] otherwise; with `follow` a link at
/// its end is followed.
pub fn name_beneath(root: BorrowedFd<'_>, path: &Path, follow: bool) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_CLOEXEC | if follow { 0 } else { libc::O_NOFOLLOW };
    openat2(root, path, flags, libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS)
}

fn openat2(root: BorrowedFd<'_>, path: &Path, flags: libc::c_int, resolve: u64) -> io::Result<OwnedFd> {
    let path = c_string(path.as_os_str())?;
    // SAFETY: all zeroes is the neutral value of this plain structure of integers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from(flags.unsigned_abs());
    how.resolve = resolve;
    loop {
        // SAFETY: the path is terminated and the structure is alive and of the size that is given.
        let fd = unsafe {
            libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw mut how, size_of::<libc::open_how>())
        };
        if fd >= 0 {
            // SAFETY: the kernel made this descriptor for us.
            return Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) });
        }
        let error = io::Error::last_os_error();
        // A rename elsewhere on the machine can make the kernel give up for a moment.
        if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) {
            return Err(error);
        }
    }
}

/// A path or argument as the kernel takes it.
///
/// # Errors
/// When there is a NUL byte in it.
pub fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "it contains a NUL byte"))
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn what_leads_out_is_refused_and_a_fifo_does_not_block() {
        let dir = tempfile::tempdir().expect("a directory");
        let inside = dir.path().join("inside");
        std::fs::create_dir(&inside).expect("made");
        std::fs::write(dir.path().join("secret"), "secret").expect("written");
        std::fs::write(inside.join("file"), "fine").expect("written");
        for (name, to) in [("up", "../secret"), ("abs", "/etc/passwd"), ("ok", "file")] {
            std::os::unix::fs::symlink(to, inside.join(name)).expect("linked");
        }
        let root = File::open(&inside).expect("open");
        let mut text = String::new();
        beneath(root.as_fd(), Path::new("ok")).expect("inside").read_to_string(&mut text).expect("read");
        assert_eq!(text, "fine");
        for name in ["up", "abs", "../secret"] {
            let error = beneath(root.as_fd(), Path::new(name)).expect_err("it leads out");
            assert_eq!(error.raw_os_error(), Some(libc::EXDEV), "{name}");
        }
        let fifo = c_string(inside.join("fifo").as_os_str()).expect("no NUL");
        // SAFETY: the path is terminated.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        beneath(root.as_fd(), Path::new("fifo")).expect("opened without a writer");
    }
}
