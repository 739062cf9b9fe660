//! Names that a payload gives to artifacts, looked at before anything runs.
//!
//! A queue that takes no artifact of a name has its worker resolve the run as `malformed-payload`, when all of the task's work is
//! done. Whoever tries a task here hears of that at once, and of names that only exec itself has no files for, too.

use serde_json::Value;
use tc_payload::{Problem, docker, is_container_payload, native};

use crate::artifact::name::{Written, odd, refused};

/// What is to be said about the names of a valid payload.
#[derive(Debug, Default, PartialEq)]
pub struct Names {
    /// Names for which a queue would refuse the run. Pointers begin at the payload.
    pub refused: Vec<Problem>,
    /// What else its author should know, one line each.
    pub notes: Vec<String>,
}

/// Looks at the names in a payload. What its schema refuses has none.
pub fn names(payload: &Value) -> Names {
    let container = is_container_payload(payload);
    let common = if container { docker::check(payload).map(|payload| payload.common) } else { native::check(payload) };
    let mut names = Names::default();
    for (number, spec) in common.iter().flat_map(|common| &common.artifacts).enumerate() {
        let name = spec.published_name();
        let shown = Value::from(name);
        match (refused(name), odd(name)) {
            // The worker goes on without an artifact that a native task can do without.
            (Some(why), _) if spec.optional && !container => {
                names.notes.push(format!("a queue refuses the artifact {shown}: its name {why}"));
            }
            (Some(why), _) => {
                let message = format!("is no name for an artifact: {why}");
                let hint = "a queue would refuse it, and the run would be malformed-payload";
                names.refused.push(Written::of(spec, number, container).about_name(message).with_hint(hint));
            }
            (None, Some(why)) => names.notes.push(format!("the artifact {shown} will not be saved: its name {why}")),
            (None, None) => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn native(artifacts: &Value) -> Names {
        names(&json!({ "command": [["a"]], "maxRunTime": 1, "artifacts": artifacts }))
    }

    #[test]
    fn what_a_queue_refuses_is_a_problem_unless_the_task_can_do_without() {
        let named = |name: &str, optional| json!({ "type": "file", "path": "x", "name": name, "optional": optional });
        let found = native(&json!([named("public/x", false), named("a\nb", false), named("a\nc", true), named("../x", false)]));
        let pointers: Vec<&str> = found.refused.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/artifacts/1/name"]);
        assert_eq!(found.notes.len(), 2, "{found:?}");
        assert!(found.notes[0].contains(r#""a\nc""#) && found.notes[1].contains("\"../x\" will not be saved"), "{found:?}");
        let container = json!({ "image": "a", "maxRunTime": 1, "artifacts": { "a\nb": { "type": "file", "path": "/x" } } });
        assert_eq!(names(&container).refused[0].pointer, "/artifacts/a\nb");
    }

    #[test]
    fn the_path_is_the_name_where_there_is_none() {
        assert_eq!(native(&json!([{ "type": "directory", "path": "out/" }])), Names::default());
        let found = native(&json!([{ "type": "file", "path": "./x" }, { "type": "file", "path": "" }]));
        assert_eq!((found.notes.len(), found.refused[0].pointer.as_str()), (1, "/artifacts/1/path"));
        assert_eq!(names(&json!({ "artifacts": [5] })), Names::default());
    }
}
