//! The directory of a run on the host: what the worker keeps there, not what the task sees.

use std::{
    ffi::CString,
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
    time::Instant,
};

use tc_engine::{EngineError, Fault};
use tc_sys::removal::{self, What};

use crate::engine::Bounds;

/// The directory in it for the worker's own files. Its lock tells every sweep that the run is alive, as with native tasks.
const WORKER_DIR: &str = "generic-worker";

/// A task directory that this process has made.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Where files may lie that are on their way.
    pub(crate) fn spool(&self) -> PathBuf {
        self.path.join(WORKER_DIR)
    }

    /// Makes it, readable for nobody else. Blocks.
    pub(crate) fn make(path: &Path) -> Result<Self, EngineError> {
        Self::try_make(path).map_err(|error| {
            let fault = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Resource,
                _ => Fault::Worker,
            };
            EngineError::new(fault, format!("make task directory \"{}\": {error}", path.display()))
        })
    }

    fn try_make(path: &Path) -> io::Result<Self> {
        let private = |path: &Path| DirBuilder::new().mode(0o700).create(path);
        private(path).or_else(|error| match (error.kind(), path.parent()) {
            (io::ErrorKind::NotFound, Some(parent)) => fs::create_dir_all(parent).and_then(|()| private(path)),
            _ => Err(error),
        })?;
        let locked = (|| {
            let own = path.join(WORKER_DIR);
            private(&own)?;
            let lock = File::open(&own)?;
            lock.try_lock().map_err(io::Error::from)?;
            Ok(lock)
        })();
        match locked {
            Ok(lock) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(error) => {
                // It was made a moment ago and nobody has used it.
                drop(fs::remove_dir_all(path));
                Err(error)
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with everything in it. Blocks.
    pub(crate) fn remove(self, bounds: &Bounds) -> Result<(), String> {
        let explained = |why: String| format!("remove task directory \"{}\": {why}", self.path.display());
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(()) };
        let name = CString::new(name.as_bytes()).map_err(|error| explained(error.to_string()))?;
        let parent = match File::open(parent) {
            Ok(parent) => parent,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(explained(error.to_string())),
        };
        removal::remove(parent.as_fd(), &name, What::Everything, Instant::now() + bounds.directory).map_err(|left| {
            if left.path.as_os_str().is_empty() {
                explained(left.error.to_string())
            } else {
                explained(format!("\"{}\" in it: {}", left.path.display(), left.error))
            }
        })
    }
}
