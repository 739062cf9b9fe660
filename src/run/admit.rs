//! The first phase: from a claimed task to a payload that can be run, or to everything that stands against it.

use tc_payload::native;

use super::{
    context::{Basics, RunContext},
    outcome::{Blame, CORE, Findings, Phase, RunError},
};
use crate::feature::{self, table::Table};

/// A run that may begin.
pub struct Admitted {
    /// What it is.
    pub cx: RunContext,
    /// The optional parts it asked for.
    pub table: Table<RunContext>,
}

/// Reads and checks the payload. Everything that is wrong is written to the task log and added to `findings`.
pub fn admit(basics: &Basics, findings: &mut Findings) -> Option<Admitted> {
    let raw = &basics.task.payload;
    let pool = pool(basics);
    if tc_payload::is_container_payload(raw) {
        let message = format!(
            "docker worker payload detected, but D2G is not enabled on this worker pool ({pool}). \
             Container payloads come with a later version of this worker."
        );
        findings.add(Phase::Admit, CORE, RunError::new(Blame::Payload, message));
        return None;
    }
    if basics.shop.config.disable_native_payloads {
        let message = format!("native Generic Worker payloads are disabled on this worker pool ({pool})");
        findings.add(Phase::Admit, CORE, RunError::new(Blame::Payload, message));
        return None;
    }
    let payload = match native::check(raw) {
        Ok(payload) => payload,
        Err(problems) => {
            let log = &basics.log;
            log.error("Task payload for this worker type must conform to the following jsonschema:");
            log.error(native::schema_text());
            log.error("TASK FAIL since the task payload is invalid. See errors:");
            for problem in &problems {
                log.error(&format!("- {}: {}", problem.field, problem.message));
            }
            let message = format!("validation of payload failed for task {}", basics.task_id);
            findings.add(Phase::Admit, CORE, RunError::new(Blame::Payload, message));
            return None;
        }
    };
    let limit = basics.shop.config.max_task_run_time;
    if payload.max_run_time_secs > u64::from(limit) {
        let message = format!("task's maxRunTime of {} exceeded allowed maximum of {limit}", payload.max_run_time_secs);
        findings.add(Phase::Admit, CORE, RunError::new(Blame::Payload, message));
    }
    let cx = RunContext::new(basics.clone(), payload, None);
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

/// `<provisionerId>/<workerType>` as sentences about this pool name it.
fn pool(basics: &Basics) -> String {
    let config = &basics.shop.config;
    format!("{}/{}", config.provisioner_id, config.worker_type)
}
