//! Creating a container, also when nobody can say whether it was created.

use std::sync::Arc;

use bollard::{models::ContainerCreateBody, query_parameters::CreateContainerOptionsBuilder};
use tc_engine::{EngineError, Fault, Keep};
use tokio::time::Instant;
use tracing::warn;

use super::{end::describe, refusal::Refusal, removal};
use crate::{connection::Failure, engine::Shared, labels::name_of};

/// How often a container is created in all, when replies are lost, an earlier attempt turns out to have worked, or layers go
/// while the engine unpacks them.
pub(crate) const ATTEMPTS: usize = 3;

/// What came of it.
#[derive(Debug)]
pub(crate) enum Birth {
    /// There is a container with this id.
    Created(String),
    /// The engine does not want to.
    Refused(Refusal),
}

/// Creates the container of a run.
///
/// # Errors
/// [`Fault::Lost`] when the engine went away. There may be a container then.
pub(crate) async fn create(shared: &Shared, run: &str, body: &ContainerCreateBody) -> Result<Birth, EngineError> {
    let name = name_of(run);
    let mut last = None;
    for attempt in 1..=ATTEMPTS {
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let created = shared.connection.docker().create_container(Some(options), body.clone());
        let failure = match shared.connection.call(shared.bounds.create, created).await {
            Ok(created) => return Ok(Birth::Created(created.id)),
            Err(failure) => failure,
        };
        match &failure {
            Failure::Answer { status: 409, message } if message.contains("already in use") => {
                if !is_ours(shared, run, &name).await {
                    return Err(EngineError::new(Fault::Worker, format!("create container {name}: {message}")));
                }
            }
            // What it has of the layers may have been taken by a collection just then. Nothing was made.
            Failure::Answer { message, .. } if is_about_layers(message) && attempt < ATTEMPTS => continue,
            Failure::Answer { message, .. } if is_about_layers(message) || is_about_missing_image(message) => {
                return Err(EngineError::new(Fault::Resource, format!("the image was removed before it was used: {message}")));
            }
            // Another engine than the one that the version was agreed on with. Nothing was made.
            failure if failure.is_about_version() => {
                shared.connection.negotiate().await.map_err(|failure| failure.because(Fault::Lost, "create a container"))?;
                continue;
            }
            Failure::Answer { message, .. } => return Ok(Birth::Refused(Refusal::new(message))),
            Failure::Unreachable { .. } => return Err(failure.because(Fault::Lost, "create a container")),
            Failure::Broken(_) | Failure::TimedOut(_) | Failure::Garbage(_) => {}
        }
        // It may be there, or come into being while we ask: what is there is removed, and if it comes later, the next
        // attempt, the end of the run, or a sweep finds it by its name and labels.
        warn!("Creating container {name} failed and may have worked all the same: {failure}");
        let deadline = Instant::now() + shared.bounds.kill;
        if let Err(left) = removal::container(shared, &name, deadline).await {
            return Err(EngineError::new(Fault::Lost, format!("create a container: {failure}; {left}")));
        }
        if matches!(failure, Failure::TimedOut(_)) {
            return Err(failure.because(Fault::Lost, "create a container"));
        }
        last = Some(failure);
    }
    let last = last.map_or_else(String::new, |failure| failure.to_string());
    Err(EngineError::new(Fault::Lost, format!("create a container: {last}")))
}

/// Whether the engine misses the image or a part of it, which it was found to have. That is nothing the task could help.
fn is_about_missing_image(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["no such image", "failed to read config content"].iter().any(|text| message.contains(text))
}

/// Whether it could not unpack the image's layers, which it does with containerd's store if it has them only as they came.
fn is_about_layers(message: &str) -> bool {
    message.contains("apply layer error")
}

/// Whether what has the name is of this worker: of an attempt whose reply was lost, or of a process that is dead.
async fn is_ours(shared: &Shared, run: &str, name: &str) -> bool {
    match describe(&shared.connection, shared.bounds.call, name).await {
        Ok(found) => {
            let labels = found.config.labels.unwrap_or_default();
            // The run is only now being made, so it has nothing yet that is to be kept.
            let nothing: Keep = Arc::new(|_| false);
            shared.owner.leftover(&shared.owner.worker, name, &labels, &nothing) == Some(run)
        }
        Err(failure) => failure.is_missing(),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_about_layers, is_about_missing_image};

    #[test]
    fn an_image_that_lost_a_part_is_not_the_tasks_fault() {
        for message in [
            "No such image: sha256:515e",
            "failed to read config content: NotFound: content digest sha256:6524: not found",
            "apply layer error for \"\": failed to extract layer sha256:d672: NotFound: failed to get reader from content store",
        ] {
            assert!(is_about_missing_image(message) || is_about_layers(message), "{message}");
        }
        let other = "invalid mount config for type \"bind\": bind source path does not exist: /image";
        assert!(!is_about_missing_image(other) && !is_about_layers(other));
    }
}
