//! Shapes of answers: which fields there are, which may be missing, and what kind of value each has. A field that is not named is wrong.

use super::*;

pub(super) enum Shape {
    Text,
    Id,
    Date,
    Count,
    Anything,
    Word(&'static [&'static str]),
    Several(&'static Shape),
    /// Names of fields; those that may be missing end in a question mark.
    Fields(&'static [(&'static str, Shape)]),
}

use Shape::{Anything, Count, Date, Fields, Id, Several, Text, Word};

/// Panics with the place where the value has another shape.
pub(super) fn assert_shape(value: &Value, shape: &Shape) {
    let mut wrong = Vec::new();
    look(value, shape, "", &mut wrong);
    assert!(wrong.is_empty(), "{wrong:?} in {value:#}");
}

fn look(value: &Value, shape: &Shape, place: &str, wrong: &mut Vec<String>) {
    let text = value.as_str();
    let fits = match shape {
        Text => text.is_some(),
        Id => text.is_some_and(|text| TaskId::parse(text).is_some()),
        Date => text.is_some_and(|text| text.ends_with('Z') && text.parse::<Timestamp>().is_ok()),
        Count => value.is_u64(),
        Anything => true,
        Word(words) => text.is_some_and(|text| words.contains(&text)),
        Several(_) => value.is_array(),
        Fields(_) => value.is_object(),
    };
    if !fits {
        wrong.push(format!("{place} is {value}"));
        return;
    }
    match (shape, value) {
        (Several(of), Value::Array(list)) => {
            list.iter().enumerate().for_each(|(at, entry)| look(entry, of, &format!("{place}/{at}"), wrong));
        }
        (Fields(fields), Value::Object(object)) => {
            for (name, shape) in *fields {
                match object.get(name.trim_end_matches('?')) {
                    Some(value) => look(value, shape, &format!("{place}/{name}"), wrong),
                    None if name.ends_with('?') => {}
                    None => wrong.push(format!("{place}/{name} is missing")),
                }
            }
            let known = |name: &str| fields.iter().any(|(known, _)| known.trim_end_matches('?') == name);
            wrong.extend(object.keys().filter(|name| !known(name)).map(|name| format!("{place}/{name} is not known")));
        }
        _ => {}
    }
}

const STATES: &[&str] = &["unscheduled", "pending", "running", "completed", "failed", "exception"];
const PRIORITIES: Shape = Word(&["highest", "very-high", "high", "medium", "low", "very-low", "lowest"]);
const STABILITY: Shape = Word(&["experimental", "stable", "deprecated"]);

const RUN: Shape = Fields(&[
    ("runId", Count),
    ("state", Word(STATES)),
    ("reasonCreated", Word(&["scheduled", "retry", "task-retry", "rerun", "exception"])),
    ("reasonResolved?", Text),
    ("workerGroup?", Text),
    ("workerId?", Text),
    ("takenUntil?", Date),
    ("scheduled", Date),
    ("started?", Date),
    ("resolved?", Date),
]);

const TASK: Shape = Fields(&[
    ("provisionerId", Text),
    ("workerType", Text),
    ("taskQueueId", Text),
    ("schedulerId", Text),
    ("projectId", Text),
    ("taskGroupId", Id),
    ("dependencies", Several(&Id)),
    ("requires", Word(&["all-completed", "all-resolved"])),
    ("routes", Several(&Text)),
    ("priority", PRIORITIES),
    ("retries", Count),
    ("created", Date),
    ("deadline", Date),
    ("expires", Date),
    ("scopes", Several(&Text)),
    ("payload", Anything),
    ("metadata", Fields(&[("name", Text), ("description", Text), ("owner", Text), ("source", Text)])),
    ("tags", Anything),
    ("extra", Anything),
]);

const STATUS: Shape = Fields(&[
    ("taskId", Id),
    ("provisionerId", Text),
    ("workerType", Text),
    ("taskQueueId", Text),
    ("schedulerId", Text),
    ("projectId", Text),
    ("taskGroupId", Id),
    ("priority", PRIORITIES),
    ("deadline", Date),
    ("expires", Date),
    ("retriesLeft", Count),
    ("state", Word(STATES)),
    ("runs", Several(&RUN)),
]);

const TASK_AND_STATUS: Shape = Fields(&[("task", TASK), ("status", STATUS)]);
const TASK_RUN: Shape = Fields(&[("taskId", Id), ("runId", Count)]);

/// `{"status": …}`
pub(super) const STATUS_ANSWER: Shape = Fields(&[("status", STATUS)]);

