//! Values that stand for something which is known only when a graph is about to run: ids of tasks, addresses of artifacts, dates.
//!
//! taskgraph writes them as objects with one key: `{"task-reference": "<edge>"}`, `{"artifact-reference": "<edge/public/x>"}`
//! and `{"relative-datestamp": "1 day"}`. Names between angle brackets are those of the task's dependencies, `self` and `decision`.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tc_payload::{Problem, escape_pointer_segment};

use crate::{api::segment, log::format::date};

/// What to do about a span that is none.
const SPAN: &str = "years, months, weeks, days, hours, minutes and seconds, each at most once and in this order, make a span";
/// What to do about a reference that leads nowhere.
const NAMES: &str =
    "names are those under `dependencies` beside `task`, and `self` and `decision`; <name/public/file> is an artifact";

/// What references are resolved with.
pub struct Known<'a> {
    /// The id of the task that a dependency's name stands for.
    pub task: &'a dyn Fn(&str) -> Option<String>,
    /// The id of the task itself.
    pub own_id: &'a str,
    /// Where artifacts are, without a slash at the end.
    pub root_url: &'a str,
    /// From which dates are counted.
    pub now: Timestamp,
}

/// Resolves everything in `value`. Problems have pointers below `pointer`.
pub fn resolve(value: &Value, pointer: &str, known: &Known<'_>, problems: &mut Vec<Problem>) -> Value {
    match value {
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.map(|(i, item)| resolve(item, &format!("{pointer}/{i}"), known, problems)).collect()
        }
        Value::Object(fields) => match only(fields).and_then(|(key, value)| reference(key, value, known)) {
            Some(Ok(resolved)) => resolved,
            Some(Err(why)) => {
                let problem = Problem::new(pointer, why);
                let is_date = fields.contains_key("relative-datestamp");
                problems.push(problem.with_hint(if is_date { SPAN } else { NAMES }));
                value.clone()
            }
            None => {
                let resolved = fields.iter().map(|(key, field)| {
                    (key.clone(), resolve(field, &format!("{pointer}/{}", escape_pointer_segment(key)), known, problems))
                });
                Value::Object(resolved.collect())
            }
        },
        other => other.clone(),
    }
}

/// Whether this is a reference, if perhaps one that leads nowhere.
pub fn is_reference(value: &Value) -> bool {
    let key = value.as_object().and_then(only).map(|(key, _)| key);
    matches!(key, Some("task-reference" | "artifact-reference" | "relative-datestamp"))
}

/// What a reference among the dependencies of a task with this id stands for. Nothing, if that is nothing, which is told when
/// the whole definition is resolved; or if it is the decision, for which nobody has to wait here.
pub fn dependency(entry: &Value, own_id: &str, task: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let task = |name: &str| task(name).or_else(|| (name == "decision").then(String::new));
    let known = Known { task: &task, own_id, root_url: "", now: Timestamp::UNIX_EPOCH };
    let mut problems = Vec::new();
    match resolve(entry, "", &known, &mut problems) {
        Value::String(id) if !id.is_empty() => Some(id),
        _ => None,
    }
}

fn only(fields: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut fields = fields.iter();
    let (key, value) = fields.next()?;
    fields.next().is_none().then_some((key.as_str(), value))
}

/// What a reference stands for; none if this is no reference.
fn reference(key: &str, value: &Value, known: &Known<'_>) -> Option<Result<Value, String>> {
    let text = |resolved: fn(&str, &Known<'_>) -> Result<Value, String>| {
        Some(value.as_str().ok_or_else(|| format!("{key} is no text")).and_then(|text| resolved(text, known)))
    };
    match key {
        "task-reference" => text(|text, known| fill(text, |name| task(name, known)).map(Value::String)),
        "artifact-reference" => text(|text, known| fill(text, |inner| artifact(inner, known)).map(Value::String)),
        "relative-datestamp" => text(|text, known| {
            let offset = offset(text).ok_or_else(|| format!("{text:?} is no time span such as `1 day` or `3 hours`"))?;
            let when = known.now.checked_add(offset).map_err(|_| format!("{text:?} is too far away"))?;
            Ok(json!(date(when)))
        }),
        _ => None,
    }
}

