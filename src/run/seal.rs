//! The log of a run is closed and published.

use std::{fs::File, os::fd::AsRawFd as _, path::Path, sync::Arc};

use tracing::warn;

use super::{
    context::Basics,
    outcome::{Blame, CORE, Findings, Phase, RunError},
};
use crate::{artifact, log::SealedLog};

/// Name and expiry of the log artifact.
pub struct LogArtifact {
    /// The artifact's name.
    pub name: String,
    /// Whether it is published at all.
    pub publish: bool,
}

/// Writes the last lines, closes the log, and publishes it.
pub async fn seal(basics: &Basics, findings: &mut Findings) -> Option<Arc<SealedLog>> {
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
            Some(Arc::new(sealed))
        }
        Err(error) => {
            warn!("Could not close the log of task {}: {error}", basics.task_id);
            findings.add(Phase::Seal, CORE, RunError::new(Blame::Worker, format!("close the task log: {error}")));
            None
        }
    }
}

/// Publishes the closed log.
pub async fn publish(basics: &Basics, sealed: &SealedLog, artifact: &LogArtifact) -> Result<(), RunError> {
    if !artifact.publish {
        return Ok(());
    }
    artifact::publish_log(basics, &artifact.name, sealed).await
}

/// Links the log into the directory of a task that is kept, without following anything that the task may have put there.
pub fn keep(basics: &Basics, task_dir: &Path) {
    let directory = nix::fcntl::open(
        &task_dir.join("generic-worker"),
        nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    );
    let kept = directory.map_err(std::io::Error::from).and_then(|directory| {
        let directory = File::from(directory);
        basics.log.keep_as(&Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join("live_backing.log"))
    });
    if let Err(error) = kept {
        warn!("Could not keep the log of task {} beside its files: {error}", basics.task_id);
    }
}
