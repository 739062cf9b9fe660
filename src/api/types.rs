//! Requests and answers of the queue, as far as a worker uses them. Facts: the queue's API reference, version 1.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Credentials, Secret};

/// Length of a lease whose dates make no sense: the usual claim timeout of deployments.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(1200);

/// How a run is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// `reportCompleted`
    Completed,
    /// `reportFailed`
    Failed,
    /// `reportException`
    Exception(Reason),
}

/// Why a run ended in an exception, in the words of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `malformed-payload`
    MalformedPayload,
    /// `resource-unavailable`
    ResourceUnavailable,
    /// `internal-error`
    InternalError,
    /// `intermittent-task`
    IntermittentTask,
    /// `worker-shutdown`
    WorkerShutdown,
}

impl Reason {
    /// The word that the queue takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MalformedPayload => "malformed-payload",
            Self::ResourceUnavailable => "resource-unavailable",
            Self::InternalError => "internal-error",
            Self::IntermittentTask => "intermittent-task",
            Self::WorkerShutdown => "worker-shutdown",
        }
    }
}

/// A task definition.
#[derive(Debug, Clone)]
pub struct Task {
    /// All of it, in the order in which it was written.
    pub raw: Value,
    /// What the worker is to do.
    pub payload: Value,
    /// What the task may do.
    pub scopes: Vec<String>,
    /// Tasks that it depends on.
    pub dependencies: Vec<String>,
    /// When it was created.
    pub created: Timestamp,
    /// When it has to be resolved.
    pub deadline: Timestamp,
    /// When it is forgotten.
    pub expires: Timestamp,
    /// `<provisionerId>/<workerType>`
    pub task_queue_id: String,
    /// First half of the queue's name.
    pub provisioner_id: String,
    /// Second half of the queue's name.
    pub worker_type: String,
    /// The group it belongs to.
    pub task_group_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTask {
    payload: Value,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    dependencies: Vec<String>,
    created: Timestamp,
    deadline: Timestamp,
    expires: Option<Timestamp>,
    #[serde(default)]
    task_queue_id: String,
    #[serde(default)]
    provisioner_id: String,
    #[serde(default)]
    worker_type: String,
    #[serde(default)]
    task_group_id: String,
}

impl Task {
    /// Reads a definition as the queue gives it.
    pub fn from_json(raw: Value) -> Result<Self, serde_json::Error> {
        let mut task = RawTask::deserialize(&raw)?;
        if task.task_queue_id.is_empty() {
            task.task_queue_id = format!("{}/{}", task.provisioner_id, task.worker_type);
        } else if task.provisioner_id.is_empty()
            && let Some((provisioner, worker_type)) = task.task_queue_id.split_once('/')
        {
            (task.provisioner_id, task.worker_type) = (provisioner.to_owned(), worker_type.to_owned());
        }
        Ok(Self {
            payload: task.payload,
            scopes: task.scopes,
            dependencies: task.dependencies,
            created: task.created,
            deadline: task.deadline,
            expires: task.expires.unwrap_or(task.deadline),
            task_queue_id: task.task_queue_id,
            provisioner_id: task.provisioner_id,
            worker_type: task.worker_type,
            task_group_id: task.task_group_id,
            raw,
        })
    }
}

/// Where a task stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// The task.
    pub task_id: String,
    /// `unscheduled`, `pending`, `running`, `completed`, `failed` or `exception`.
    pub state: String,
    /// Its runs, oldest first.
    #[serde(default)]
    pub runs: Vec<Run>,
}

/// Where a run stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its number.
    pub run_id: u32,
    /// `pending`, `running`, `completed`, `failed` or `exception`.
    pub state: String,
    /// Why it ended.
    pub reason_resolved: Option<String>,
    /// When it was claimed.
    pub started: Option<Timestamp>,
    /// When its claim ends.
    pub taken_until: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawCredentials {
    client_id: String,
    access_token: String,
    certificate: Option<Value>,
}

