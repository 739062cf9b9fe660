//! The first phase: from a claimed task to a payload that can be run, or to everything that stands against it.
//!
//! ```text
//!           ┌─ image? ─▶ docker::check ─▶ scopes ─▶ what the pool withholds ─┐
//! payload ──┤                                                               ├─▶ parts ─▶ Admitted
//!           └─ else ───▶ native::check ─────────────────────────────────────┘
//! ```

pub mod scope;
mod withhold;

use serde_json::Value;
use tc_payload::{Problem, docker, native};

pub use self::withhold::withhold;
use super::{
    context::{Basics, RunContext},
    outcome::{Blame, CORE, Findings, Phase, RunError},
};
use crate::{
    config::Config,
    feature::{self, table::Table},
    log::format::one_line,
};

/// A run that may begin.
pub struct Admitted {
    /// What it is.
    pub cx: RunContext,
    /// The optional parts it asked for.
    pub table: Table<RunContext>,
}

/// A payload of either kind that its schema accepts.
enum Checked {
    Native(native::Payload),
    Container(docker::Payload),
}

/// Reads and checks the payload. Everything that is wrong is written to the task log and added to `findings`.
///
/// Waits for nothing but the auth service, which the API client bounds, and for that only until the run is ended from outside.
pub async fn admit(basics: &Basics, findings: &mut Findings) -> Option<Admitted> {
    let mut refuse = |error: RunError| findings.add(Phase::Admit, CORE, error);
    let checked = match check(basics) {
        Ok(checked) => checked,
        Err(error) => {
            refuse(error);
            return None;
        }
    };
    let (needed, asks) = match &checked {
        Checked::Native(payload) => (Vec::new(), !payload.os_groups.is_empty()),
        Checked::Container(payload) => {
            let needed = scope::needed(payload, &basics.task.task_queue_id);
            let asks = !needed.is_empty();
            (needed, asks)
        }
    };
    let scopes = if asks {
        let expanded = tokio::select! {
            biased; // Nobody needs to know any more what the task may do.
            kill = basics.kill.killed() => {
                findings.killed(kill);
                return None;
            }
            expanded = scope::expanded(basics) => expanded,
        };
        match expanded {
            Ok(scopes) => scopes,
            Err(error) => {
                refuse(error);
                return None;
            }
        }
    } else {
        basics.task.scopes.clone()
    };
    if let Err(error) = scope::require(&needed, &scopes) {
        refuse(error);
    }
    let config = &basics.shop.config;
    let (payload, container) = match checked {
        Checked::Native(payload) => (payload, None),
        Checked::Container(mut payload) => {
            for (what, setting) in withhold(&mut payload, &config.d2g) {
                basics.log.warn(&format!("payload.{what} has no effect: this worker pool does not allow it ({setting})"));
            }
            (payload.common, Some(payload.container))
        }
    };
    if let Some(message) = too_long(&payload, config) {
        refuse(RunError::new(Blame::Payload, message));
    }
    let cx = RunContext::new(basics.clone(), payload, container);
    cx.set_scopes(scopes);
    let table = Table::new(feature::wanted(&cx));
    for (position, error) in table.admit(&cx) {
        findings.add(Phase::Admit, position, error);
    }
    let mut reserved = table.reserved(&cx);
    reserved.push((cx.payload.logs.backing.clone(), "Backing Log"));
    for (i, (name, part)) in reserved.iter().enumerate() {
        if let Some((_, other)) = reserved[..i].iter().find(|(earlier, _)| earlier == name) {
            let message = format!("artifact name {name:?} is wanted by both {other} and {part}");
            findings.add(Phase::Admit, CORE, RunError::new(Blame::Payload, message));
        }
    }
    cx.reserve_names(reserved);
    findings.is_empty().then_some(Admitted { cx, table })
}

/// Holds the payload against the schema of its kind, if the pool takes that kind.
fn check(basics: &Basics) -> Result<Checked, RunError> {
    let raw = &basics.task.payload;
    if let Some(message) = not_taken(raw, &basics.shop.config) {
        return Err(RunError::new(Blame::Payload, message));
    }
    if tc_payload::is_container_payload(raw) {
        return docker::check(raw).map(Checked::Container).map_err(|wrong| not_valid(basics, docker::schema_text(), &wrong));
    }
    native::check(raw).map(Checked::Native).map_err(|wrong| not_valid(basics, native::schema_text(), &wrong))
}

/// Why the pool does not take payloads of this one's kind, if it does not.
pub fn not_taken(payload: &Value, config: &Config) -> Option<String> {
    let pool = config.task_queue_id();
    if !tc_payload::is_container_payload(payload) {
        let disabled = config.disable_native_payloads;
        return disabled.then(|| format!("native Generic Worker payloads are disabled on this worker pool ({pool})"));
    }
    (!config.d2g.enable_d2g).then(|| {
        format!(
            "docker worker payload detected, but D2G is not enabled on this worker pool ({pool}). \
             Its owner can set `d2gConfig.enableD2G` to have such payloads run."
        )
    })
}

/// What the pool has against the time that a payload wants, if it has anything.
pub fn too_long(payload: &native::Payload, config: &Config) -> Option<String> {
    let (wanted, limit) = (payload.max_run_time_secs, config.max_task_run_time);
    (wanted > u64::from(limit)).then(|| format!("task's maxRunTime of {wanted} exceeded allowed maximum of {limit}"))
}

/// Shows the schema and all problems in the task log. Programs look for these sentences.
fn not_valid(basics: &Basics, schema: &str, problems: &[Problem]) -> RunError {
    let log = &basics.log;
    log.error("Task payload for this worker type must conform to the following jsonschema:");
    log.error(schema);
    log.error("TASK FAIL since the task payload is invalid. See errors:");
    for problem in problems {
        log.error(&one_line(&format!("- {}: {}", problem.field, problem.message)));
    }
    RunError::new(Blame::Payload, format!("validation of payload failed for task {}", basics.task_id))
}
