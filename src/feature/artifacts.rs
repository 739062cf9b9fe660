//! `payload.artifacts`: published once the task is quiet.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tc_engine::Quiet;
use tc_payload::native::ArtifactSpec;
use tracing::info;

use super::table::Part;
use crate::{
    artifact::{self, Ending, Surroundings, Target, UploadError},
    log::format::one_line,
    run::{
        context::{CommandsState, RunContext},
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
        let task = &cx.task;
        let sentence = |spec: &ArtifactSpec| {
            let (name, expires) = (spec.published_name(), spec.expires?);
            match untimely(expires, task.deadline, task.expires)? {
                Untimely::BeforeDeadline => {
                    Some(format!("artifact {name:?} expires before task deadline ({expires} is before {})", task.deadline))
                }
                Untimely::AfterTask => {
                    Some(format!("artifact {name:?} expires after task expiry ({expires} is after {})", task.expires))
                }
            }
        };
        let problems: Vec<String> = cx.payload.artifacts.iter().filter_map(sentence).collect();
        if problems.is_empty() { Ok(()) } else { Err(RunError::new(Blame::Payload, problems.join("\n"))) }
    }

    async fn stop(&self, cx: &RunContext, quiet: Option<&dyn Quiet>) -> Vec<RunError> {
        let Some(quiet) = quiet else { return Vec::new() };
        if cx.container.is_some() && cx.commands_state() == CommandsState::NotStarted {
            // There was no container in which anything could be; why is the task's error, and enough to say.
            return Vec::new();
        }
        let objects = cx.shop.config.create_object_artifacts;
        let target = Target { queue: cx.queue.clone(), task_id: cx.task_id.clone(), run_id: cx.run_id, objects };
        let is_taken = |name: &str| {
            let taken = cx.reserved_names().iter().find(|(reserved, _)| reserved == name);
            if let Some((_, owner)) = taken {
                let name = one_line(name);
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
            // Names and paths are the task's own.
            let (name, path) = (&*one_line(&row.name), &*one_line(&row.path));
            let failure = match row.ending {
                Ending::Uploaded { .. } => {
                    info!("Uploaded artifact {name} of task {}", cx.task_id);
                    continue;
                }
                Ending::Failed(failure) => failure,
                // The error artifact has the name that is refused.
                Ending::Missing { failure: Some(failure), .. } if is_unnameable(cx, row.is_found, &failure) => failure,
                Ending::Missing { reason, message, failure } => {
                    let line = format!(
                        "Uploading error artifact {name} from file {path} with message {message:?}, reason {reason:?} and expiry {}",
                        row.expires
                    );
                    info!("{line} (task {})", cx.task_id);
                    if cx.container.is_some() {
                        cx.log.warn(&absence(&row.name, &row.path, reason, row.is_found.then_some(message.as_str())));
                        continue;
                    }
                    if row.optional {
                        continue;
                    }
                    cx.log.error(&line);
                    let message = format!("TASK FAILURE during artifact upload: {reason}: {message}");
                    missing.push(RunError::new(Blame::Task, one_line(&message)));
                    match failure {
                        Some(failure) => failure,
                        None => continue,
                    }
                }
            };
            info!("Artifact {name} of task {} was not uploaded: {failure}", cx.task_id);
            if is_unnameable(cx, row.is_found, &failure) {
                cx.log.warn(&format!("Artifact {:?} was not uploaded: the queue takes no artifact of this name", row.name));
                continue;
            }
            // What a container has left may be missing, but not be lost on its way.
            if !row.optional || cx.container.is_some() {
                failures.push(explain(cx, &row.name, failure, &mut refused).await);
            }
        }
        failures.extend(missing);
        failures
    }
}

/// Whether a container has left a file in a directory whose name can be none of an artifact. The payload has not chosen it, and
/// everything that a container leaves is optional.
fn is_unnameable(cx: &RunContext, is_found: bool, failure: &UploadError) -> bool {
    cx.container.is_some() && is_found && matches!(failure, UploadError::Refused(_))
}

/// Why an artifact cannot expire when it is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untimely {
    /// It would be gone while its task may still run.
    BeforeDeadline,
    /// It would outlive its task.
    AfterTask,
}

/// Whether an artifact cannot expire at this time.
pub fn untimely(expires: Timestamp, deadline: Timestamp, task_expires: Timestamp) -> Option<Untimely> {
    if expires < deadline - TOLERANCE {
        return Some(Untimely::BeforeDeadline);
    }
    (expires > task_expires + TOLERANCE).then_some(Untimely::AfterTask)
}

