//! What a claim grants, and for how long.
//!
//! An answer is read as far as it can be read: whoever reads of a run here owns it until it is resolved, so a date that is
//! none, or a definition that is no object, must not make the run disappear.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Credentials, Secret,
    types::{Task, TaskStatus, read_date},
};

/// Length of a lease whose dates make no sense: the usual claim timeout of deployments.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(1200);
/// No lease is believed to be longer. It only has to be renewed once more.
const LONGEST_LEASE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shortest lease that is counted with.
const SHORTEST_LEASE: Duration = Duration::from_millis(500);
/// Headers give dates in whole seconds, rounded down.
const DATE_PRECISION: Duration = Duration::from_secs(1);

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

impl Claim {
    /// Reads one claim; `date` is that of the answer.
    ///
    /// # Errors
    /// When task, run or credentials cannot be told, without which nothing can be said about the run to anybody.
    pub(super) fn read(mut raw: Value, date: Option<Timestamp>) -> Result<Self, String> {
        let taken_until = read_date(&raw, "takenUntil");
        let mut take = |key: &str| raw.get_mut(key).map(Value::take).unwrap_or_default();
        let (definition, raw_status) = (take("task"), take("status"));
        let Essentials { run_id, credentials } = Essentials::deserialize(&raw).map_err(|e| e.to_string())?;
        let task_id = raw_status.get("taskId").and_then(Value::as_str).unwrap_or_default().to_owned();
        // The id becomes part of file names.
        if task_id.len() != 22 || !task_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err("its taskId is no slugid".to_owned());
        }
        let status = TaskStatus::deserialize(&raw_status).unwrap_or_else(|_| TaskStatus {
            task_id: task_id.clone(),
            state: "running".to_owned(),
            runs: Vec::new(),
        });
        let started = status.runs.iter().find(|run| run.run_id == run_id).and_then(|run| run.started);
        let lease = match started {
            Some(started) => length(taken_until, Some(started)),
            None => length_by_header(taken_until, date),
        };
        Ok(Self {
            run_id,
            taken_until: taken_until.unwrap_or(Timestamp::UNIX_EPOCH),
            lease,
            task: Task::read(definition, &raw_status, date.or(started).unwrap_or(Timestamp::UNIX_EPOCH)),
            task_id,
            status,
            credentials: credentials.into(),
        })
    }
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

impl Reclaimed {
    /// Reads the answer to a renewal; `date` is that of the answer.
    ///
    /// # Errors
    /// When it holds no credentials.
    pub(super) fn read(raw: &Value, date: Option<Timestamp>) -> Result<Self, serde_json::Error> {
        let Renewal { credentials } = Renewal::deserialize(raw)?;
        let taken_until = read_date(raw, "takenUntil");
        Ok(Self {
            taken_until,
            lease: date.map(|date| length_by_header(taken_until, Some(date))),
            credentials: credentials.into(),
        })
    }
}

/// How long a lease lasts: from `since` until `taken_until`. Dates that make no sense (missing, in the past, in year 1) stand
/// for the usual length.
fn length(taken_until: Option<Timestamp>, since: Option<Timestamp>) -> Duration {
    let length = taken_until.zip(since).and_then(|(until, since)| Duration::try_from(until.duration_since(since)).ok());
    length.filter(|length| !length.is_zero()).map_or(DEFAULT_LEASE, |length| length.clamp(SHORTEST_LEASE, LONGEST_LEASE))
}

/// As [`length`], from a date of limited precision.
fn length_by_header(taken_until: Option<Timestamp>, date: Option<Timestamp>) -> Duration {
    match length(taken_until, date) {
        DEFAULT_LEASE => DEFAULT_LEASE,
        length => length.saturating_sub(DATE_PRECISION).max(SHORTEST_LEASE),
    }
}

#[derive(Deserialize)]
pub(super) struct ClaimAnswer {
    pub(super) tasks: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Essentials {
    run_id: u32,
    credentials: RawCredentials,
}

#[derive(Deserialize)]
struct Renewal {
    credentials: RawCredentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCredentials {
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
