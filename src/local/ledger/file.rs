//! The file of records: one table for each kind, and a mark that says in which format they are.
//!
//! Every commit is on the disk when it returns, and a file is always as its last commit left it, whenever the process or the machine ends. A new
//! file gets its name only once it is complete.

use std::{
    fs::Permissions,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable, TableDefinition, TableError,
    backends::FileBackend,
};

use super::{Kind, careful::careful, pending::Records};

/// What this version writes. A higher number is for records that this version would misunderstand, not for more fields.
const FORMAT: u32 = 1;
const MARK: TableDefinition<'_, &str, u32> = TableDefinition::new("ledger");
const MARK_KEY: &str = "format";
/// Memory for pages of the file; the system caches them, too.
const CACHE_BYTES: usize = 4 << 20;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("ledger \"{}\" cannot be read: {why}; move it away to begin anew", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("\"{}\" is no ledger of this program", path.display())]
    Foreign { path: PathBuf },
    #[error("ledger \"{}\" was written by a newer version: its format is {format}, this version knows {FORMAT}", path.display())]
    Newer { path: PathBuf, format: u32 },
    #[error("ledger \"{}\": {why}", path.display())]
    Io { path: PathBuf, why: String },
}

impl FileError {
    pub(super) fn io(path: &Path, error: &dyn std::fmt::Display) -> Self {
        Self::Io { path: path.to_owned(), why: error.to_string() }
    }

    pub(super) fn unreadable(path: &Path, why: &str) -> Self {
        Self::Unreadable { path: path.to_owned(), why: why.to_owned() }
    }
}

/// The open file.
pub(super) struct File {
    path: PathBuf,
    /// Nothing after an error, until it is opened again.
    database: Option<Database>,
}

/// A directory for its owner only. One that is there is left as it is.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A file for its owner only, made if it is missing.
pub(super) fn open_private(path: &Path) -> io::Result<std::fs::File> {
    std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// A file with this content for its owner only, unless there is one. It is there as a whole or not at all.
pub(super) fn make_once(path: &Path, content: &[u8]) -> io::Result<()> {
    if path.try_exists()? {
        return Ok(());
    }
    // The crate makes files for their owner only.
    let mut draft = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    draft.write_all(content)?;
    draft.as_file().sync_data()?;
    match draft.persist_noclobber(path) {
        Err(refused) if refused.error.kind() != io::ErrorKind::AlreadyExists => Err(refused.error),
        _ => Ok(()),
    }
}

impl File {
    /// The file at this place, which is made if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let database = match std::fs::metadata(path) {
            Ok(_) => open_existing(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
            Err(error) => return Err(FileError::io(path, &error)),
        };
        Ok(Self { path: path.to_owned(), database: Some(database) })
    }

    /// Shows all records of this kind in the order of their keys.
    pub(super) fn each(&self, kind: Kind, mut visit: impl FnMut(&str, &[u8])) -> Result<(), FileError> {
        self.read(|transaction| {
            let Some(table) = table(transaction, kind)? else { return Ok(()) };
            for record in table.iter()? {
                let (key, value) = record?;
                visit(key.value(), value.value());
            }
            Ok(())
        })
    }

    /// The same, each with the record of another kind that has the same key.
    pub(super) fn each_with(
        &self,
        kind: Kind,
        other: Kind,
        mut visit: impl FnMut(&str, &[u8], Option<&[u8]>),
    ) -> Result<(), FileError> {
        self.read(|transaction| {
            let Some(records) = table(transaction, kind)? else { return Ok(()) };
            let others = table(transaction, other)?;
            let mut others = others.as_ref().map(ReadableTable::iter).transpose()?;
            let mut next = others.as_mut().and_then(Iterator::next).transpose()?;
            for record in records.iter()? {
                let (key, value) = record?;
                let key = key.value();
                while next.as_ref().is_some_and(|(other, _)| other.value() < key) {
                    next = others.as_mut().and_then(Iterator::next).transpose()?;
                }
                let same = next.as_ref().filter(|(other, _)| other.value() == key);
                visit(key, value.value(), same.map(|(_, other)| other.value()));
            }
            Ok(())
        })
    }

    fn read(&self, read: impl FnOnce(&ReadTransaction) -> Result<(), redb::Error>) -> Result<(), FileError> {
        let Some(database) = &self.database else { return Err(FileError::io(&self.path, &"it is closed")) };
        careful(&self.path, || read(&database.begin_read()?))
    }

    /// Writes all of this or nothing. It is on the disk afterwards.
    pub(super) fn commit(&mut self, records: &Records) -> Result<(), FileError> {
        // After an error the file is opened anew, which brings it back to its last commit.
        let database = match self.database.take() {
            Some(database) => database,
            None => open_existing(&self.path)?,
        };
        try_commit(&database, records).map_err(|error| FileError::io(&self.path, &error))?;
        self.database = Some(database);
        Ok(())
    }

    pub(super) fn close(&mut self) {
        self.database = None;
    }
}

type Table = ReadOnlyTable<&'static str, &'static [u8]>;

/// The table of this kind, if there ever was a record of it.
fn table(transaction: &ReadTransaction, kind: Kind) -> Result<Option<Table>, redb::Error> {
    match transaction.open_table(TableDefinition::new(kind)) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn try_commit(database: &Database, records: &Records) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    let mut kinds: Vec<Kind> = records.iter().map(|(kind, ..)| *kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let mut table = transaction.open_table(TableDefinition::<&str, &[u8]>::new(kind))?;
        for (_, key, value) in records.iter().filter(|(of, ..)| *of == kind) {
            match value {
                Some(value) => table.insert(&**key, &**value)?,
                None => table.remove(&**key)?,
            };
        }
    }
    transaction.commit()?;
    Ok(())
}

fn open_existing(path: &Path) -> Result<Database, FileError> {
    let io_error = |error: io::Error| FileError::io(path, &error);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).map_err(io_error)?;
    // An empty file would be taken for a new one, and everything would be forgotten without a word.
    if file.metadata().map_err(io_error)?.len() == 0 {
        return Err(FileError::unreadable(path, "it is empty"));
    }
    let database =
        careful(path, || Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(FileBackend::new(file)?)?))?;
    let format = careful(path, || {
        let transaction = database.begin_read()?;
        match transaction.open_table(MARK) {
            Ok(table) => Ok(table.get(MARK_KEY)?.map(|value| value.value())),
            Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })?;
    match format {
        Some(FORMAT) => Ok(database),
        Some(newer) if newer > FORMAT => Err(FileError::Newer { path: path.to_owned(), format: newer }),
        _ => Err(FileError::Foreign { path: path.to_owned() }),
    }
}

fn make(path: &Path) -> Result<Database, FileError> {
    let io_error = |error: io::Error| FileError::io(path, &error);
    let draft = path.with_extension("redb.new");
    let file = open_private(&draft).map_err(io_error)?;
    // A draft of a process that was killed is of no use to anybody.
    file.set_len(0).map_err(io_error)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(io_error)?;
    let written = (|| {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(FileBackend::new(file)?)?;
        let transaction = database.begin_write()?;
        transaction.open_table(MARK)?.insert(MARK_KEY, FORMAT)?;
        transaction.commit()?;
        Ok::<_, redb::Error>(database)
    })();
    let database = written.map_err(|error| FileError::io(path, &error))?;
    std::fs::rename(&draft, path).map_err(io_error)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error)?;
    Ok(database)
}
