//! The books as the API shows them.

use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::value::RawValue;

use super::{
    auth::TemporaryCredentials,
    state::{Artifact, Claim, Run, Status, Storage},
};

/// A date as the services write it: UTC, three digits after the second.
pub(crate) struct Date(pub(crate) Timestamp);

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.3}", self.0))
    }
}

/// `{"status": …}`
#[derive(Serialize)]
pub(crate) struct StatusAnswer<'a> {
    pub(crate) status: StatusView<'a>,
}

/// A task's status.
pub(crate) struct StatusView<'a>(pub(crate) &'a Status);

impl Serialize for StatusView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let status = self.0;
        let definition = &status.definition;
        let (provisioner_id, worker_type) = definition.provisioner_and_worker_type();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("taskId", status.task_id.as_str())?;
        map.serialize_entry("provisionerId", provisioner_id)?;
        map.serialize_entry("workerType", worker_type)?;
        map.serialize_entry("taskQueueId", &*definition.task_queue_id)?;
        map.serialize_entry("schedulerId", &definition.scheduler_id)?;
        map.serialize_entry("projectId", &definition.project_id)?;
        map.serialize_entry("taskGroupId", definition.task_group_id.as_str())?;
        map.serialize_entry("priority", definition.priority.as_str())?;
        map.serialize_entry("deadline", &Date(definition.deadline))?;
        map.serialize_entry("expires", &Date(definition.expires))?;
        map.serialize_entry("retriesLeft", &status.retries_left)?;
        map.serialize_entry("state", status.state().as_str())?;
        let runs: Vec<_> = status.runs.iter().enumerate().map(|(id, run)| RunView(id, run)).collect();
        map.serialize_entry("runs", &runs)?;
        map.end()
    }
}

struct RunView<'a>(usize, &'a Run);

impl Serialize for RunView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(id, run) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("runId", id)?;
        map.serialize_entry("state", run.state.as_str())?;
        map.serialize_entry("reasonCreated", run.why_created.as_str())?;
        map.serialize_entry("scheduled", &Date(run.scheduled))?;
        if let Some(hold) = &run.hold {
            map.serialize_entry("workerGroup", &hold.worker.group)?;
            map.serialize_entry("workerId", &hold.worker.id)?;
            map.serialize_entry("takenUntil", &Date(hold.taken_until))?;
            map.serialize_entry("started", &Date(hold.started))?;
        }
        if let Some((why, at)) = &run.resolved {
            map.serialize_entry("reasonResolved", why.as_str())?;
            map.serialize_entry("resolved", &Date(*at))?;
        }
        map.end()
    }
}

/// What a worker gets for a claim, or, without the task, for a reclaim.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClaimView<'a> {
    status: StatusView<'a>,
    run_id: u32,
    worker_group: &'a str,
    worker_id: &'a str,
    taken_until: Date,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a RawValue>,
    credentials: TemporaryCredentials,
}

impl<'a> ClaimView<'a> {
    pub(crate) fn claimed(claim: &'a Claim, credentials: TemporaryCredentials) -> Self {
        Self { task: Some(&claim.status.definition.json), ..Self::reclaimed(claim, credentials) }
    }

    pub(crate) fn reclaimed(claim: &'a Claim, credentials: TemporaryCredentials) -> Self {
        Self {
            status: StatusView(&claim.status),
            run_id: claim.run_id,
            worker_group: &claim.worker.group,
            worker_id: &claim.worker.id,
            taken_until: Date(claim.taken_until),
            task: None,
            credentials,
        }
    }
}

/// `{"tasks": […]}`
#[derive(Serialize)]
pub(crate) struct Claims<'a> {
    pub(crate) tasks: Vec<ClaimView<'a>>,
}

/// A task of `statuses`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusOf<'a> {
    pub(crate) task_id: &'a str,
    pub(crate) status: StatusView<'a>,
}

/// A task of `tasks`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskOf<'a> {
    pub(crate) task_id: &'a str,
    pub(crate) task: &'a RawValue,
}

/// An artifact in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ArtifactView<'a> {
    storage_type: &'static str,
    name: &'a str,
    expires: Date,
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_length: Option<u64>,
}

impl<'a> ArtifactView<'a> {
    pub(crate) fn new(name: &'a str, artifact: &'a Artifact) -> Self {
        let content_length = match artifact.storage {
            Storage::S3 { content_length, .. } | Storage::Object { content_length, .. } => content_length,
            _ => None,
        };
        Self {
            storage_type: artifact.storage.type_name(),
            name,
            expires: Date(artifact.expires),
            content_type: &artifact.content_type,
            content_length,
        }
    }
}