impl From<RawCredentials> for Credentials {
    fn from(raw: RawCredentials) -> Self {
        let certificate = match raw.certificate {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text).filter(|text| !text.is_empty()),
            Some(object) => Some(object.to_string()),
        };
        Self {
            client_id: raw.client_id,
            access_token: Secret::new(raw.access_token),
            certificate: certificate.map(Secret::new),
        }
    }
}

/// A task that was claimed.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The task.
    pub task_id: String,
    /// Its run.
    pub run_id: u32,
    /// When the claim ends, by the queue's clock.
    pub taken_until: Timestamp,
    /// How long it lasts, by the dates of the answer.
    pub lease: Duration,
    /// The definition.
    pub task: Task,
    /// Where it stands.
    pub status: TaskStatus,
    /// The run's credentials; they end with the claim.
    pub credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawClaim {
    pub(super) status: TaskStatus,
    pub(super) run_id: u32,
    #[serde(default)]
    pub(super) taken_until: Option<Timestamp>,
    #[serde(default)]
    pub(super) task: Value,
    pub(super) credentials: RawCredentials,
}

#[derive(Deserialize)]
pub(super) struct ClaimAnswer {
    pub(super) tasks: Vec<Value>,
}

/// How long a lease lasts, from the dates of the answer that grants it: from `since` until `taken_until`. Dates that make no
/// sense (missing, in the past, in year 1) stand for the usual length.
pub fn lease(taken_until: Option<Timestamp>, since: Option<Timestamp>) -> Duration {
    let length = taken_until.zip(since).and_then(|(until, since)| Duration::try_from(until.duration_since(since)).ok());
    length.filter(|length| *length >= Duration::from_secs(1)).unwrap_or(DEFAULT_LEASE)
}

/// A claim that was renewed.
#[derive(Debug, Clone)]
pub struct Reclaimed {
    /// When it ends now, by the queue's clock.
    pub taken_until: Option<Timestamp>,
    /// How long it lasts from now, if the answer carries a date to compare with.
    pub lease: Option<Duration>,
    /// The run's new credentials.
    pub credentials: Credentials,
}

/// An artifact to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewArtifact {
    /// Bytes that are uploaded to the URL in the answer.
    S3 {
        /// Media type.
        content_type: String,
        /// Bytes without content encoding.
        content_length: u64,
        /// When it is forgotten.
        expires: Timestamp,
    },
    /// Something at another URL.
    Reference {
        /// The URL.
        url: String,
        /// Media type.
        content_type: String,
        /// When it is forgotten.
        expires: Timestamp,
    },
    /// Another artifact of the same run.
    Link {
        /// Its name.
        artifact: String,
        /// Media type.
        content_type: String,
        /// When it is forgotten.
        expires: Timestamp,
    },
    /// The explanation why there is none.
    Error {
        /// A word of the queue's list.
        reason: &'static str,
        /// A sentence, at most 4096 characters.
        message: String,
        /// When it is forgotten.
        expires: Timestamp,
    },
}

/// A date as the services write it: UTC, three digits after the second.
pub fn date(timestamp: Timestamp) -> String {
    format!("{timestamp:.3}")
}

impl NewArtifact {
    /// The body of `createArtifact`.
    pub fn body(&self) -> Value {
        match self {
            Self::S3 { content_type, content_length, expires } => json!({
                "storageType": "s3", "contentType": content_type, "contentLength": content_length, "expires": date(*expires),
            }),
            Self::Reference { url, content_type, expires } => json!({
                "storageType": "reference", "url": url, "contentType": content_type, "expires": date(*expires),
            }),
            Self::Link { artifact, content_type, expires } => json!({
                "storageType": "link", "artifact": artifact, "contentType": content_type, "expires": date(*expires),
            }),
            Self::Error { reason, message, expires } => json!({
                "storageType": "error", "reason": reason,
                "message": message.chars().take(4096).collect::<String>(), "expires": date(*expires),
            }),
        }
    }
}

/// The answer to `createArtifact`.
#[derive(Debug, Clone)]
pub struct ArtifactAnswer {
    /// Where to put the bytes, for [`NewArtifact::S3`].
    pub put_url: Option<Secret>,
    /// The media type to send with them.
    pub content_type: Option<String>,
}
