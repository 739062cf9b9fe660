//! `status`: which tasks run now, from the file that a running worker keeps.

use super::problems::Failure;
use crate::{
    observe::status,
    seam::{Disk as _, SystemDisk},
};

/// The content of the status file; without one, no worker runs a task.
pub fn text() -> Result<String, Failure> {
    let path = status::path();
    let content = SystemDisk
        .read(&path)
        .map_err(|error| Failure::new(super::INTERNAL_ERROR, "read which tasks run now").because(&error))?;
    Ok(content.map_or_else(|| status::content([]), |bytes| String::from_utf8_lossy(&bytes).into_owned()))
}
