//! Task definitions: what createTask takes.

use serde_json::Value;
use tc_payload::{Problem, nearest};

use super::{
    Notes, rule,
    task::{Role, Task},
};
use crate::{
    graph::label::LABEL,
    local::definition::{FIELDS, METADATA, MOST_DEPENDENCIES, shape},
};

/// The key by which a task file gives its task an id.
pub(super) const TASK_ID: &str = "taskId";

/// The task queue that a definition names.
pub(super) fn queue(definition: &Value) -> Option<String> {
    let text = |name: &str| definition.get(name).and_then(Value::as_str);
    match text("taskQueueId") {
        Some(queue) => Some(queue.to_owned()),
        None => Some(format!("{}/{}", text("provisionerId")?, text("workerType")?)),
    }
}

/// Holds the fields of a definition against the bounds of createTask.
///
/// What `exec` fills in is not missed in a task file, where nobody writes it; `label` and `taskId` are for `exec` alone.
pub(super) fn check(task: &Task<'_>, notes: &mut Notes<'_>) {
    let Some(definition) = task.definition else { return };
    let is_file = task.role == Role::Task;
    for broken in shape(definition) {
        let pointer = broken.pointer.as_str();
        let is_for_exec = |name: &str| pointer.strip_prefix('/') == Some(name);
        if is_file && (is_for_exec(LABEL) || is_for_exec(TASK_ID)) {
            continue;
        }
        let is_list_entry = pointer.starts_with("/dependencies/") && definition.pointer(pointer).is_some_and(Value::is_string);
        if is_list_entry && broken.rule != "is there twice" {
            // It may be a label; whether there is such a task is another rule.
            continue;
        }
        if broken.missing && pointer != "/payload" {
            if !is_file {
                let field = pointer.trim_start_matches('/').replace('/', ".");
                let problem = Problem::new(task.at, format!("has no {field}, which createTask requires"));
                notes.add(&rule::TASK_INCOMPLETE, problem.with_hint("`exec` fills it in, a deployment does not"));
            }
            continue;
        }
        let rule = match pointer {
            "/priority" => &rule::TASK_PRIORITY,
            "/dependencies" if broken.rule.contains(&MOST_DEPENDENCIES.to_string()) => &rule::DEPENDENCY_TOO_MANY,
            pointer if pointer.starts_with("/scopes/") => &rule::SCOPE_SYNTAX,
            _ => &rule::TASK_SCHEMA,
        };
        let mut problem = Problem::new(pointer, broken.rule.as_str());
        if broken.rule == "is not a field here" {
            problem = problem.about_key();
            let (of, name) = pointer.rsplit_once('/').unwrap_or_default();
            let known: &[&str] = match of {
                "" => FIELDS,
                "/metadata" => METADATA,
                _ => &[],
            };
            if let Some(meant) = nearest(name, known.iter().copied()) {
                problem = problem.with_hint(format!("did you mean `{meant}`?"));
            }
        }
        notes.add(rule, problem.below(task.at));
    }
}
