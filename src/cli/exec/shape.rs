//! What the queue has against a definition, told before it gets any: with the queue's own rules, and with a place in the file.

use jiff::Timestamp;
use serde_json::Value;
use tc_payload::{Problem, nearest};

use crate::local::definition::{FIELDS, METADATA, disorder, shape};

/// What createTask refuses in a definition that is complete. Pointers begin at the task. Payloads are looked at elsewhere.
pub fn problems(definition: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    for broken in shape(definition) {
        let pointer = broken.pointer.as_str();
        if pointer == "/payload" {
            continue;
        }
        let mut problem = Problem::new(pointer, broken.rule.as_str());
        if broken.rule == "is not a field here" {
            problem = problem.about_key();
            let (of, name) = pointer.rsplit_once('/').unwrap_or_default();
            let known = if of.is_empty() { FIELDS } else { METADATA };
            if let Some(meant) = nearest(name, known.iter().copied()) {
                problem = problem.with_hint(format!("did you mean `{meant}`?"));
            }
        }
        problems.push(problem);
    }
    let date = |key: &str| definition.get(key)?.as_str()?.parse::<Timestamp>().ok();
    if let (Some(created), Some(deadline)) = (date("created"), date("deadline")) {
        let disorder = disorder(created, deadline, date("expires")).into_iter();
        problems.extend(disorder.map(|(field, rule)| Problem::new(format!("/{field}"), rule)));
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_field_that_the_queue_refuses_has_its_place() {
        let mut task = json!({
            "taskQueueId": "a", "created": "2026-01-02T00:00:00Z", "deadline": "2026-01-01T00:00:00Z", "priority": { "a": 1 },
            "dependencies": "x", "requires": "x", "extra": 5, "prority": "low", "payload": 5, "scopes": ["a**"],
            "metadata": { "name": "n", "description": "d", "owner": "o", "source": "s", "sourcr": "" },
        });
        let found = problems(&task);
        let mut pointers: Vec<&str> = found.iter().map(|problem| problem.pointer.as_str()).collect();
        pointers.sort_unstable();
        let expected = [
            "/deadline",
            "/dependencies",
            "/extra",
            "/metadata/source",
            "/metadata/sourcr",
            "/priority",
            "/prority",
            "/requires",
            "/scopes/0",
            "/taskQueueId",
        ];
        assert_eq!(pointers, expected);
        let hints: Vec<&str> = found.iter().filter_map(|problem| problem.hint.as_deref()).collect();
        assert_eq!(hints, ["did you mean `priority`?", "did you mean `source`?"]);
        task = super::super::define::define(&json!({ "maxRunTime": 1 }), "x", &[], &[], Timestamp::now()).definition;
        assert_eq!(problems(&task), [], "what is filled in is fine");
    }
}