pub(super) const GROUP: Shape = Fields(&[("taskGroupId", Id), ("schedulerId", Text), ("expires", Date), ("sealed?", Date)]);

pub(super) const GROUP_LIST: Shape = Fields(&[
    ("taskGroupId", Id),
    ("schedulerId", Text),
    ("expires", Date),
    ("sealed?", Date),
    ("tasks", Several(&TASK_AND_STATUS)),
    ("continuationToken?", Text),
]);

pub(super) const GROUP_CANCELED: Shape =
    Fields(&[("taskGroupId", Id), ("taskGroupSize", Count), ("cancelledCount", Count), ("taskIds", Several(&Id))]);

pub(super) const GROUP_PRIORITY: Shape = Fields(&[
    ("taskGroupId", Id),
    ("schedulerId", Text),
    ("newPriority", PRIORITIES),
    ("tasksAffected", Count),
    ("taskIds", Several(&Id)),
]);

pub(super) const DEPENDENTS: Shape =
    Fields(&[("taskId", Id), ("tasks", Several(&TASK_AND_STATUS)), ("continuationToken?", Text)]);

pub(super) const CLAIM: Shape = Fields(&[
    ("status", STATUS),
    ("runId", Count),
    ("workerGroup", Text),
    ("workerId", Text),
    ("takenUntil", Date),
    ("task", TASK),
    ("credentials", Fields(&[("clientId", Text), ("accessToken", Text), ("certificate", Text)])),
]);

pub(super) const PENDING_COUNT: Shape =
    Fields(&[("provisionerId", Text), ("workerType", Text), ("taskQueueId", Text), ("pendingTasks", Count)]);

pub(super) const COUNTS: Shape = Fields(&[
    ("provisionerId", Text),
    ("workerType", Text),
    ("taskQueueId", Text),
    ("pendingTasks", Count),
    ("claimedTasks", Count),
]);

pub(super) const PENDING_LIST: Shape = Fields(&[
    ("tasks", Several(&Fields(&[("taskId", Id), ("runId", Count), ("task", TASK), ("inserted", Date)]))),
    ("continuationToken?", Text),
]);

pub(super) const CLAIMED_LIST: Shape = Fields(&[
    (
        "tasks",
        Several(&Fields(&[
            ("taskId", Id),
            ("runId", Count),
            ("task", TASK),
            ("claimed", Date),
            ("workerGroup", Text),
            ("workerId", Text),
        ])),
    ),
    ("continuationToken?", Text),
]);

pub(super) const TASK_QUEUE: Shape = Fields(&[
    ("taskQueueId", Text),
    ("description", Text),
    ("stability", STABILITY),
    ("expires", Date),
    ("lastDateActive", Date),
]);
pub(super) const TASK_QUEUES: Shape = Fields(&[("taskQueues", Several(&TASK_QUEUE)), ("continuationToken?", Text)]);

pub(super) const WORKER_TYPE: Shape = Fields(&[
    ("taskQueueId", Text),
    ("provisionerId", Text),
    ("workerType", Text),
    ("description", Text),
    ("stability", STABILITY),
    ("expires", Date),
    ("lastDateActive", Date),
]);
pub(super) const WORKER_TYPES: Shape = Fields(&[("workerTypes", Several(&WORKER_TYPE)), ("continuationToken?", Text)]);

pub(super) const PROVISIONER: Shape = Fields(&[
    ("provisionerId", Text),
    ("description", Text),
    ("stability", STABILITY),
    ("expires", Date),
    ("lastDateActive", Date),
]);
pub(super) const PROVISIONERS: Shape = Fields(&[("provisioners", Several(&PROVISIONER)), ("continuationToken?", Text)]);

pub(super) const WORKER: Shape = Fields(&[
    ("provisionerId", Text),
    ("workerType", Text),
    ("taskQueueId", Text),
    ("workerGroup", Text),
    ("workerId", Text),
    ("recentTasks", Several(&TASK_RUN)),
    ("expires", Date),
    ("firstClaim", Date),
    ("lastDateActive", Date),
    ("quarantineUntil?", Date),
    (
        "quarantineDetails?",
        Several(&Fields(&[("clientId", Text), ("updatedAt", Date), ("quarantineUntil", Date), ("quarantineInfo", Text)])),
    ),
]);
pub(super) const WORKERS: Shape = Fields(&[
    (
        "workers",
        Several(&Fields(&[
            ("workerGroup", Text),
            ("workerId", Text),
            ("firstClaim", Date),
            ("lastDateActive", Date),
            ("latestTask?", TASK_RUN),
            ("quarantineUntil?", Date),
        ])),
    ),
    ("continuationToken?", Text),
]);
