//! Dates of tasks among each other. How far they are from now is nobody's mistake in a file, which may wait for its day.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tc_payload::Problem;

use super::{Notes, rule, task::Task};
use crate::local::definition::{LONGEST_DEADLINE, disorder};

/// Holds the dates of a definition against each other.
pub(super) fn check(task: &Task<'_>, notes: &mut Notes<'_>) {
    let Some(deadline) = task.deadline else { return };
    for (field, problem) in disorder(task.created.unwrap_or(Timestamp::MIN), deadline, task.expires) {
        let rule = if field == "expires" { &rule::EXPIRY_TASK } else { &rule::EXPIRY_DEADLINE };
        notes.add(rule, Problem::new(format!("{}/{field}", task.at), problem));
    }
    let Some(created) = task.created.filter(|created| *created <= deadline) else { return };
    let room = deadline.duration_since(created);
    if room > LONGEST_DEADLINE {
        let message = format!("({deadline:.3}) must be within 5 days of created ({created:.3})");
        notes.add(&rule::EXPIRY_FAR, Problem::new(format!("{}/deadline", task.at), message));
    }
    let wanted = task.payload.and_then(|payload| payload.get("maxRunTime")).and_then(Value::as_u64);
    let wanted_secs = wanted.and_then(|secs| i64::try_from(secs).ok()).map(SignedDuration::from_secs);
    if let Some(wanted) = wanted_secs.filter(|wanted| *wanted > room) {
        let message =
            format!("allows {} seconds, but the deadline is {} seconds after created", wanted.as_secs(), room.as_secs());
        let problem = Problem::new(format!("{}/maxRunTime", task.payload_at), message);
        notes.add(&rule::EXPIRY_RUN_TIME, problem.with_hint("at its deadline, a task is ended whatever time it has left"));
    }
}
