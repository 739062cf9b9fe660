//! Artifacts as files: from the embedded queue's store to `DIR/<label or task id>/<name>`, without their content encoding.

use std::{
    fs::File,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;

use crate::local::StoredArtifact;

/// What became of the artifacts of one task.
#[derive(Debug, Default)]
pub struct Saved {
    /// Files that were written.
    pub files: usize,
    /// Artifacts that are no files, with the reason, and names that are no file names. One line each.
    pub notes: Vec<String>,
    /// Files that could not be written. One line each.
    pub failures: Vec<String>,
}

/// Writes the artifacts of the task's last run below `dir`. Blocks.
pub fn save(dir: &Path, published: &[StoredArtifact]) -> Saved {
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
        let Some(relative) = file_name(&artifact.name) else {
            saved.notes.push(format!("artifact {name} was not saved: its name would lead out of the directory for artifacts"));
            continue;
        };
        match write(stored, artifact.content_encoding.as_deref(), &dir.join(relative)) {
            Ok(()) => saved.files += 1,
            Err(error) => saved.failures.push(format!("save artifact {name}: {error}")),
        }
    }
    saved
}

/// The relative path that a name stands for, if it is one that stays below its directory.
fn file_name(name: &str) -> Option<PathBuf> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    name.split('/').all(plain).then(|| PathBuf::from(name))
}

/// Names come from tasks, and terminals obey control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(300).collect()
}

/// Writes one file under another name and puts it in its place, so that a file is whole or not there, and a symbolic link in its
/// place is replaced and not followed.
fn write(stored: &Path, encoding: Option<&str>, to: &Path) -> io::Result<()> {
    let dir = to.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(dir)?;
    let mut temporary = tempfile::Builder::new().prefix(".tc-worker-").tempfile_in(dir)?;
    let mut content = fs_err::File::open(stored)?;
    match encoding {
        Some("gzip") => drop(io::copy(&mut MultiGzDecoder::new(content), temporary.as_file_mut())?),
        // The kernel copies, and on many file systems it only counts references.
        _ => drop(io::copy(content.file_mut(), temporary.as_file_mut())?),
    }
    temporary.as_file().set_permissions(usual_permissions(dir)?)?;
    temporary.persist(to).map_err(|error| error.error)?;
    Ok(())
}

/// What a new file of this user gets: temporary files are for their owner only.
fn usual_permissions(dir: &Path) -> io::Result<std::fs::Permissions> {
    let probe = tempfile::Builder::new().prefix(".tc-worker-").make_in(dir, |path| File::create_new(path))?;
    let mode = probe.as_file().metadata()?.permissions().mode();
    Ok(std::fs::Permissions::from_mode(mode & 0o777))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

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
    fn names_never_leave_the_directory() {
        for name in ["..", "a/../b", "/etc/passwd", "a//b", "a/", "", "./a", "a\0b", "../../x"] {
            assert_eq!(file_name(name), None, "{name:?}");
        }
        for name in ["a", "public/a b.txt", "..a", "a..", "ä\\..\\b"] {
            assert_eq!(file_name(name), Some(PathBuf::from(name)), "{name:?}");
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
        std::fs::create_dir_all(dir.join("public")).expect("made");
        let precious = home.path().join("precious");
        std::fs::write(&precious, "precious").expect("written");
        std::os::unix::fs::symlink(&precious, dir.join("public/a")).expect("linked");
        let mut failed = stored("core\u{1b}", 1, None, None);
        failed.error = Some(("file-missing-on-worker".to_owned(), "no core".to_owned()));
        let saved = save(
            &dir,
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
        assert_eq!(std::fs::read_to_string(dir.join("public/a")).expect("saved"), "plain");
        assert_eq!(std::fs::read_to_string(dir.join("public/b")).expect("saved"), "unpacked");
        assert_eq!(std::fs::read_to_string(&precious).expect("untouched"), "precious");
        assert!(!dir.join("old").exists() && !home.path().join("evil").exists());
        assert_eq!((saved.files, saved.notes.len(), saved.failures.len()), (2, 2, 1), "{saved:?}");
        assert!(!saved.notes.concat().contains('\u{1b}'));
        assert_eq!(std::fs::read_dir(dir.join("public")).expect("listed").count(), 2, "no temporary file is left");
        let mode = dir.join("public/a").metadata().expect("there").permissions().mode();
        assert_ne!(mode & 0o077, 0, "others may read what the user's umask lets them read");
    }
}
