//! Why bytes could not be brought.

use tc_engine::{EngineError, Fault};

use crate::api::{ApiError, ErrorKind};

/// Why content could not be brought.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ContentError {
    /// Whose fault it is.
    pub fault: Fault,
    /// A lowercase sentence fragment that names the content.
    pub message: String,
}

impl ContentError {
    /// There is none, it may not be had, or it is not what it has to be.
    pub fn task(message: impl Into<String>) -> Self {
        Self { fault: Fault::Task, message: message.into() }
    }

    /// It could not be reached in spite of all attempts.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { fault: Fault::Resource, message: message.into() }
    }

    /// This worker is broken.
    pub fn worker(message: impl Into<String>) -> Self {
        Self { fault: Fault::Worker, message: message.into() }
    }

    /// What a failed call about `what` means.
    pub fn call(what: &str, error: &ApiError) -> Self {
        let fault = match &error.kind {
            // Credentials of a task are renewed in time; that they are not taken is not its author's fault.
            ErrorKind::Status { status: 401, .. } => Fault::Resource,
            ErrorKind::Status { .. } | ErrorKind::Request(_) if !error.is_temporary() => Fault::Task,
            _ => Fault::Resource,
        };
        Self { fault, message: format!("{what}: {error}") }
    }
}

impl From<ContentError> for EngineError {
    fn from(error: ContentError) -> Self {
        Self::new(error.fault, error.message)
    }
}
