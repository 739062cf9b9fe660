//! After the last process: reading what the run left, and removing it.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tc_engine::{EngineError, Entry, EntryFault, Fault, Gone, Kind, Quiet};
use tc_sys::{
    beneath::{Root, Status},
    removal::{self, What},
};
use tokio::sync::mpsc;

use crate::{ground::Place, read};

/// How long removing a task directory may take. Millions of files on a slow disk take minutes.
pub(crate) const REMOVAL_BOUND: Duration = Duration::from_secs(30 * 60);
/// How many opened entries may wait for their reader.
const ENTRIES_AHEAD: usize = 4;

/// A run without processes.
pub(crate) struct NativeQuiet {
    place: Place,
    /// What else of the run is still there.
    remains: Option<String>,
}

impl NativeQuiet {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, remains: None }
    }

    pub(crate) fn with_remains(self, remains: String) -> Self {
        Self { remains: Some(remains), ..self }
    }
}

#[async_trait]
impl Quiet for NativeQuiet {
    fn read(&self, path: &str, kind: Kind) -> mpsc::Receiver<Entry> {
        let (send, receive) = mpsc::channel(ENTRIES_AHEAD);
        let (root, task_dir) = (Arc::clone(&self.place.root), self.place.names.task_dir.clone());
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || {
            // A walk that breaks off must not look like one that is complete.
            if catch_unwind(AssertUnwindSafe(|| read::read(&root, &task_dir, &path, kind, &send))).is_err() {
                let fault = EntryFault::Unreadable(std::io::Error::other("the worker failed while reading it"));
                // A receiver that is gone does not want to know.
                drop(send.blocking_send(Entry { relative: String::new(), shown: path, content: Err(fault) }));
            }
        });
        receive
    }

    async fn destroy(self: Box<Self>, keep_files: bool) -> Result<Gone, EngineError> {
        if let Some(remains) = self.remains {
            return Err(EngineError::new(Fault::Worker, remains));
        }
        if keep_files {
            return Ok(Gone::verified());
        }
        let shown = self.place.names.task_dir.display().to_string();
        let removed = tokio::task::spawn_blocking(move || remove(&self.place)).await;
        match removed {
            Ok(Ok(())) => Ok(Gone::verified()),
            Ok(Err(why)) => Err(EngineError::new(Fault::Worker, format!("remove task directory \"{shown}\": {why}"))),
            Err(error) => Err(EngineError::new(Fault::Worker, format!("remove task directory \"{shown}\": {error}"))),
        }
    }
}

/// Removes what has the name of the task directory, and the task directory if the task has given it another name.
fn remove(place: &Place) -> Result<(), String> {
    let deadline = Instant::now() + REMOVAL_BOUND;
    removal::remove(place.parent_fd(), &place.name, What::Everything, deadline).map_err(|left| explain(&left))?;
    let status = Status::of(place.root.as_fd()).map_err(|error| error.to_string())?;
    if status.links == 0 {
        return Ok(());
    }
    remove_moved(&place.root, deadline)
}

/// The task has moved its directory. The kernel still knows where it is.
fn remove_moved(root: &Root, deadline: Instant) -> Result<(), String> {
    use std::os::{fd::AsRawFd, unix::ffi::OsStrExt};
    let moved = "the task has moved it";
    let now = fs::read_link(format!("/proc/self/fd/{}", root.as_fd().as_raw_fd())).map_err(|_| moved)?;
    let (Some(parent), Some(name)) = (now.parent(), now.file_name()) else { return Err(moved.into()) };
    let parent = File::open(parent).map_err(|error| format!("{moved} to \"{}\": {error}", now.display()))?;
    let name = std::ffi::CString::new(name.as_bytes()).map_err(|_| moved)?;
    removal::remove(parent.as_fd(), &name, What::Everything, deadline).map_err(|left| explain(&left))?;
    match Status::of(root.as_fd()) {
        Ok(status) if status.links == 0 => Ok(()),
        _ => Err(moved.into()),
    }
}

pub(crate) fn explain(left: &removal::Left) -> String {
    if left.path.as_os_str().is_empty() {
        left.error.to_string()
    } else {
        format!("\"{}\" in it: {}", left.path.display(), left.error)
    }
}
