//! Scopes: what a payload needs, and the task has not.

use serde_json::Value;
use tc_payload::Problem;

use super::{
    Notes,
    payload::Checked,
    rule,
    task::{Role, Task},
};
use crate::run::admit::scope::{ROLE, missing, needed, os_groups};

/// Queue of tasks that name none: the one that `exec` gives them.
const NO_QUEUE: &str = "local/exec";

/// Checks that the task has what its payload needs. A task file without `scopes` gets them from `exec`.
pub(super) fn check(task: &Task<'_>, payload: &Checked, notes: &mut Notes<'_>) {
    let Some(definition) = task.definition else { return };
    let given = definition.get("scopes");
    if task.role == Role::Task && given.is_none() {
        return;
    }
    let given = given.and_then(Value::as_array);
    let scopes: Vec<String> = given.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let queue = task.queue.as_deref().unwrap_or(NO_QUEUE);
    let groups = match payload {
        Checked::Native(payload) => os_groups(&payload.os_groups, queue).into_iter().map(|scope| vec![scope]).collect(),
        Checked::Container(payload) => needed(payload, queue),
    };
    let has_roles = scopes.iter().any(|scope| scope.starts_with(ROLE));
    let pointer = if given.is_some() { format!("{}/scopes", task.at) } else { task.at.to_owned() };
    for group in missing(&groups, &scopes) {
        let wanted = group.join(" or ");
        if has_roles {
            let message = format!("may lack {wanted}: the roles among them cannot be expanded offline");
            notes.add(&rule::SCOPE_UNEXPANDED, Problem::new(&pointer, message));
            continue;
        }
        let problem = Problem::new(&pointer, format!("the payload needs {wanted}, which the task does not have"));
        let first = group.first().map(String::as_str).unwrap_or_default();
        notes.add(&rule::SCOPE_MISSING, problem.with_hint(format!("add {} to `scopes`", Value::from(first))));
    }
}
