//! What Linux hands to a program: whoever writes more hears of it before the program is not started.

use serde_json::Value;

use crate::Problem;

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
    strings.flat_map(|(pointer, text)| string(&pointer, text, hint)).take(MAX_PROBLEMS).collect()
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
        let payload = json!({ "command": [["a", longest.clone()], ["b\0", longest + "x", 5], 5] });
        let pointers: Vec<String> = native(&payload).into_iter().map(|problem| problem.pointer).collect();
        assert_eq!(pointers, ["/command/1/0", "/command/1/1"]);
        assert_eq!(native(&json!({})), []);
    }
}
