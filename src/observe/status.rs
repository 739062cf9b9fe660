//! `worker-status.json`: which tasks run now, in the shape that the reference writes.

use std::{collections::BTreeSet, io, path::PathBuf};

use crate::seam::{Disk, Lasting};

/// Where the file is: the same place as the reference's, so that `status` of either finds it.
pub fn path() -> PathBuf {
    std::env::temp_dir().join("worker-status.json")
}

/// What stands in the way of further tasks, each with the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing<'a> {
    /// Nothing.
    Claiming,
    /// No task is taken.
    NotClaiming(&'a str),
    /// No task for a container is taken.
    NativeOnly(&'a str),
}

/// The file's content for these tasks, and for what keeps the worker from taking more. The latter is ours; readers of the
/// reference's file do not look at it.
pub fn content<'a>(task_ids: impl IntoIterator<Item = &'a str>, standing: Standing<'_>) -> String {
    let ids: Vec<&str> = task_ids.into_iter().collect();
    let mut status = serde_json::json!({ "currentTaskIds": ids });
    match standing {
        Standing::Claiming => {}
        Standing::NotClaiming(why) => status["notClaiming"] = why.into(),
        Standing::NativeOnly(why) => status["nativeTasksOnly"] = why.into(),
    }
    format!("{status:#}\n")
}

/// Writes the file, or removes it when nothing runs and nothing is in the way.
pub fn write(disk: &dyn Disk, path: &std::path::Path, task_ids: &BTreeSet<String>, standing: Standing<'_>) -> io::Result<()> {
    if task_ids.is_empty() && standing == Standing::Claiming {
        return disk.remove(path);
    }
    disk.replace(path, content(task_ids.iter().map(String::as_str), standing).as_bytes(), 0o644, Lasting::Process)
}
