//! Ending a container, and the proof that nothing of it runs or will run.

use tc_engine::{EngineError, Fault};
use tokio::time::Instant;
use tracing::warn;

use bollard::query_parameters::KillContainerOptionsBuilder;

use super::{
    end::describe,
    removal::{self, Patience},
};
use crate::{connection::Failure, engine::Shared};

/// How a container is known to be dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dead {
    /// It is there, and does not run.
    Ended,
    /// It is not there.
    Removed,
}

/// Sends SIGKILL until the engine says that this was done or is not needed.
pub(crate) async fn kill(shared: &Shared, container: &str, deadline: Instant) {
    let mut patience = Patience::until(shared, deadline);
    loop {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let killed = shared.connection.docker().kill_container(container, Some(options));
        match shared.connection.call(shared.bounds.call, killed).await {
            // Not there, or it does not run: the aim is reached.
            Ok(()) | Err(Failure::Answer { status: 404 | 409, .. }) => return,
            Err(failure) => {
                if !patience.wait().await {
                    warn!("Container {container} could not be killed: {failure}");
                    return;
                }
            }
        }
    }
}

/// Waits until the engine says that the container does not run.
///
/// With `may_start` an order to start is somewhere on its way. It finds a container that was never started until that is
/// removed, which loses nothing: no command has run in it.
///
/// # Errors
/// [`Fault::Worker`] when that cannot be had in time.
pub(crate) async fn verify(shared: &Shared, name: &str, may_start: bool) -> Result<Dead, EngineError> {
    // As long as it takes an engine to be restarted.
    let deadline = Instant::now() + shared.bounds.kill;
    let mut patience = Patience::until(shared, deadline);
    loop {
        let last = match describe(&shared.connection, shared.bounds.call, name).await {
            Err(failure) if failure.is_missing() => return Ok(Dead::Removed),
            Ok(found) if found.state.is_unborn() && may_start => match removal::container(shared, name, deadline).await {
                Ok(()) => return Ok(Dead::Removed),
                Err(why) => why,
            },
            Ok(found) if found.state.is_over() => return Ok(Dead::Ended),
            Ok(found) => {
                kill(shared, name, deadline).await;
                format!("it is {}", found.state.status)
            }
            Err(failure) => failure.to_string(),
        };
        if !patience.wait().await {
            return Err(EngineError::new(Fault::Worker, format!("container {name} could not be ended: {last}")));
        }
    }
}
