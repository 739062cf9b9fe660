//! Artifacts as files: from the embedded queue's store to `DIR/<label or task id>/<name>`, without their content encoding.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use flate2::read::MultiGzDecoder;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, openat, renameat},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

use crate::{
    artifact::name::parts,
    local::StoredArtifact,
    seam::{SystemRandom, slugid},
};

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const NEW_FILE: OFlag =
    OFlag::O_WRONLY.union(OFlag::O_CREAT).union(OFlag::O_EXCL).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// What the user's umask leaves of these is what new files and directories of the user get.
const FILE_MODE: Mode = Mode::from_bits_truncate(0o666);
const DIRECTORY_MODE: Mode = Mode::from_bits_truncate(0o777);

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFile {
    /// The artifact's name.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// Its content type.
    pub content_type: String,
    /// Its size there, without a content encoding.
    pub bytes: u64,
}

/// What became of the artifacts of one task.
#[derive(Debug, Default)]
pub struct Saved {
    /// Files that were written.
    pub files: Vec<SavedFile>,
    /// Artifacts that are no files, with the reason, and names that are no file names. One line each.
    pub notes: Vec<String>,
    /// Files that could not be written. One line each.
    pub failures: Vec<String>,
}

/// Writes the artifacts of the task's last run below `folder` in `dir`. Only `dir` itself may be behind a symbolic link: what is
/// below it may have been put there by a task. Blocks.
pub fn save(dir: &Path, folder: &str, published: &[StoredArtifact]) -> Saved {
    let mut saved = Saved::default();
    let Some(last) = published.iter().map(|artifact| artifact.run_id).max() else { return saved };
    for artifact in published.iter().filter(|artifact| artifact.run_id == last) {
        let name = format!("\"{}\"", printable(&artifact.name));
        if let Some((reason, message)) = &artifact.error {
            saved.notes.push(format!("artifact {name} was not published: {reason}: {}", printable(message)));
            continue;
        }
        // Links lead to an artifact that is saved under its own name, references to somewhere else.
        let Some(stored) = &artifact.path else { continue };
        let parts = match parts(&artifact.name) {
            Ok(parts) => parts,
            Err(why) => {
                saved.notes.push(format!("artifact {name} was published, but not saved: its name {why}"));
                continue;
            }
        };
        match write(stored, artifact.content_encoding.as_deref(), dir, folder, &parts) {
            Ok(bytes) => saved.files.push(SavedFile {
                name: artifact.name.clone(),
                path: dir.join(folder).join(&artifact.name).display().to_string(),
                content_type: artifact.content_type.clone(),
                bytes,
            }),
            Err(error) => saved.failures.push(format!("save artifact {name}: {error}")),
        }
    }
    saved
}

/// Names come from tasks, and terminals obey control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(300).collect()
}

/// Writes one file under another name and puts it in its place, so that a file is whole or not there, and a symbolic link in its
/// place is replaced and not followed.
fn write(stored: &Path, encoding: Option<&str>, dir: &Path, folder: &str, parts: &[&str]) -> io::Result<u64> {
    let Some((name, between)) = parts.split_last() else { return Err(io::ErrorKind::InvalidFilename.into()) };
    let mut here = openat(AT_FDCWD, dir, DIRECTORY, Mode::empty())?;
    for component in std::iter::once(&folder).chain(between) {
        here = enter(here.as_fd(), component)?;
    }
    let mut content = fs_err::File::open(stored)?;
    let temporary = format!(".tc-worker-{}", slugid(&SystemRandom));
    let mut file = File::from(openat(&here, temporary.as_str(), NEW_FILE, FILE_MODE)?);
    let written = match encoding {
        Some("gzip") => io::copy(&mut MultiGzDecoder::new(content), &mut file),
        // The kernel copies, and on many file systems it only counts references.
        _ => io::copy(content.file_mut(), &mut file),
    };
    let placed = written.and_then(|bytes| {
        renameat(&here, temporary.as_str(), &here, *name)?;
        Ok(bytes)
    });
    if placed.is_err() {
        // The error that is reported says more than one from here would.
        let _ = unlinkat(&here, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
    }
    placed
}

/// Opens a directory in `here`, making it if it is not there, without following a symbolic link.
fn enter(here: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(here, name, DIRECTORY_MODE) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(of(name, error)),
    }
    openat(here, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()).map_err(|error| match error {
        Errno::ENOTDIR | Errno::ELOOP => io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{name:?} is there and is no directory; a symbolic link is not followed"),
        ),
        error => of(name, error),
    })
}

