//! `.taskcluster.yml`: its shape, and that of the JSON-e in it. What it renders to is not known here.

mod text;

use serde_json::{Map, Value};
use tc_payload::{Problem, escape_pointer_segment, nearest};

use super::{
    finding::Findings,
    rule::{self, Rule},
};

/// Keys at the top that Taskcluster's GitHub service reads.
const TOP: [&str; 5] = ["version", "policy", "tasks", "reporting", "autoCancelPreviousChecks"];

/// An operator of JSON-e.
struct Operator {
    name: &'static str,
    /// Keys that must stand beside it.
    needs: &'static [&'static str],
    /// Keys that may.
    takes: &'static [&'static str],
}

const fn operator(name: &'static str, needs: &'static [&'static str], takes: &'static [&'static str]) -> Operator {
    Operator { name, needs, takes }
}

/// `each` and `by` stand with the names of variables in parentheses.
const OPERATORS: [Operator; 16] = [
    operator("$eval", &[], &[]),
    operator("$find", &["each()"], &[]),
    operator("$flatten", &[], &[]),
    operator("$flattenDeep", &[], &[]),
    operator("$fromNow", &[], &["from"]),
    operator("$if", &[], &["then", "else"]),
    operator("$json", &[], &[]),
    operator("$let", &["in"], &[]),
    operator("$map", &["each()"], &[]),
    operator("$match", &[], &[]),
    operator("$merge", &[], &[]),
    operator("$mergeDeep", &[], &[]),
    operator("$reduce", &["each()", "initial"], &[]),
    operator("$reverse", &[], &[]),
    operator("$sort", &[], &["by()"]),
    operator("$switch", &[], &[]),
];

/// Looks at a whole template.
pub(super) fn check(value: &Value, findings: &mut Findings) {
    let Value::Object(template) = value else {
        return findings.of_file(&rule::TEMPLATE_TASKS, Problem::wrong_type("", "object", value));
    };
    for name in template.keys().filter(|name| !TOP.contains(&name.as_str())) {
        let pointer = format!("/{}", escape_pointer_segment(name));
        let problem = Problem::new(pointer, "is read by nobody").about_key();
        findings.of_file(
            &rule::TEMPLATE_KEY,
            match nearest(name, TOP) {
                Some(meant) => problem.with_hint(format!("did you mean `{meant}`?")),
                None => problem,
            },
        );
    }
    match template.get("version") {
        Some(version) if *version == 1 => {}
        Some(version) if *version == 0 => {
            let problem = Problem::new("/version", "version 0 is the old form, which is no JSON-e");
            findings.of_file(&rule::TEMPLATE_VERSION, problem.with_hint("rewrite it as version 1"));
            // Nothing below is what it is in version 1.
            return;
        }
        Some(version) => {
            findings.of_file(&rule::TEMPLATE_VERSION, Problem::new("/version", format!("must be 1, not {version}")));
        }
        None => {
            findings
                .of_file(&rule::TEMPLATE_VERSION, Problem::new("", "has no `version`").with_hint("begin with `version: 1`"));
        }
    }
    match template.get("tasks") {
        None => findings.of_file(&rule::TEMPLATE_TASKS, Problem::new("", "has no `tasks`")),
        Some(tasks) => {
            let renders = |tasks: &Map<String, Value>| tasks.keys().any(|key| is_operator_like(key));
            // Nothing is no task, as an empty list is.
            if !tasks.is_array() && !tasks.is_null() && !tasks.as_object().is_some_and(renders) {
                let problem = Problem::wrong_type("/tasks", "array", tasks);
                findings.of_file(
                    &rule::TEMPLATE_TASKS,
                    problem.with_hint("or an object with an operator of JSON-e that gives one, such as $let or $if"),
                );
            }
            walk(tasks, "/tasks", findings);
        }
    }
}

/// Whether JSON-e takes the key for an operator: one `$` and a name.
fn is_operator_like(key: &str) -> bool {
    key.strip_prefix('$').is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
}

/// Documents are at most 100 levels deep.
fn walk(value: &Value, pointer: &str, findings: &mut Findings) {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| walk(item, &format!("{pointer}/{index}"), findings));
        }
        Value::Object(fields) => object(fields, pointer, findings),
        Value::String(text) => interpolation(text, pointer, false, findings),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn object(fields: &Map<String, Value>, pointer: &str, findings: &mut Findings) {
    let at = |key: &str| format!("{pointer}/{}", escape_pointer_segment(key));
    let mut found: Option<&Operator> = None;
    for key in fields.keys().filter(|key| is_operator_like(key)) {
        let Some(operator) = OPERATORS.iter().find(|operator| operator.name == key) else {
            let problem = Problem::new(at(key), format!("{key} is no operator of JSON-e")).about_key();
            let hint = match nearest(key, OPERATORS.iter().map(|operator| operator.name)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("a key that is to begin with a dollar sign is written `${key}`"),
            };
            findings.of_file(&rule::TEMPLATE_OPERATOR, problem.with_hint(hint));
            continue;
        };
        if let Some(first) = found {
            let message = format!("{key} stands beside {}; an object has one operator", first.name);
            findings.of_file(&rule::TEMPLATE_SHAPE, Problem::new(at(key), message).about_key());
        } else {
            found = Some(operator);
        }
    }
    if let Some(operator) = found {
        shape(operator, fields, pointer, findings);
    }
    for (key, value) in fields {
        let pointer = at(key);
        if found.is_none() {
            interpolation(key, &pointer, true, findings);
        }
        match (found.map(|operator| operator.name), key.as_str(), value) {
            // Expressions, in which a `${` would be one of its own.
            (Some("$eval"), "$eval", Value::String(_)) | (Some("$if"), "$if", Value::String(_)) => {}
            // The keys are expressions.
            (Some("$match" | "$switch"), "$match" | "$switch", Value::Object(cases)) => {
                for (case, value) in cases {
                    walk(value, &format!("{pointer}/{}", escape_pointer_segment(case)), findings);
                }
            }
            _ => walk(value, &pointer, findings),
        }
    }
}

/// Whether an operator has the keys beside it that it needs, and no others.
fn shape(operator: &Operator, fields: &Map<String, Value>, pointer: &str, findings: &mut Findings) {
    let is = |wanted: &str, key: &str| match wanted.strip_suffix("()") {
        Some(name) => key.strip_prefix(name).is_some_and(|rest| rest.starts_with('(') && rest.ends_with(')')),
        None => wanted == key,
    };
    let mut wrong = |rule: &'static Rule, problem: Problem| findings.of_file(rule, problem);
    for needed in operator.needs.iter().filter(|needed| !fields.keys().any(|key| is(needed, key))) {
        let shown = needed.replace("()", "(…)");
        let at = format!("{pointer}/{}", operator.name);
        wrong(&rule::TEMPLATE_SHAPE, Problem::new(at, format!("{} needs `{shown}` beside it", operator.name)).about_key());
    }
    for key in fields.keys().filter(|key| *key != operator.name && !is_operator_like(key)) {
        if !operator.needs.iter().chain(operator.takes).any(|known| is(known, key)) {
            let at = format!("{pointer}/{}", escape_pointer_segment(key));
            let message = format!("does not belong beside {}", operator.name);
            wrong(&rule::TEMPLATE_SHAPE, Problem::new(at, message).about_key());
        }
    }
    if operator.name == "$let"
        && let Some(variables) = fields.get("$let")
        && !variables.is_object()
    {
        wrong(&rule::TEMPLATE_SHAPE, Problem::wrong_type(format!("{pointer}/$let"), "object", variables));
    }
}

fn interpolation(text: &str, pointer: &str, is_key: bool, findings: &mut Findings) {
    if let Some(rest) = text::unclosed(text) {
        let shown: String = rest.lines().next().unwrap_or_default().chars().take(40).collect();
        let problem = Problem::new(pointer, format!("a `${{` is not closed: {}", Value::from(shown)));
        let problem = problem.with_hint("a `${` that is to stay as it is, is written `$${`");
        findings.of_file(&rule::TEMPLATE_INTERPOLATION, if is_key { problem.about_key() } else { problem });
    }
}
