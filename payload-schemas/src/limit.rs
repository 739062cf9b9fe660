//! What Linux hands to a program: whoever writes more hears of it before the program is not started.

use serde_json::Value;

use crate::Problem;
use crate::problem::escape_pointer_segment;

/// Longest string that Linux hands to a program, in bytes without the NUL at its end (`MAX_ARG_STRLEN`).
pub(crate) const MAX_STRING_BYTES: usize = 128 * 1024 - 1;
/// How many problems are described. A hostile payload of 10 MB has millions.
const MAX_PROBLEMS: usize = 500;

/// What the strings of a native payload break. The values may be of any type; what the schema has to say is said elsewhere.
pub fn native(payload: &Value) -> Vec<Problem> {
    let commands = payload.get("command").and_then(Value::as_array).into_iter().flatten().enumerate();
    let strings = commands.flat_map(|(number, command)| {
        let strings = command.as_array().into_iter().flatten().enumerate();
        strings.filter_map(move |(index, text)| Some((format!("/command/{number}/{index}"), text.as_str()?)))
    });
    let hint = "put a long script into a file, or into an artifact that the task downloads";
    let strings = strings.flat_map(|(pointer, text)| string(&pointer, text, hint));
    let variables = variables(payload).flat_map(|(name, value)| variable(name, value));
    strings.chain(variables).take(MAX_PROBLEMS).collect()
}

/// Variables of a native payload whose names reach its commands as other names than were written.
pub fn native_names(payload: &Value) -> Vec<Problem> {
    let named = variables(payload).filter_map(|(name, _)| Some((name, odd_name(name)?)));
    named.map(|(name, why)| Problem::new(pointer_to(name), why).about_key()).take(MAX_PROBLEMS).collect()
}

/// The variables of a payload, if they are texts.
pub(crate) fn variables(payload: &Value) -> impl Iterator<Item = (&str, &str)> {
    let members = payload.get("env").and_then(Value::as_object).into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
}

fn pointer_to(variable: &str) -> String {
    format!("/env/{}", escape_pointer_segment(variable))
}

/// Why a program would see a variable under another name. Containers cannot be given one at all.
fn odd_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("is a variable without a name"),
        name if name.contains('=') => Some("has `=` in its name, where its value would begin"),
        _ => None,
    }
}

/// What a variable breaks in a container.
pub(crate) fn variable_of_container(name: &str, value: &str) -> Vec<Problem> {
    let odd = odd_name(name).map(|why| Problem::new(pointer_to(name), why).about_key());
    odd.into_iter().chain(variable(name, value)).collect()
}

/// What a variable breaks everywhere.
fn variable(name: &str, value: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    if name.contains('\0') {
        problems.push(Problem::new(pointer_to(name), "has a NUL character in its name").about_key());
    }
    if value.contains('\0') {
        problems.push(Problem::new(pointer_to(name), "has a NUL character, which no variable can hold"));
    }
    let bytes = name.len() + 1 + value.len();
    if bytes > MAX_STRING_BYTES {
        let hint = "put a long value into an artifact that the task downloads";
        problems.push(too_long(&pointer_to(name), bytes, " with its name").with_hint(hint));
    }
    problems
}

/// What a string of a command breaks.
pub(crate) fn string(pointer: &str, text: &str, hint: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    if text.contains('\0') {
        problems.push(Problem::new(pointer, "has a NUL character, which no program can be given"));
    }
    if text.len() > MAX_STRING_BYTES {
        problems.push(too_long(pointer, text.len(), "").with_hint(hint));
    }
    problems
}

pub(crate) fn too_long(pointer: &str, bytes: usize, counted: &str) -> Problem {
    let message = format!(
        "has {bytes} bytes{counted}; Linux hands a program at most {MAX_STRING_BYTES} bytes in one string (MAX_ARG_STRLEN)"
    );
    Problem::new(pointer, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strings_of_each_command_are_looked_at() {
        let longest = "x".repeat(MAX_STRING_BYTES);
        let env = json!({ "A": "a\0b", "B\0": "", "C": longest.clone(), "D": longest[2..], "E=F": "", "": "", "G": 5 });
        let payload = json!({ "command": [["a", longest.clone()], ["b\0", longest + "x", 5], 5], "env": env });
        let pointers = |problems: Vec<Problem>| problems.into_iter().map(|problem| problem.pointer).collect::<Vec<_>>();
        assert_eq!(pointers(native(&payload)), ["/command/1/0", "/command/1/1", "/env/A", "/env/B\0", "/env/C"]);
        assert_eq!(pointers(native_names(&payload)), ["/env/E=F", "/env/"]);
        assert_eq!(native(&json!({})), []);
    }
}
