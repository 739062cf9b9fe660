//! The Linux system calls that the standard library and `nix` do not offer, behind safe functions.
//!
//! This is the only crate of the project that contains unsafe code. It decides nothing: which processes are started, where
//! files may be read from and what is removed is up to its callers.
//!
//! * [`fd`]: pipes, waiting for readiness, memory files.
//! * [`socket`]: message sockets that carry file descriptors.
//! * [`launch`]: starting a program in a cgroup, with a descriptor for the process.
//! * [`process`]: waiting, signals, and settings of the calling process.
//! * [`beneath`]: opening files below a directory without being led out of it.
//! * [`directory`]: listing an open directory.
//! * [`removal`]: removing a tree that does not want to be removed.

pub mod beneath;
pub mod directory;
pub mod fd;
pub mod launch;
pub mod process;
pub mod removal;
pub mod socket;
mod status;

use std::io;

/// Turns the C convention of "-1 and errno" into a result.
fn check(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// The same for raw system calls.
fn check_long(returned: libc::c_long) -> io::Result<libc::c_long> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// Repeats a call that a signal interrupted.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// The operating system's words for an error number, as other programs print them: without the number and in lower case.
pub fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    // Only an ordinary capital is lowered: "RFS specific error" keeps its name.
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn error_texts_read_as_elsewhere() {
        assert_eq!(super::errno_text(libc::ENOENT), "no such file or directory");
        assert_eq!(super::errno_text(libc::EACCES), "permission denied");
        assert_eq!(super::errno_text(libc::ENOEXEC), "exec format error");
        assert_eq!(super::errno_text(libc::E2BIG), "argument list too long");
    }
}