/// An error with the component that it is about.
fn of(name: &str, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("make or open the directory {name:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::unix::fs::{PermissionsExt as _, symlink},
        path::PathBuf,
    };

    use super::*;

    fn stored(name: &str, run_id: u32, path: Option<PathBuf>, encoding: Option<&str>) -> StoredArtifact {
        StoredArtifact {
            run_id,
            name: name.to_owned(),
            storage_type: "s3",
            content_type: "text/plain".to_owned(),
            content_encoding: encoding.map(str::to_owned),
            path,
            bytes: None,
            target: None,
            error: None,
        }
    }

    #[test]
    fn the_last_run_is_saved_decoded_and_links_are_replaced() {
        let home = tempfile::tempdir().expect("a directory");
        let (plain, packed, dir) = (home.path().join("plain"), home.path().join("packed"), home.path().join("out"));
        std::fs::write(&plain, "plain").expect("written");
        let mut gzip = flate2::write::GzEncoder::new(File::create(&packed).expect("made"), flate2::Compression::fast());
        gzip.write_all(b"unpacked").expect("written");
        gzip.finish().expect("written");
        std::fs::create_dir_all(dir.join("task/public")).expect("made");
        let precious = home.path().join("precious");
        std::fs::write(&precious, "precious").expect("written");
        symlink(&precious, dir.join("task/public/a")).expect("linked");
        let mut failed = stored("core\u{1b}", 1, None, None);
        failed.error = Some(("file-missing-on-worker".to_owned(), "no core".to_owned()));
        let saved = save(
            &dir,
            "task",
            &[
                stored("old", 0, Some(plain.clone()), None),
                stored("public/a", 1, Some(plain.clone()), None),
                stored("public/b", 1, Some(packed), Some("gzip")),
                stored("public/a/below", 1, Some(plain.clone()), None),
                stored("../evil", 1, Some(plain), None),
                stored("link", 1, None, None),
                failed,
            ],
        );
        assert_eq!(std::fs::read_to_string(dir.join("task/public/a")).expect("saved"), "plain");
        assert_eq!(std::fs::read_to_string(dir.join("task/public/b")).expect("saved"), "unpacked");
        assert_eq!(std::fs::read_to_string(&precious).expect("untouched"), "precious");
        assert!(!dir.join("task/old").exists() && !dir.join("evil").exists());
        assert_eq!((saved.files.len(), saved.notes.len(), saved.failures.len()), (2, 2, 1), "{saved:?}");
        assert!(!saved.notes.concat().contains('\u{1b}'));
        assert_eq!(std::fs::read_dir(dir.join("task/public")).expect("listed").count(), 2, "no temporary file is left");
        let mode = dir.join("task/public/a").metadata().expect("there").permissions().mode();
        assert_ne!(mode & 0o077, 0, "others may read what the user's umask lets them read");
    }

    #[test]
    fn symbolic_links_to_directories_are_not_followed_below_the_directory() {
        let home = tempfile::tempdir().expect("a directory");
        let (plain, outside, dir) = (home.path().join("plain"), home.path().join("outside"), home.path().join("link to out"));
        std::fs::write(&plain, "plain").expect("written");
        for made in [&outside, &home.path().join("out/task")] {
            std::fs::create_dir_all(made).expect("made");
        }
        symlink("out", &dir).expect("linked");
        symlink(&outside, dir.join("task/public")).expect("linked");
        symlink(&outside, dir.join("other")).expect("linked");
        let one = [stored("public/a", 0, Some(plain.clone()), None), stored("private/a", 0, Some(plain), None)];
        let saved = save(&dir, "task", &one);
        assert_eq!((saved.files.len(), saved.failures.len()), (1, 1), "{saved:?}");
        assert!(saved.failures[0].contains("\"public\" is there and is no directory"), "{saved:?}");
        assert_eq!(std::fs::read_to_string(home.path().join("out/task/private/a")).expect("saved"), "plain");
        assert_eq!(save(&dir, "other", &one).files.len(), 0);
        assert_eq!(std::fs::read_dir(&outside).expect("listed").count(), 0);
    }
}
