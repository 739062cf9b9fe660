//! What the queue knows of one task: its definition, which never changes, and its runs.
//!
//! ```text
//! unscheduled ──▶ pending ──claim──▶ running ──report──▶ completed | failed | exception
//!                    ▲                  │
//!                    ├──── a new run ◀──┘  claim-expired, worker-shutdown, intermittent-task, while retries are left
//!                    └──── a new run ◀──── rerun of a resolved task, while its deadline has not passed
//! ```
//! A task's state is the state of its last run.

use std::{borrow::Cow, fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Indexing, TaskId, id::Word, shared};

/// A word of the protocol per value, and back.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$value_doc])* #[doc = concat!("`", $word, "`")] $value),+ }

        impl $name {
            /// All values, in their order.
            pub const ALL: &[Self] = &[$(Self::$value),+];

            /// The protocol's word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }

            /// The value for a word of the protocol.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$value),)+ _ => None }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let Word(word) = Word::deserialize(deserializer)?;
                Self::parse(&word).ok_or_else(|| serde::de::Error::custom(format_args!("`{word}` is not known")))
            }
        }
    };
}

words! {
    /// How urgent a task is. The first is claimed first.
    Priority {
        Highest = "highest", VeryHigh = "very-high", High = "high", Medium = "medium", Low = "low", VeryLow = "very-low", Lowest = "lowest",
    }
}

words! {
    /// What has to become of a task's dependencies before it is scheduled.
    Requires { AllCompleted = "all-completed", AllResolved = "all-resolved" }
}

words! {
    /// Where a run stands.
    RunState { Pending = "pending", Running = "running", Completed = "completed", Failed = "failed", Exception = "exception" }
}

words! {
    /// Where a task stands.
    TaskState {
        Unscheduled = "unscheduled", Pending = "pending", Running = "running", Completed = "completed", Failed = "failed", Exception = "exception",
    }
}

words! {
    /// Why a run exists.
    WhyCreated { Scheduled = "scheduled", Retry = "retry", TaskRetry = "task-retry", Rerun = "rerun", Exception = "exception" }
}

words! {
    /// Why a run ended.
    WhyResolved {
        Completed = "completed", Failed = "failed", DeadlineExceeded = "deadline-exceeded", Canceled = "canceled", ClaimExpired = "claim-expired",
        WorkerShutdown = "worker-shutdown", MalformedPayload = "malformed-payload", ResourceUnavailable = "resource-unavailable",
        InternalError = "internal-error", IntermittentTask = "intermittent-task",
    }
}

words! {
    /// Why a worker reports an exception.
    Trouble {
        WorkerShutdown = "worker-shutdown", MalformedPayload = "malformed-payload", ResourceUnavailable = "resource-unavailable",
        InternalError = "internal-error", IntermittentTask = "intermittent-task",
    }
}

impl RunState {
    /// Whether the run has ended.
    pub fn is_resolved(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Exception)
    }
}

impl From<RunState> for TaskState {
    fn from(run: RunState) -> Self {
        match run {
            RunState::Pending => Self::Pending,
            RunState::Running => Self::Running,
            RunState::Completed => Self::Completed,
            RunState::Failed => Self::Failed,
            RunState::Exception => Self::Exception,
        }
    }
}

impl From<Trouble> for WhyResolved {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::WorkerShutdown => Self::WorkerShutdown,
            Trouble::MalformedPayload => Self::MalformedPayload,
            Trouble::ResourceUnavailable => Self::ResourceUnavailable,
            Trouble::InternalError => Self::InternalError,
            Trouble::IntermittentTask => Self::IntermittentTask,
        }
    }
}

/// How a worker reports the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// `reportCompleted`
    Completed,
    /// `reportFailed`
    Failed,
    /// `reportException`
    Exception(Trouble),
}

impl Report {
    /// The state that the run takes, and why.
    pub fn target(self) -> (RunState, WhyResolved) {
        match self {
            Self::Completed => (RunState::Completed, WhyResolved::Completed),
            Self::Failed => (RunState::Failed, WhyResolved::Failed),
            Self::Exception(trouble) => (RunState::Exception, trouble.into()),
        }
    }

