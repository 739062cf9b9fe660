//! Reading what is to be checked. Files are what people name by mistake, too: pipes that nobody writes to, devices without end.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use crate::check::{Input, MAX_FILE_BYTES, MAX_TOTAL_BYTES, Unread};

/// How long a pipe or a device may keep silent, one that is named as a file. Standard input may take its time: somebody may be
/// typing.
const SILENCE: Duration = Duration::from_secs(10);
/// How much of a pipe or a device is read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// What may still be read.
pub(super) struct Budget {
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: MAX_TOTAL_BYTES }
    }
}

impl Budget {
    /// Reads a file; `-` is standard input.
    pub(super) fn read(&mut self, path: &Path) -> Input {
        let stdin = path == Path::new("-");
        let most = MAX_FILE_BYTES.min(self.bytes);
        let bytes = if stdin { take(io::stdin().lock(), most) } else { read(path, most, SILENCE) };
        let bytes = bytes.map_err(|error| Unread::Failed(error.to_string()));
        let bytes = bytes.and_then(|bytes| if bytes.len() > most { Err(Unread::TooLarge) } else { Ok(bytes) });
        self.bytes -= bytes.as_ref().map_or(0, Vec::len);
        let name = if stdin { "<stdin>".to_owned() } else { path.display().to_string() };
        Input { name, bytes }
    }
}

/// One byte more than is allowed is enough to know that it is too much.
fn take(from: impl io::Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read(path: &Path, most: usize, silence: Duration) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.is_file() {
        return take(File::open(path)?, most);
    }
    // Opening it may already wait for ever. The thread that does is left behind; it ends with the process.
    let (sender, pieces) = mpsc::sync_channel::<io::Result<Vec<u8>>>(1);
    let path = path.to_owned();
    std::thread::Builder::new().name("pipe".to_owned()).spawn(move || {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => return drop(sender.send(Err(error))),
        };
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = file.read(&mut piece).map(|count| {
                piece.truncate(count);
                piece
            });
            let is_last = !read.as_ref().is_ok_and(|piece| !piece.is_empty());
            if sender.send(read).is_err() || is_last {
                return;
            }
        }
    })?;
    let mut bytes = Vec::new();
    while bytes.len() <= most {
        match pieces.recv_timeout(silence) {
            Ok(piece) => match piece? {
                piece if piece.is_empty() => break,
                piece => bytes.extend(piece),
            },
            Err(RecvTimeoutError::Timeout) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it kept silent for {} s", silence.as_secs())));
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::symlink};

    use nix::sys::stat::Mode;

    use super::*;

    fn pipe(dir: &tempfile::TempDir, name: &str) -> std::path::PathBuf {
        let path = dir.path().join(name);
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).expect("made");
        path
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_not_waited_for_without_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let silent = read(&pipe(&dir, "silent"), 10, Duration::from_millis(10)).expect_err("nobody writes");
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        let path = pipe(&dir, "pipe");
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || File::create(path).and_then(|mut file| file.write_all(b"{}")))
        };
        assert_eq!(read(&path, 10, SILENCE).expect("read"), b"{}");
        writer.join().expect("it ends").expect("written");
    }

    #[test]
    fn what_has_no_end_is_not_read_to_it() {
        assert_eq!(read(Path::new("/dev/zero"), 100_000, SILENCE).expect("read").len() / PIECE_BYTES, 2);
        let mut budget = Budget { bytes: 5 };
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        std::fs::write(&path, "abc").expect("written");
        assert_eq!(budget.read(&path).bytes, Ok(b"abc".to_vec()));
        assert_eq!(budget.read(&path).bytes, Err(Unread::TooLarge), "together they are too large");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("loop");
        symlink(&path, &path).expect("made");
        for path in [path.as_path(), Path::new("/nonexistent/x"), Path::new("/")] {
            assert!(matches!(Budget::default().read(path).bytes, Err(Unread::Failed(_))), "{}", path.display());
        }
    }
}