/// Replaces each `<…>`. A bracket that is none of a reference is written `<<>`.
fn fill(text: &str, of: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix("<>") {
            filled.push('<');
            rest = after;
            continue;
        }
        match after.split_once('>') {
            Some((name, after)) if !name.is_empty() => {
                filled.push_str(&of(name)?);
                rest = after;
            }
            _ => {
                filled.push('<');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

fn task(name: &str, known: &Known<'_>) -> Result<String, String> {
    if name == "self" {
        return Ok(known.own_id.to_owned());
    }
    // Nobody decided about a graph that is run alone. A decision's id is that of its tasks' group, and a task that names none is
    // a group of its own.
    let decision = || (name == "decision").then(|| known.own_id.to_owned());
    (known.task)(name).or_else(decision).ok_or_else(|| format!("<{name}> names no dependency of this task that is here"))
}

fn artifact(inner: &str, known: &Known<'_>) -> Result<String, String> {
    let (name, path) = inner.split_once('/').ok_or_else(|| format!("<{inner}> has no artifact's name behind a slash"))?;
    if name == "self" {
        return Err("a task cannot refer to artifacts of its own".to_owned());
    }
    let id = task(name, known)?;
    let path = path.split('/').map(segment).collect::<Vec<_>>().join("/");
    Ok(format!("{}/api/queue/v1/task/{id}/artifacts/{path}", known.root_url))
}

/// A span such as `1 day`, `-2 hours 3 min` or `1y 2mo`: units from large to small, each at most once. A year has 365 days, a
/// month 30, as the reference counts.
fn offset(text: &str) -> Option<SignedDuration> {
    const UNITS: [(&[&str], i64); 7] = [
        (&["years", "year", "yr", "y"], 365 * 86_400),
        (&["months", "month", "mo"], 30 * 86_400),
        (&["weeks", "week", "wk", "w"], 7 * 86_400),
        (&["days", "day", "d"], 86_400),
        (&["hours", "hour", "hr", "h"], 3_600),
        (&["minutes", "minute", "min", "m"], 60),
        (&["seconds", "second", "sec", "s"], 1),
    ];
    let text = text.trim();
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest.trim_start()),
        None => (1, text.strip_prefix('+').unwrap_or(text).trim_start()),
    };
    if rest.is_empty() {
        return None;
    }
    let (mut seconds, mut next) = (0_i64, 0);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: i64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = rest.split_at(letters);
        let found = UNITS.iter().enumerate().skip(next).find(|(_, (names, _))| names.contains(&unit))?;
        seconds = seconds.checked_add(number.checked_mul(found.1.1)?)?;
        next = found.0 + 1;
        rest = after.trim_start();
    }
    Some(SignedDuration::from_secs(sign * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(value: &Value) -> (Value, Vec<String>) {
        let task = |name: &str| (name == "build").then(|| "BUILD".to_owned());
        let now = "2026-01-01T00:00:00Z".parse().expect("a date");
        let known = Known { task: &task, own_id: "OWN", root_url: "http://q", now };
        let mut problems = Vec::new();
        let value = resolve(value, "/payload", &known, &mut problems);
        (value, problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect())
    }

    #[test]
    fn references_are_filled_in_wherever_they_stand() {
        let (value, problems) = resolved(&json!({
            "env": { "A": { "task-reference": "x<build>y<self>z" }, "B": { "artifact-reference": "<build/public/a b.zip>" } },
            "alone": { "task-reference": "<decision>" }, "list": [{ "relative-datestamp": "1 day 2 hours" }, { "relative-datestamp": "- 1 mo" }],
            "two": { "task-reference": "<build>", "other": 1 }, "odd": { "task-reference": "a <> b <<> c < d" },
        }));
        assert_eq!(problems, [""; 0]);
        assert_eq!(value["env"]["A"], "xBUILDyOWNz");
        assert_eq!(value["env"]["B"], "http://q/api/queue/v1/task/BUILD/artifacts/public/a%20b.zip");
        assert_eq!(value["alone"], "OWN");
        assert_eq!(value["list"], json!(["2026-01-02T02:00:00.000Z", "2025-12-02T00:00:00.000Z"]));
        assert_eq!(value["two"]["task-reference"], "<build>", "an object with more than one key is no reference");
        assert_eq!(value["odd"], "a <> b < c < d");
    }

    #[test]
    fn what_refers_to_nothing_is_a_problem_with_its_place() {
        let (_, problems) = resolved(&json!({
            "a/b": [{ "task-reference": "<test>" }], "c": { "artifact-reference": "<build>" },
            "d": { "artifact-reference": "<self/x>" }, "e": { "relative-datestamp": "soon" }, "f": { "task-reference": 5 },
        }));
        assert_eq!(
            problems,
            [
                "/payload/a~1b/0: <test> names no dependency of this task that is here",
                "/payload/c: <build> has no artifact's name behind a slash",
                "/payload/d: a task cannot refer to artifacts of its own",
                "/payload/e: \"soon\" is no time span such as `1 day` or `3 hours`",
                "/payload/f: task-reference is no text",
            ]
        );
    }

    #[test]
    fn spans_have_units_from_large_to_small() {
        let secs = |text| offset(text).map(|span| span.as_secs());
        assert_eq!(secs("1 day"), Some(86_400));
        assert_eq!(secs("-2 hours 3 min"), Some(-7_380));
        assert_eq!(secs("+1y2mo 3w4d5h6m7s"), Some(((365 + 60 + 21 + 4) * 24 + 5) * 3600 + 6 * 60 + 7));
        for wrong in
            ["", "-", "1", "day", "1 fortnight", "1 hour 1 day", "1 day 2 days", "99999999999999999999 days", "1 day x"]
        {
            assert_eq!(secs(wrong), None, "{wrong:?}");
        }
    }
}
