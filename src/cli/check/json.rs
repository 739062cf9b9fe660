//! Problems for programs: a JSON object on a line of its own for each.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::check::{Diagnostic, FileReport};

/// All problems.
pub(super) fn reports(reports: &[FileReport]) -> String {
    let diagnostics = reports.iter().flat_map(|report| &report.diagnostics);
    diagnostics.fold(String::new(), |mut text, diagnostic| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", one(diagnostic));
        text
    })
}

/// `file`, `rule`, `severity` and `message` are always there; `line` and `column` (both from 1, in characters) unless the file as
/// a whole is meant; `field`, `task` and `hint` where there is one.
fn one(diagnostic: &Diagnostic) -> Value {
    let Diagnostic { rule, severity, problem, task, .. } = diagnostic;
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
    set("file", json!(problem.file));
    if let Some(place) = problem.place {
        set("line", json!(place.line));
        set("column", json!(place.column));
    }
    set("rule", json!(rule.id));
    set("severity", json!(severity.to_string()));
    if !problem.pointer.is_empty() {
        set("field", json!(problem.field));
    }
    if let Some(task) = task {
        set("task", json!(task));
    }
    set("message", json!(problem.message));
    if let Some(hint) = &problem.hint {
        set("hint", json!(hint));
    }
    Value::Object(object)
}