    /// Why the queue would make another run after this report, if retries are left.
    pub fn retry(self) -> Option<WhyCreated> {
        match self {
            Self::Exception(Trouble::WorkerShutdown) => Some(WhyCreated::Retry),
            Self::Exception(Trouble::IntermittentTask) => Some(WhyCreated::TaskRetry),
            _ => None,
        }
    }
}

/// A task as its author defined it, with the queue's defaults filled in. Stored once, however many answers show it.
pub struct Definition {
    /// The whole definition as JSON. What follows was taken from it.
    pub json: Box<RawValue>,
    /// `<provisionerId>/<workerType>`
    pub task_queue_id: Arc<str>,
    /// `schedulerId`
    pub scheduler_id: Box<str>,
    /// `projectId`
    pub project_id: Box<str>,
    /// `taskGroupId`
    pub task_group_id: TaskId,
    /// `dependencies`
    pub dependencies: Box<[TaskId]>,
    /// `requires`
    pub requires: Requires,
    /// `priority`
    pub priority: Priority,
    /// `retries`
    pub retries: u32,
    /// `deadline`
    pub deadline: Timestamp,
    /// `expires`
    pub expires: Timestamp,
    /// `scopes`
    pub scopes: Box<[String]>,
    /// `routes`
    pub routes: Box<[String]>,
    /// How it is indexed once it has completed, if any of its routes asks for that.
    pub indexing: Option<Box<Indexing>>,
}

impl Definition {
    /// Both halves of the task queue's id.
    pub fn provisioner_and_worker_type(&self) -> (&str, &str) {
        self.task_queue_id.split_once('/').unwrap_or((&self.task_queue_id, ""))
    }

    /// Whether both say the same, whatever the order of their keys.
    pub fn same(&self, other: &Self) -> bool {
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        let (ours, theirs) = (self.json.get(), other.json.get());
        // Both are written the same way, so another order is no other length, and most that differ need not be read.
        ours == theirs || (ours.len() == theirs.len() && value(ours) == value(theirs))
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition")
            .field("task_queue_id", &self.task_queue_id)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

/// Who claimed a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Worker {
    /// `workerGroup`
    pub group: Box<str>,
    /// `workerId`
    pub id: Box<str>,
}

/// What is only known of a run that was claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Who claimed it.
    #[serde(with = "shared")]
    pub worker: Arc<Worker>,
    /// When it was claimed.
    pub started: Timestamp,
    /// Until when the last claim or reclaim holds.
    pub taken_until: Timestamp,
}

/// One attempt at a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Where it stands.
    pub state: RunState,
    /// Why it exists.
    pub why_created: WhyCreated,
    /// When it was scheduled.
    pub scheduled: Timestamp,
    /// By whom and until when it is or was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Why and when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<(WhyResolved, Timestamp)>,
}

/// A task as it stands at one moment, apart from the queue's books: answers are written from it without holding them up.
#[derive(Debug, Clone)]
pub struct Status {
    /// The task.
    pub task_id: TaskId,
    /// Its definition.
    pub definition: Arc<Definition>,
    /// How urgent it is by now.
    pub priority: Priority,
    /// How many runs may still follow a lost one.
    pub retries_left: u32,
    /// All runs; a run's id is its position.
    pub runs: Vec<Run>,
}

impl Status {
    /// Where the task stands.
    pub fn state(&self) -> TaskState {
        self.runs.last().map_or(TaskState::Unscheduled, |run| run.state.into())
    }

    /// The definition with the priority that the task has by now. Only for a task whose priority was changed this costs more than looking at it.
    pub fn definition_json(&self) -> Cow<'_, RawValue> {
        let json = &self.definition.json;
        if self.priority == self.definition.priority {
            return Cow::Borrowed(json);
        }
        let changed = serde_json::from_str(json.get()).and_then(|mut whole: serde_json::Map<String, serde_json::Value>| {
            whole.insert("priority".to_owned(), self.priority.as_str().into());
            serde_json::value::to_raw_value(&whole)
        });
        // It was made from such a map, so it can be made from one again.
        changed.map_or(Cow::Borrowed(json), Cow::Owned)
    }
}
