//! Properties of the calling thread.

use std::io;

/// Gives the calling thread the lowest priority. It cannot be raised again without privilege.
///
/// # Errors
/// When the kernel refuses.
pub fn lower_priority() -> io::Result<()> {
    // SAFETY: the call takes three integers; 0 stands for the calling thread on Linux.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
