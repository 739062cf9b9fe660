//! Reading a file that anything may have happened to. The crate checks what it reads, but a file that was changed by other hands may still make
//! it panic; then the file is damaged, and that is all there is to say about it.

use std::{
    cell::Cell,
    io,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::Once,
};

use super::file::FileError;

thread_local! {
    /// Whether a panic of this thread is one that was to be expected.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// From now on no panic is reported that is to be expected; all others are as before.
fn silence_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                report(info);
            }
        }));
    });
}

/// Reads, and finds out why that cannot be done.
pub(super) fn careful<T>(path: &Path, read: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, FileError> {
    silence_expected_panics();
    let outer = EXPECTED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    EXPECTED.set(outer);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(redb::Error::Io(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(FileError::unreadable(path, "it is cut off"))
        }
        Ok(Err(redb::Error::Io(error))) if error.kind() != io::ErrorKind::InvalidData => Err(FileError::io(path, &error)),
        Ok(Err(error)) => Err(FileError::unreadable(path, &error.to_string())),
        Err(_) => Err(FileError::unreadable(path, "it is damaged")),
    }
}
