//! The one place that knows which engine there is.

use std::{process::ExitCode, sync::Arc};

use tc_engine::Engine;
use tc_engine_native::{Containment, NativeEngine, NativeOptions, REAPER_COMMAND};

use super::problems::Failure;

/// The engine's name, as `--engine` and the reference worker call it.
pub const NAME: &str = "insecure";

/// This program, even after its file was replaced by a newer one.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The engine for native tasks.
pub fn engine() -> Result<Arc<dyn Engine>, Failure> {
    let options = NativeOptions { reaper_program: THIS_PROGRAM.into(), containment: Containment::Detect };
    let engine = NativeEngine::new(options)
        .map_err(|error| Failure::new(super::INTERNAL_ERROR, "prepare this machine for running tasks").because(&error))?;
    tracing::info!("Tasks run as the current user; their processes are ended with {}", engine.containment());
    Ok(Arc::new(engine))
}

/// If the engine has started this program inside of a run, does what it is there for.
pub fn entered_inside_a_run() -> Option<ExitCode> {
    std::env::args_os().nth(1).is_some_and(|argument| argument == REAPER_COMMAND).then(tc_engine_native::reaper_main)
}

/// Keeps other processes of the same user, such as tasks, from reading the memory of this one, which holds credentials.
pub fn close_memory_to_others() {
    if let Err(error) = tc_sys::process::make_undumpable() {
        super::problems::say(&format!("warning: other processes of this user can read the memory of this one: {error}"));
    }
}
