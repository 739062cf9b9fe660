//! The table as a file: the reference worker's `directory-caches.json`, which it can read back.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    places,
    table::{Entry, Table},
};

/// An entry of the file. The reference refuses files with further fields.
#[derive(Serialize, Deserialize)]
struct Row {
    created: Timestamp,
    location: PathBuf,
    #[serde(default)]
    hits: u64,
    #[serde(default)]
    key: String,
    #[serde(default)]
    sha256: String,
    #[serde(default)]
    in_use: bool,
    #[serde(default)]
    last_used: Option<Timestamp>,
}

/// What a file says, and what of it was left out.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The entries that can be used.
    pub table: Table,
    /// A sentence for each that cannot.
    pub dropped: Vec<String>,
}

/// Reads a file. Relative locations, which the reference writes for a relative `cachesDir`, are taken from `cwd`.
///
/// # Errors
/// When it is no table at all. Entries that make no sense are left out.
pub fn parse(bytes: &[u8], dir: &Path, cwd: &Path) -> Result<Parsed, serde_json::Error> {
    let pools: BTreeMap<String, Value> = serde_json::from_slice(bytes)?;
    let mut parsed = Parsed::default();
    for (name, pool) in pools {
        // Old versions of the reference wrote one entry for a name instead of a list.
        let rows = match pool {
            Value::Array(rows) => rows,
            Value::Null => Vec::new(),
            row => vec![row],
        };
        for row in rows {
            match serde_json::from_value::<Row>(row) {
                Ok(row) => parsed.add(&name, row, dir, cwd),
                Err(error) => parsed.dropped.push(format!("an entry of cache {name:?} is not understood: {error}")),
            }
        }
    }
    Ok(parsed)
}

impl Parsed {
    fn add(&mut self, name: &str, row: Row, dir: &Path, cwd: &Path) {
        // Without dots and doubled slashes, so that equal locations look equal.
        let location: PathBuf = cwd.join(&row.location).components().collect();
        let is_plain = match places::locate(dir, &location) {
            Some(places::Location::Ours(_)) => false,
            Some(places::Location::Plain(_)) => true,
            None => {
                self.dropped.push(format!("a cache {name:?} is not below {}: {}", dir.display(), location.display()));
                return;
            }
        };
        let entry = Entry {
            location,
            created: row.created,
            last_used: row.last_used.unwrap_or(row.created),
            hits: row.hits,
            sha256: row.sha256,
            // The reference moves a cache away while it is in use, so one that is in its place is not.
            in_use: row.in_use && !is_plain,
        };
        if !self.table.insert(name, entry) {
            self.dropped.push(format!("two entries of the table have the directory {}", row.location.display()));
        }
    }
}

/// Writes a table. Locations that are not UTF-8 cannot come from a file, and so are not in any table.
pub fn serialize(table: &Table) -> Vec<u8> {
    let pools: BTreeMap<&str, Vec<Row>> =
        table.pools().map(|(name, pool)| (name, pool.iter().map(|entry| row(name, entry)).collect())).collect();
    let mut bytes = serde_json::to_vec_pretty(&pools).unwrap_or_else(|_| b"{}".to_vec());
    bytes.push(b'\n');
    bytes
}

fn row(name: &str, entry: &Entry) -> Row {
    Row {
        created: entry.created,
        location: entry.location.clone(),
        hits: entry.hits,
        key: name.to_owned(),
        sha256: entry.sha256.clone(),
        in_use: entry.in_use,
        last_used: Some(entry.last_used),
    }
}
