//! The one place that knows which engine there is.

use std::{process::ExitCode, sync::Arc};

use tc_engine::Engine;

use super::problems::Failure;

/// The engine's name, as `--engine` and the reference worker call it.
pub const NAME: &str = "insecure";

/// The engine for native tasks.
pub fn engine() -> Result<Arc<dyn Engine>, Failure> {
    Err(Failure::new(super::INTERNAL_ERROR, "this build has no engine"))
}

/// If the engine has started this program inside of a run, does what it is there for.
pub fn entered_inside_a_run() -> Option<ExitCode> {
    None
}

/// Keeps other processes of the same user, such as tasks, from reading the memory of this one, which holds credentials.
pub fn close_memory_to_others() {}
