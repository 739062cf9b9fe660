//! The sentences about what is wrong.
//!
//! Two of them are read by programs and stay literal: the one about listed values and the one about minimums. All others are ours.

use serde_json::Value;

use crate::{Problem, nearest};

/// How much of a value is shown.
const SHOWN_CHARS: usize = 60;

pub(crate) fn wrong_type(pointer: String, wanted: &str, value: &Value) -> Problem {
    let kind = match wanted {
        "array" => "a list",
        "object" => "an object",
        "integer" => "a whole number",
        "boolean" => "true or false",
        _ => "a string",
    };
    let problem = about(pointer, format!("must be {kind}, not {}", describe(value)), value);
    match (wanted, value) {
        ("string", Value::Number(_) | Value::Bool(_)) => problem.with_hint(format!("put it in quotes: \"{value}\"")),
        ("integer", Value::String(text)) if text.trim().parse::<i64>().is_ok() => problem.with_hint("write it without quotes"),
        ("boolean", Value::String(text)) => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" => problem.with_hint("write true, without quotes"),
            "false" | "no" | "off" => problem.with_hint("write false, without quotes"),
            _ => problem,
        },
        ("array", Value::String(text)) => {
            problem.with_hint(format!("a list of one is written [{}]", shown(&Value::from(text.as_str()))))
        }
        _ => problem,
    }
}

/// Literal: programs look for this sentence, with the field in it.
pub(super) fn not_listed(pointer: String, known: &[Value], value: &Value) -> Problem {
    let listed = known.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
    let mut problem = about(pointer, String::new(), value);
    problem.message = format!("{} must be one of the following: {listed}", problem.field);
    let meant = value.as_str().and_then(|text| nearest(text, known.iter().filter_map(Value::as_str)));
    problem.with_hint(match meant {
        Some(meant) => format!("it is {}; did you mean {}?", shown(value), Value::from(meant)),
        None => format!("it is {}", shown(value)),
    })
}

/// Literal: programs look for this sentence.
pub(super) fn too_small(pointer: String, minimum: i64, value: &Value) -> Problem {
    about(pointer, format!("Must be greater than or equal to {minimum}"), value).with_hint(format!("it is {}", shown(value)))
}

pub(super) fn missing(pointer: String, name: &str) -> Problem {
    Problem::new(pointer, format!("`{name}` is missing"))
}

pub(super) fn missing_beside(pointer: String, name: &str, needed: &str) -> Problem {
    Problem::new(pointer, format!("`{needed}` is missing, which `{name}` needs beside it"))
}

pub(super) fn unknown<'a>(pointer: String, name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let known: Vec<&str> = known.collect();
    let problem = Problem::new(pointer, "is not a known property").about_key();
    match nearest(name, known.iter().copied()) {
        Some(meant) => problem.with_hint(format!("did you mean `{meant}`?")),
        None if known.is_empty() => problem,
        None => problem.with_hint(format!("known here are {}", known.join(", "))),
    }
}

pub(super) fn nothing_told(pointer: String, marks: &[&str], value: &Value) -> Problem {
    let (last, first) = marks.split_last().map_or(("", &[][..]), |(last, first)| (*last, first));
    let marks = if first.is_empty() { format!("`{last}`") } else { format!("`{}` or `{last}`", first.join("`, `")) };
    about(pointer, format!("must have {marks}"), value)
}

pub(super) fn too_few(pointer: String, least: u64) -> Problem {
    let items = if least == 1 { "item" } else { "items" };
    Problem::new(pointer, format!("must have at least {least} {items}"))
}

pub(super) fn repeated(pointer: String, first: usize, value: &Value) -> Problem {
    about(pointer, format!("is the same as item {first}; items must differ"), value)
}

pub(super) fn too_long(pointer: String, longest: u64, text: &str) -> Problem {
    let message = format!("must have at most {longest} characters, not {}", text.chars().count());
    about(pointer, message, &Value::from(text))
}

pub(super) fn wrong_shape(pointer: String, sentence: &str, text: &str) -> Problem {
    let value = Value::from(text);
    about(pointer, format!("must be {sentence}, not {}", describe(&value)), &value)
}

fn about(pointer: String, message: String, value: &Value) -> Problem {
    Problem::new(pointer, message).with_value(shown(value))
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "empty (null)".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => format!("the string {}", shown(value)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A value as JSON, cut to a length that fits into a line.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().nth(SHOWN_CHARS).is_some() => {
            let start: String = text.chars().take(SHOWN_CHARS).collect();
            format!("{}…", Value::from(start))
        }
        Value::Array(items) => format!("[{} items]", items.len()),
        Value::Object(object) => format!("{{{} properties}}", object.len()),
        plain => plain.to_string(),
    }
}
