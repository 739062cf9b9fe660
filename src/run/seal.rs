//! The log of a run is closed and published.

use std::path::Path;

use tracing::warn;

use super::{
    context::{self, Basics},
    outcome::{Blame, CORE, Findings, Phase, RunError},
};
use crate::{
    artifact::{self, Body, Target, UploadError},
    log::SealedLog,
};

/// Media type of logs.
const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// Name and expiry of the log artifact.
pub struct LogArtifact {
    /// The artifact's name.
    pub name: String,
    /// Whether it is published at all.
    pub publish: bool,
}

/// Writes the last lines, closes the log, and publishes it.
pub async fn seal(basics: &Basics, findings: &mut Findings) -> Option<SealedLog> {
    basics.log.tell_losses();
    for error in findings.others() {
        basics.log.error(&error.message);
    }
    if let Some(error) = findings.deciding() {
        basics.log.error(&error.message);
    }
    match basics.log.seal().await {
        Ok(sealed) => {
            if sealed.lost_bytes > 0 {
                let message = format!("{} bytes of the task log could not be stored", sealed.lost_bytes);
                findings.add(Phase::Seal, CORE, RunError::new(Blame::Service, message));
            }
            Some(sealed)
        }
        Err(error) => {
            warn!("Could not close the log of task {}: {error}", basics.task_id);
            findings.add(Phase::Seal, CORE, RunError::new(Blame::Worker, format!("close the task log: {error}")));
            None
        }
    }
}

/// Publishes the closed log.
pub async fn publish(basics: &Basics, sealed: SealedLog, artifact: &LogArtifact) -> Result<(), RunError> {
    if !artifact.publish {
        return Ok(());
    }
    let body = Body::gzipped(sealed.gzip, sealed.gzip_bytes, sealed.plain_bytes);
    // It is compressed already, which objects cannot say about themselves.
    let target = Target { queue: basics.queue.clone(), task_id: basics.task_id.clone(), run_id: basics.run_id, objects: false };
    let name = &artifact.name;
    match artifact::publish(&target, name, CONTENT_TYPE, basics.task.expires, &body).await {
        Ok(_) => Ok(()),
        Err(UploadError::Refused(error)) => Err(RunError::new(Blame::Payload, format!("publish the task log: {error}"))),
        Err(UploadError::Conflict(_)) => {
            Err(context::explain_conflict(&basics.queue, &basics.task_id, basics.run_id, name).await)
        }
        Err(error) => Err(RunError::new(Blame::Service, format!("publish the task log: {error}"))),
    }
}

/// Gives the log a second name in the directory of a task that is kept.
pub fn keep(basics: &Basics, task_dir: &Path) {
    if let Err(error) = basics.log.keep_as(&task_dir.join("generic-worker/live_backing.log")) {
        warn!("Could not keep the log of task {} beside its files: {error}", basics.task_id);
    }
}
