//! What a file is, told by what is in it.

use serde_json::Value;

use crate::{
    config,
    graph::node::{PAYLOAD, Share},
};

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A task definition, or a bare payload.
    Task,
    /// An object of tasks, as taskgraph writes it.
    Graph,
    /// A `.taskcluster.yml`.
    Template,
    /// The configuration of a worker.
    Config,
}

/// Settings that stand in no other kind of file.
const SETTINGS: [&str; 8] =
    ["rootURL", "accessToken", "workerId", "workerGroup", "tcWorker", "d2gConfig", "ed25519SigningKeyLocation", "tasksDir"];

/// What an object is whose values cannot be looked into, or need not be. `share` says how many look like tasks of a graph.
pub(super) fn of_keys<'k>(keys: impl Iterator<Item = &'k str> + Clone, share: impl FnOnce() -> Share) -> Kind {
    let has = |wanted: &str| keys.clone().any(|key| key == wanted);
    if has("payload") {
        return Kind::Task;
    }
    if share().is_graph(&keys) {
        return Kind::Graph;
    }
    if PAYLOAD.iter().any(|key| has(key)) {
        return Kind::Task;
    }
    let is_own = |key: &str| SETTINGS.iter().any(|setting| setting.eq_ignore_ascii_case(key));
    if keys.clone().any(is_own) {
        return Kind::Config;
    }
    if has("tasks") || (has("version") && keys.clone().any(|key| ["policy", "reporting", "task"].contains(&key))) {
        return Kind::Template;
    }
    // Nothing but settings, and more than one: a configuration in the making.
    let (all, settings) = keys.fold((0, 0), |(all, settings), key| (all + 1, settings + usize::from(config::is_setting(key))));
    if all > 1 && all == settings { Kind::Config } else { Kind::Task }
}

/// What a value is.
pub(super) fn of_value(value: &Value) -> Kind {
    let Value::Object(object) = value else { return Kind::Task };
    of_keys(object.keys().map(String::as_str), || Share::of_value(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_told_by_content() {
        for (value, kind) in [
            (json!({ "command": [["a"]], "maxRunTime": 1 }), Kind::Task),
            (json!({ "payload": {}, "workerType": "x", "provisionerId": "y" }), Kind::Task),
            (json!({ "a": { "task": {} }, "b": { "task": {}, "label": "b" } }), Kind::Graph),
            (json!({ "a": { "task": {} }, "b": { "task": {} }, "c": 5 }), Kind::Graph),
            (json!({ "a": { "task": {} }, "b": 5 }), Kind::Graph),
            (json!({ "a": { "task": {} }, "command": [], "maxRunTime": 1 }), Kind::Task),
            (json!({ "payload": { "task": {} } }), Kind::Task),
            (json!({ "image": { "task": {} }, "command": { "task": {} } }), Kind::Graph),
            (json!({ "version": 1, "tasks": [] }), Kind::Template),
            (json!({ "tasks": { "$let": {}, "in": [] } }), Kind::Template),
            (json!({ "version": 1, "policy": {} }), Kind::Template),
            (json!({ "ROOTURL": "x" }), Kind::Config),
            (json!({ "capacity": 1, "idletimeoutsecs": 5 }), Kind::Config),
            (json!({}), Kind::Graph),
            (json!([]), Kind::Task),
        ] {
            assert_eq!(of_value(&value), kind, "{value}");
        }
    }
}
