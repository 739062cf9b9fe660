//! Requests and answers of the queue, as far as a worker uses them. Facts: the queue's API reference, version 1.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ObjectPlace, Secret};

/// When a task has to be resolved whose definition does not say it.
const UNKNOWN_DEADLINE: SignedDuration = SignedDuration::from_hours(24);

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

impl Task {
    /// Reads a definition as the queue gives it. Whatever is missing or no definition has is taken from `status`, which
    /// repeats some of it, or is empty: a claimed task has to be resolved, however odd it is. Dates that are nowhere
    /// count from `now`.
    pub fn read(raw: Value, status: &Value, now: Timestamp) -> Self {
        let text = |key: &str| [&raw, status].into_iter().find_map(|v| v.get(key)?.as_str()).unwrap_or_default().to_owned();
        let date = |key: &str| [&raw, status].into_iter().find_map(|v| read_date(v, key));
        let texts = |key: &str| {
            let list = raw.get(key).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let (mut task_queue_id, mut provisioner_id, mut worker_type) =
            (text("taskQueueId"), text("provisionerId"), text("workerType"));
        if task_queue_id.is_empty() {
            task_queue_id = format!("{provisioner_id}/{worker_type}");
        } else if provisioner_id.is_empty()
            && let Some((provisioner, kind)) = task_queue_id.split_once('/')
        {
            (provisioner_id, worker_type) = (provisioner.to_owned(), kind.to_owned());
        }
        let deadline = date("deadline").unwrap_or_else(|| now.saturating_add(UNKNOWN_DEADLINE).unwrap_or(now));
        Self {
            payload: raw.get("payload").cloned().unwrap_or_default(),
            scopes: texts("scopes"),
            dependencies: texts("dependencies"),
            created: date("created").unwrap_or(now),
            deadline,
            expires: date("expires").unwrap_or(deadline),
            task_queue_id,
            provisioner_id,
            worker_type,
            task_group_id: text("taskGroupId"),
            raw,
        }
    }
}

/// A date in an answer; nothing if it is none.
pub(super) fn read_date(object: &Value, key: &str) -> Option<Timestamp> {
    object.get(key)?.as_str()?.parse().ok()
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
    /// Bytes that are uploaded to the object service.
    Object {
        /// Media type.
        content_type: String,
        /// How many.
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
            Self::Object { content_type, content_length, expires } => json!({
                "storageType": "object", "contentType": content_type, "contentLength": content_length, "expires": date(*expires),
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
    /// What to upload, for [`NewArtifact::Object`].
    pub object: Option<ObjectPlace>,
}

/// An artifact, as the queue lists it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactInfo {
    /// Its name.
    pub name: String,
    /// `s3`, `object`, `reference`, `link` or `error`.
    pub storage_type: String,
    /// Media type.
    pub content_type: String,
    /// When it is forgotten.
    pub expires: Timestamp,
}
