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

/// Holds the fields of a definition against the bounds of createTask.
///
/// What `exec` fills in is not missed in a task file, where nobody writes it; `label` and `taskId` are for `exec` alone.
pub(super) fn check(task: &Task<'_>, notes: &mut Notes<'_>) {
    let Some(definition) = task.definition else { return };
    let (is_file, is_rendered) = (task.role == Role::Task, task.role == Role::Rendered);
    let mut missing = Vec::new();
    for broken in shape(definition) {
        let pointer = broken.pointer.as_str();
        let is_for_exec = |name: &str| pointer.strip_prefix('/') == Some(name);
        if (is_file && is_for_exec(LABEL)) || ((is_file || is_rendered) && is_for_exec(TASK_ID)) {
            continue;
        }
        let is_list_entry =
            !is_rendered && pointer.starts_with("/dependencies/") && definition.pointer(pointer).is_some_and(Value::is_string);
        if is_list_entry && broken.rule != "is there twice" {
            // It may be a label; whether there is such a task is another rule.
            continue;
        }
        if broken.missing && pointer != "/payload" {
            missing.push(pointer.trim_start_matches('/').replace('/', "."));
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
    if !is_file && let Some((last, others)) = missing.split_last() {
        let fields = if others.is_empty() { last.clone() } else { format!("{} and {last}", others.join(", ")) };
        let them = if others.is_empty() { "it" } else { "them" };
        let problem = Problem::new(task.at, format!("lacks {fields}, which createTask requires"));
        notes.add(&rule::TASK_INCOMPLETE, problem.with_hint(format!("`exec` fills {them} in, a deployment does not")));
    }
}
