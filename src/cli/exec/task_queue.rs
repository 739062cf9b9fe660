//! Tasks that need no worker.

use serde_json::Value;
use tc_payload::Problem;

use crate::local::{definition::task_queue_id, state::BuiltIn};

/// How the queue resolves a task itself, if it is one of those. A bare payload is none.
pub fn built_in(definition: &Value) -> Option<BuiltIn> {
    definition.get("payload")?;
    BuiltIn::of(&task_queue_id(definition)?)
}

/// What is wrong with the payload of such a task. The pointer begins at the task.
pub fn problem(definition: &Value) -> Option<Problem> {
    let is_empty = definition.get("payload").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty);
    let message = "must be an empty object: the queue resolves this task itself, and nothing is run";
    (!is_empty).then(|| Problem::new("/payload", message).with_hint("write {}, or name another task queue"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tasks_that_the_queue_resolves_have_an_empty_payload() {
        let whole = json!({ "taskQueueId": "built-in/fail", "payload": {} });
        let halves = json!({ "provisionerId": "built-in", "workerType": "succeed", "payload": { "command": [] } });
        assert_eq!((built_in(&whole), problem(&whole)), (Some(BuiltIn::Fail), None));
        assert_eq!(built_in(&halves), Some(BuiltIn::Succeed));
        assert_eq!(problem(&halves).map(|problem| problem.pointer).as_deref(), Some("/payload"));
        for other in
            [json!({ "taskQueueId": "built-in/other", "payload": {} }), json!({ "taskQueueId": "built-in/fail" }), json!(5)]
        {
            assert_eq!(built_in(&other), None, "{other}");
        }
    }
}
