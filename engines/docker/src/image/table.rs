//! What was brought, and what for: kept over restarts.
//!
//! Anyone may remove the file, or images from the engine. Both are a miss, never an error, so nothing here is believed
//! before the engine was asked.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::known::LayerMember;

const FILE_NAME: &str = "docker-images.json";
/// More is no table of ours.
const FILE_BYTES: u64 = 64 << 20;

/// An image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// Whether the engine did not have it before.
    pub brought: bool,
    /// Its size as the engine tells it.
    pub bytes: u64,
    /// When it was last asked for, in seconds since 1970.
    pub used: u64,
    /// For people.
    pub shown: String,
    /// The layers as members of the archive that it came in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<LayerMember>,
}

/// What a task asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// The image.
    pub id: String,
    /// SHA-256 of the archive in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// When it was last compared with the registry, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<u64>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// By identifier.
    #[serde(default)]
    pub images: BTreeMap<String, ImageRow>,
    /// By what was asked for.
    #[serde(default)]
    pub keys: BTreeMap<String, KeyRow>,
}

impl Rows {
    /// Forgets an image and what leads to it.
    pub fn forget(&mut self, id: &str) {
        self.images.remove(id);
        self.keys.retain(|_, row| row.id != id);
    }
}

/// The table and its file.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    rows: Mutex<Rows>,
}

impl Table {
    /// Reads the table in this directory. What cannot be read is empty.
    pub fn open(directory: &Path) -> Self {
        let path = directory.join(FILE_NAME);
        let rows = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!("read the table of images {}: {error}; it starts anew", path.display());
            }
            Rows::default()
        });
        Self { path, rows: Mutex::new(rows) }
    }

    /// A copy of the rows.
    pub fn rows(&self) -> Rows {
        self.lock().clone()
    }

    /// Changes the rows and writes them, if they are other ones then. A table that cannot be written is complained about:
    /// it costs a download, no more.
    pub fn change(&self, change: impl FnOnce(&mut Rows)) {
        let mut rows = self.lock();
        let before = rows.clone();
        change(&mut rows);
        if *rows != before
            && let Err(error) = write(&self.path, &rows)
        {
            tracing::warn!("write the table of images {}: {error}", self.path.display());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> io::Result<Rows> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

fn write(path: &Path, rows: &Rows) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(&serde_json::to_vec(rows)?)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_and_are_private_and_garbage_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let table = Table::open(directory.path());
        table.change(|rows| {
            rows.images.insert("sha256:1".to_owned(), ImageRow { brought: true, ..ImageRow::default() });
            rows.keys.insert("k".to_owned(), KeyRow { id: "sha256:1".to_owned(), sha256: None, checked: Some(3) });
        });
        let path = directory.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Table::open(directory.path()).rows(), table.rows());
        assert_eq!(table.rows().keys.len(), 1);

        table.change(|rows| rows.forget("sha256:1"));
        assert_eq!(Table::open(directory.path()).rows(), Rows::default());

        for garbage in ["", "{\"images\": 3}", "\0\0\0"] {
            fs::write(&path, garbage).unwrap();
            assert_eq!(Table::open(directory.path()).rows(), Rows::default());
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(Table::open(directory.path()).rows(), Rows::default());
    }
}
