//! The order to start a container, given until it is known what came of it or until it is withdrawn.
//!
//! ```text
//!                 no reply, and the container was not started
//!              ┌────────────────────────────────────────────┐
//!              ▼                                            │
//! give ─▶ under way ──▶ obeyed, refused, lost         withdrawn ─▶ not given again
//! ```
//!
//! An order that has left cannot be called back: whoever gives up on it has to see to it that the container cannot start any
//! more, see `death`. Dropping it closes its connection.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bollard::query_parameters::StartContainerOptions;
use tc_engine::{EngineError, Fault};
use tokio::task::JoinHandle;

use super::{end::describe, refusal::Refusal};
use crate::{connection::Failure, engine::Shared};

/// How often a container is told to start when nobody can say whether it heard that.
const ATTEMPTS: usize = 3;

/// What became of an order to start. After an error the container may start later.
pub(crate) type Started = Result<Option<Refusal>, EngineError>;

/// An order that is under way.
#[derive(Debug)]
pub(crate) struct Order {
    task: JoinHandle<Started>,
    withdrawn: Arc<AtomicBool>,
}

impl Order {
    /// Tells the engine to start a container.
    pub(crate) fn give(shared: Arc<Shared>, id: String) -> Self {
        let withdrawn = Arc::new(AtomicBool::new(false));
        Self { task: tokio::spawn(give(shared, id, Arc::clone(&withdrawn))), withdrawn }
    }

    /// From now on it is not given again.
    pub(crate) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::SeqCst);
    }

    /// Waits for what becomes of it. May be dropped and called again until it has answered.
    pub(crate) async fn came(&mut self) -> Started {
        let came = (&mut self.task).await;
        came.unwrap_or_else(|error| Err(EngineError::new(Fault::Worker, format!("start the container: {error}"))))
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a container, and finds out whether it was started when the reply is lost.
async fn give(shared: Arc<Shared>, id: String, withdrawn: Arc<AtomicBool>) -> Started {
    let lost = |why: &str| Err(EngineError::new(Fault::Lost, format!("start the container: {why}")));
    let mut trouble = String::new();
    for _attempt in 0..ATTEMPTS {
        if withdrawn.load(Ordering::SeqCst) {
            return lost("the run was given up");
        }
        let started = shared.connection.docker().start_container(&id, None::<StartContainerOptions>);
        let failure = match shared.connection.call(shared.bounds.start, started).await {
            Ok(()) => return Ok(None),
            Err(failure) => failure,
        };
        match &failure {
            Failure::Answer { message, .. } => return Ok(Some(Refusal::new(message))),
            Failure::Unreachable { .. } => return lost(&failure.to_string()),
            _ => {}
        }
        match describe(&shared.connection, shared.bounds.call, &id).await {
            Ok(found) if found.state.is_unborn() => trouble = failure.to_string(),
            Ok(_) => return Ok(None),
            Err(unknown) => return lost(&format!("{failure}; {unknown}")),
        }
    }
    lost(&trouble)
}
