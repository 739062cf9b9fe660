//! Waiting for a descriptor without a thread.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor whose readability can be awaited. Needs a running tokio runtime.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` owns its descriptor: it stays the same and open until it is dropped, which happens after its
    // registration ends.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
