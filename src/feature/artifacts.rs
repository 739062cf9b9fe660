//! `payload.artifacts`: published once the task is quiet.

use async_trait::async_trait;
use jiff::SignedDuration;
use tc_engine::Quiet;
use tracing::info;

use super::table::Part;
use crate::{
    artifact::{self, Ending, Surroundings, Target, UploadError},
    run::{
        context::RunContext,
        outcome::{Blame, Phase, RunError},
    },
};

/// An expiry may be off by this much, for clocks that round.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(1);

/// Publishes what the payload names.
pub struct Artifacts;

#[async_trait]
impl Part<RunContext> for Artifacts {
    fn name(&self) -> &'static str {
        "Artifacts"
    }

    fn stops_in(&self) -> Phase {
        Phase::Collect
    }

    fn admit(&self, cx: &RunContext) -> Result<(), RunError> {
        let mut problems = Vec::new();
        for spec in &cx.payload.artifacts {
            let Some(expires) = spec.expires else { continue };
            let name = spec.published_name();
            if expires < cx.task.deadline - TOLERANCE {
                problems
                    .push(format!("artifact {name:?} expires before task deadline ({expires} is before {})", cx.task.deadline));
            } else if expires > cx.task.expires + TOLERANCE {
                problems.push(format!("artifact {name:?} expires after task expiry ({expires} is after {})", cx.task.expires));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(RunError::new(Blame::Payload, problems.join("\n"))) }
    }

    async fn stop(&self, cx: &RunContext, quiet: Option<&dyn Quiet>) -> Vec<RunError> {
        let Some(quiet) = quiet else { return Vec::new() };
        let target = Target { queue: cx.queue.clone(), task_id: cx.task_id.clone(), run_id: cx.run_id };
        let is_taken = |name: &str| {
            let taken = cx.reserved_names().iter().find(|(reserved, _)| reserved == name);
            if let Some((_, owner)) = taken {
                cx.log.warn(&format!(
                    "Not uploading artifact {name} found in task.payload.artifacts section, \
                     since this will be uploaded later by {owner}"
                ));
            }
            taken.is_some()
        };
        let surroundings = Surroundings {
            target: &target,
            expires: cx.task.expires,
            spool_dir: cx.shop.spool_dir.clone(),
            is_taken: &is_taken,
        };
        let collected = artifact::collect(quiet, &cx.payload.artifacts, &surroundings).await;
        let (mut failures, mut missing) = (Vec::new(), Vec::new());
        let mut refused = None;
        for row in collected.rows {
            let name = &row.name;
            let failure = match row.ending {
                Ending::Uploaded { .. } => {
                    info!("Uploaded artifact {name} of task {}", cx.task_id);
                    continue;
                }
                Ending::Failed(failure) => failure,
                Ending::Missing { reason, message, failure } => {
                    let line = format!(
                        "Uploading error artifact {name} from file {} with message {message:?}, reason {reason:?} and expiry {}",
                        row.path, row.expires
                    );
                    info!("{line} (task {})", cx.task_id);
                    if row.optional {
                        continue;
                    }
                    cx.log.error(&line);
                    let message = format!("TASK FAILURE during artifact upload: {reason}: {message}");
                    missing.push(RunError::new(Blame::Task, message));
                    match failure {
                        Some(failure) => failure,
                        None => continue,
                    }
                }
            };
            info!("Artifact {name} of task {} was not uploaded: {failure}", cx.task_id);
            if !row.optional {
                failures.push(explain(cx, name, failure, &mut refused).await);
            }
        }
        failures.extend(missing);
        failures
    }
}

/// What a failed upload means for the run. The queue is asked about the first refusal only; the others have the same reason.
async fn explain(cx: &RunContext, name: &str, failure: UploadError, refused: &mut Option<RunError>) -> RunError {
    match failure {
        UploadError::Conflict(_) => match refused {
            Some(before) => before.clone(),
            None => refused.insert(cx.explain_conflict(name).await).clone(),
        },
        UploadError::Refused(error) => RunError::new(Blame::Payload, format!("Error uploading artifact: {name}: {error}")),
        UploadError::Service(why) => RunError::new(Blame::Service, format!("Error uploading artifact: {name}: {why}")),
        UploadError::Changed(why) => RunError::new(Blame::Task, format!("Error uploading artifact: {name}: {why}")),
    }
}
