//! `status`: which tasks run now, from the file that a running worker keeps.

use super::problems::Failure;
use crate::{
    observe::status::{self, Standing},
    seam::{Disk as _, SystemDisk},
};

/// The exit code when the file is there and cannot be read.
const CANNOT_READ: u8 = 84;

/// The content of the status file; without one, no worker runs a task.
pub fn text() -> Result<String, Failure> {
    let path = status::path();
    let content = SystemDisk.read(&path).map_err(|error| {
        Failure::new(CANNOT_READ, format!("read which tasks run now from \"{}\"", path.display())).because(&error)
    })?;
    Ok(content.map_or_else(|| status::content([], Standing::Claiming), |bytes| String::from_utf8_lossy(&bytes).into_owned()))
}