/// Says that a container has left no such artifact. Every artifact of a container task is optional, so programs that search
/// logs for what made a task fail must find nothing in this line: neither their words nor an engine's message.
///
/// `found` is the text of the error artifact for something in a directory, of which the payload has said nothing.
fn absence(name: &str, path: &str, reason: &str, found: Option<&str>) -> String {
    if let Some(text) = found.filter(|_| reason == "invalid-resource-on-worker") {
        return format!("Artifact {name:?} was not uploaded: {}", text.replace(char::is_control, " "));
    }
    let what = match reason {
        "file-missing-on-worker" => "there is nothing at",
        "invalid-resource-on-worker" => "what the payload calls it is not what is at",
        _ => "nothing could be read from",
    };
    format!("Artifact {name:?} was not uploaded: {what} {path:?} in the container")
}

/// What a failed upload means for the run. The queue is asked about the first refusal only; the others have the same reason.
async fn explain(cx: &RunContext, name: &str, failure: UploadError, refused: &mut Option<RunError>) -> RunError {
    let shown = one_line(name);
    match failure {
        UploadError::Conflict(_) => match refused {
            Some(before) => before.clone(),
            None => refused.insert(cx.explain_conflict(name).await).clone(),
        },
        UploadError::Refused(error) => RunError::new(Blame::Payload, format!("Error uploading artifact: {shown}: {error}")),
        UploadError::Service(why) => RunError::new(Blame::Service, format!("Error uploading artifact: {shown}: {why}")),
        UploadError::Changed(why) => RunError::new(Blame::Task, format!("Error uploading artifact: {shown}: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::absence;

    /// What log parsers of deployments take for the reason of a failure, as far as it is text.
    const SUSPICIOUS: &[&str] = &[
        ": error:",
        "fatal error",
        "FATAL ERROR",
        "TEST-UNEXPECTED-",
        "PROCESS-CRASH",
        "Assertion failure:",
        "Automation Error:",
        "Traceback (most recent call last)",
        "command timed out:",
        "REFTEST ERROR",
        "DMError",
        " error(",
        " error C",
        " error R",
        "wget: unable ",
    ];

    /// Whether a parser takes the line for the reason of a failure.
    fn is_flagged(line: &str) -> bool {
        let line: String = line.chars().take(500).collect();
        let words: Vec<&str> = line.split(' ').collect();
        // `[…:error]`, `[…:exception]`
        let tagged = line.starts_with('[')
            && line.split(']').next().is_some_and(|tag| tag.ends_with(":error") || tag.ends_with(":exception"));
        // `…Error: `
        let named =
            words[0].strip_suffix("Error:").is_some_and(|name| name.chars().all(|c| c.is_ascii_alphabetic() || c == '.'));
        // `ERROR 404:`
        let coded = words
            .windows(2)
            .any(|pair| pair[0].ends_with("ERROR") && pair[1].starts_with(['4', '5']) && pair[1].chars().nth(3) == Some(':'));
        tagged || named || coded || SUSPICIOUS.iter().any(|text| line.contains(text))
    }

    #[test]
    fn an_artifact_that_is_missing_is_told_so_that_no_parser_takes_it_for_a_failure() {
        for flagged in ["[taskcluster:error] x", "a.c:1: error: x", "ERROR 404: x", "foo.BarError: x", "x fatal error"] {
            assert!(is_flagged(flagged), "{flagged}");
        }
        for reason in ["file-missing-on-worker", "invalid-resource-on-worker", "file-not-readable-on-worker", "new"] {
            for (name, path) in [
                ("public/target.zip", "/builds/worker/artifacts/target.zip"),
                ("public/test_info/x_errorsummary.log", "/builds/worker/blobber/x_errorsummary.log"),
                ("Error: x\n[taskcluster:error] y", "/error\nValueError: z"),
            ] {
                let own = format!("Could not read file '{path}': it is a FIFO, which has no content to upload");
                for line in [absence(name, path, reason, None), absence(name, path, reason, Some(&own))] {
                    assert!(line.contains("Artifact") && line.contains(path.split('\n').next().unwrap_or(path)), "{line}");
                    assert!(!line.contains('\n'), "one line: {line}");
                    for line in [
                        line.clone(),
                        format!("[taskcluster:warn] {line}"),
                        format!("[taskcluster:warn 2026-01-01T00:00:00.000Z] {line}"),
                    ] {
                        assert!(!is_flagged(&line), "{line}");
                    }
                }
            }
        }
    }
}
