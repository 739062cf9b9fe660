//! Graphs of tasks in one file, as taskgraph writes them: an object with a task for each key.
//!
//! The keys are labels or ids of tasks; each value has the definition under `task`, mostly a `label`, and in `dependencies`
//! the keys of the tasks that it waits for, each under the name by which the definition refers to it.

use serde_json::Value;
use tc_payload::escape_pointer_segment;

/// One task of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Node<'a> {
    /// Its key in the graph.
    pub key: &'a str,
    /// For people: the label if it has one, else the key.
    pub label: &'a str,
    /// Its definition, with references.
    pub task: &'a Value,
    /// Where that is in the file.
    pub pointer: String,
    /// Names of dependencies, each with the key of the task that it stands for.
    pub edges: Vec<(&'a str, &'a str)>,
}

/// Whether a file is a graph, and not a task or a payload.
pub fn is_graph(value: &Value) -> bool {
    let Some(nodes) = value.as_object() else { return false };
    let is_node = |node: &Value| node.get("task").is_some_and(Value::is_object);
    !nodes.is_empty() && !nodes.contains_key("payload") && nodes.values().all(is_node)
}

/// The tasks of a graph, in the file's order.
pub fn nodes(value: &Value) -> Vec<Node<'_>> {
    let nodes = value.as_object().into_iter().flatten();
    nodes
        .filter_map(|(key, node)| {
            let edges = node.get("dependencies").and_then(Value::as_object).into_iter().flatten();
            Some(Node {
                key,
                label: node.get("label").and_then(Value::as_str).unwrap_or(key),
                task: node.get("task")?,
                pointer: format!("/{}/task", escape_pointer_segment(key)),
                edges: edges.filter_map(|(name, key)| Some((name.as_str(), key.as_str()?))).collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_graph_is_an_object_of_tasks() {
        let graph = json!({
            "b/1": { "label": "build", "task": { "payload": {} }, "dependencies": {}, "kind": "k" },
            "t": { "task": { "payload": {} }, "dependencies": { "build": "b/1", "odd": 5 } },
        });
        assert!(is_graph(&graph));
        let nodes = nodes(&graph);
        assert_eq!((nodes[0].key, nodes[0].label, nodes[0].pointer.as_str()), ("b/1", "build", "/b~11/task"));
        assert_eq!((nodes[1].label, nodes[1].edges.as_slice()), ("t", [("build", "b/1")].as_slice()));
        assert_eq!(graph.pointer(&nodes[0].pointer), Some(nodes[0].task));
        for other in [json!({}), json!([]), json!({ "payload": { "task": {} } }), json!({ "a": { "task": 1 } }), json!(1)] {
            assert!(!is_graph(&other), "{other}");
        }
    }
}
