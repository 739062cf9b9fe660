//! What tasks are called: labels and ids.

use std::collections::HashMap;

use serde_json::Value;
use tc_payload::Problem;

use super::{
    Notes,
    card::Card,
    definition::TASK_ID,
    finding::Findings,
    rule,
    task::{Role, Task},
};
use crate::{
    graph::label::{LABEL, is_directory_name},
    local::{check, state::TaskId},
};

/// Reads the label and the id that a file gives its task.
pub(super) fn of_task(value: &Value, task: &Task<'_>, card: &mut Card, notes: &mut Notes<'_>) {
    let label = value.get(LABEL);
    match task.role {
        Role::Payload => {}
        Role::Node { .. } => match label {
            Some(Value::String(label)) => card.label = Some(label.as_str().into()),
            Some(other) => notes.add(&rule::GRAPH_NODE, Problem::wrong_type("/label", "string", other)),
            None => {}
        },
        Role::Rendered => id(value, card, notes),
        Role::Task => {
            let wrong = |why: String| Problem::new("/label", why).with_hint("the id of the task names the directory instead");
            match label {
                Some(Value::String(label)) => {
                    if !is_directory_name(label) {
                        let shown = Value::from(label.chars().take(80).collect::<String>());
                        notes.add(&rule::NAME_LABEL_DIRECTORY, wrong(format!("{shown} cannot name a directory")));
                    }
                    card.label = Some(label.as_str().into());
                }
                Some(_) => notes.add(&rule::NAME_LABEL_DIRECTORY, wrong("is no text and does not count".to_owned())),
                None => {}
            }
            id(value, card, notes);
        }
    }
}

/// Reads the id that stands beside the fields of a definition.
fn id(value: &Value, card: &mut Card, notes: &mut Notes<'_>) {
    match value.get(TASK_ID) {
        Some(Value::String(id)) if check::TASK_ID.problem(id).is_none() => card.id = TaskId::parse(id),
        Some(_) => {
            let problem = Problem::new("/taskId", "is no task id: 22 letters of the kind that slugid.v4 makes");
            notes.add(&rule::NAME_TASK_ID, problem.with_hint("leave taskId out, and the task gets an id"));
        }
        None => {}
    }
}

/// Looks for names that are not one task's alone. `is_graph` says of each file whether it is one.
pub(super) fn shared(files: &[Vec<Card>], is_graph: &[bool], names: &[&str], findings: &mut [Findings]) {
    let mut ids: HashMap<TaskId, &str> = HashMap::new();
    let mut of_files: HashMap<&str, &str> = HashMap::new();
    for (file, cards) in files.iter().enumerate() {
        let mut labels: HashMap<&str, &str> = HashMap::new();
        for (number, card) in cards.iter().enumerate() {
            let called = card.key.as_deref().or(card.title.as_deref()).unwrap_or(names[file]);
            if let Some(other) = card.id.and_then(|id| ids.insert(id, called)) {
                let message = format!("is the id of {}, too", Value::from(other));
                let at = if is_graph[file] { "" } else { "/taskId" };
                findings[file].of_task(number, &rule::NAME_TASK_ID_TWICE, Problem::new(at, message));
            }
            let Some(label) = &card.label else { continue };
            if is_graph[file] {
                if let Some(other) = labels.insert(label, called) {
                    let message = format!("{} is the label of {}, too", Value::from(&**label), Value::from(other));
                    findings[file].of_task(number, &rule::NAME_LABEL_TWICE, Problem::new("/label", message));
                }
            } else if let Some(other) = of_files.insert(label, called) {
                let message = format!("{} is the label of the task in {other}, too", Value::from(&**label));
                findings[file].of_task(number, &rule::NAME_LABEL_SHARED, Problem::new("/label", message));
            }
        }
    }
}
