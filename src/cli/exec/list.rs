//! `--list`: what would run.

use std::{collections::HashMap, fmt::Write as _};

use serde_json::json;

use super::prepare::Ready;
use crate::local::definition::task_queue_id;

/// Longest label in the table, in characters; longer ones push their line's rest to the right.
const WIDEST: usize = 40;

/// One line for each task: label, id, task queue, labels of those that it waits for.
pub fn text(tasks: &[Ready]) -> String {
    let names = names(tasks);
    let rows: Vec<[String; 4]> = tasks
        .iter()
        .map(|task| {
            let waits_for = waits_for(task, &names);
            [
                task.called.name.clone(),
                task.id.clone(),
                queue(task),
                if waits_for.is_empty() { "-".to_owned() } else { waits_for.join(", ") },
            ]
        })
        .collect();
    let head = ["LABEL", "TASK ID", "TASK QUEUE", "WAITS FOR"].map(str::to_owned);
    let width = |column: usize| {
        let lengths = std::iter::once(&head).chain(&rows).map(|row| row[column].chars().count());
        lengths.filter(|length| *length <= WIDEST).max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [label, id, queue, waits_for] in std::iter::once(&head).chain(&rows) {
        let [a, b, c] = widths;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{label:a$}  {id:b$}  {queue:c$}  {waits_for}");
    }
    text
}

/// The same as JSON, one object on a line.
pub fn json(tasks: &[Ready]) -> String {
    let names = names(tasks);
    let mut text = String::new();
    for task in tasks {
        let line = json!({
            "event": "task", "label": task.called.name, "taskId": task.id, "taskQueueId": queue(task),
            "waitsFor": waits_for(task, &names), "definition": task.defined.definition,
        });
        let _ = writeln!(text, "{line}");
    }
    text
}

fn names(tasks: &[Ready]) -> HashMap<usize, &str> {
    tasks.iter().map(|task| (task.number, task.called.name.as_str())).collect()
}

fn waits_for<'a>(task: &Ready, names: &HashMap<usize, &'a str>) -> Vec<&'a str> {
    task.waits_for.iter().filter_map(|on| names.get(on).copied()).collect()
}

fn queue(task: &Ready) -> String {
    task_queue_id(&task.defined.definition).unwrap_or_default()
}
