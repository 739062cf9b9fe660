//! `worker-status.json`: which tasks run now, in the shape that the reference writes.

use std::{collections::BTreeSet, io, path::PathBuf};

use crate::seam::{Disk, Lasting};

/// Where the file is: the same place as the reference's, so that `status` of either finds it.
pub fn path() -> PathBuf {
    std::env::temp_dir().join("worker-status.json")
}

/// The file's content for these tasks.
pub fn content<'a>(task_ids: impl IntoIterator<Item = &'a str>) -> String {
    let ids: Vec<&str> = task_ids.into_iter().collect();
    let status = serde_json::json!({ "currentTaskIds": ids });
    format!("{status:#}\n")
}

/// Writes the file, or removes it when nothing runs.
pub fn write(disk: &dyn Disk, path: &std::path::Path, task_ids: &BTreeSet<String>) -> io::Result<()> {
    if task_ids.is_empty() {
        return disk.remove(path);
    }
    disk.replace(path, content(task_ids.iter().map(String::as_str)).as_bytes(), 0o644, Lasting::Process)
}
