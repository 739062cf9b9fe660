//! What an open descriptor is: a file, a directory, or something that is neither; and which one, whatever its name.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd},
};

use crate::check;

/// What an open descriptor is, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Device and inode number: the thing itself, whatever its name.
    pub identity: (u64, u64),
    /// Size in bytes.
    pub bytes: u64,
    /// How many names it has. Zero for something that was removed.
    pub links: u64,
    mode: libc::mode_t,
}

impl Status {
    /// Asks the kernel.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let mut status = MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: a zeroed structure is valid, and the kernel fills it.
        let status = unsafe {
            check(libc::fstat(fd.as_raw_fd(), status.as_mut_ptr()))?;
            status.assume_init()
        };
        #[expect(clippy::useless_conversion, reason = "the types differ between architectures")]
        Ok(Self {
            identity: (status.st_dev, status.st_ino),
            bytes: u64::try_from(status.st_size).unwrap_or_default(),
            links: u64::from(status.st_nlink),
            mode: status.st_mode & libc::S_IFMT,
        })
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode == libc::S_IFDIR
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.mode == libc::S_IFLNK
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode == libc::S_IFREG
    }

    /// What it is called if it is neither a file nor a directory.
    pub(crate) fn special(&self) -> &'static str {
        match self.mode {
            libc::S_IFIFO => "named pipe",
            libc::S_IFSOCK => "socket",
            libc::S_IFCHR => "character device",
            libc::S_IFBLK => "block device",
            _ => "special file",
        }
    }
}
