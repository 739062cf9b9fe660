//! Graphs of tasks in one file, as taskgraph writes them: an object with a task for each key.
//!
//! The keys are labels or ids of tasks; each value has the definition under `task`, mostly a `label`, and in `dependencies`
//! the keys of the tasks that it waits for, each under the name by which the definition refers to it.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tc_payload::{Member, Problem, escape_pointer_segment};

/// How many values of an object are looked at to tell whether it is a graph.
const LOOKED_AT: usize = 64;

/// Keys of payloads. An object that has one is a payload, whatever else is in it, unless it is a graph with such labels.
pub const PAYLOAD: [&str; 3] = ["command", "image", "maxRunTime"];

/// How many values of an object look like tasks of a graph. A graph with mistakes in it is still one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// None of them.
    None,
    /// At least one.
    Some,
    /// More than half.
    Most,
}

impl Share {
    fn of(looks: impl Iterator<Item = bool>) -> Self {
        let (mut all, mut nodes) = (0, 0);
        for is_node in looks.take(LOOKED_AT) {
            all += 1;
            nodes += usize::from(is_node);
        }
        match nodes {
            0 => Self::None,
            nodes if nodes * 2 > all => Self::Most,
            _ => Self::Some,
        }
    }

    /// Of a value.
    pub fn of_value(value: &Value) -> Self {
        let values = value.as_object().into_iter().flat_map(|object| object.values());
        Self::of(values.map(|value| value.get("task").is_some_and(Value::is_object)))
    }

    /// Of an object of which only the members are known.
    pub fn of_members(text: &str, members: &[Member]) -> Self {
        #[derive(Deserialize)]
        struct Peek<'t> {
            #[serde(borrow)]
            task: Option<&'t RawValue>,
        }
        Self::of(members.iter().map(|member| {
            let peek = text.get(member.begin..member.end).and_then(|piece| serde_json::from_str::<Peek<'_>>(piece).ok());
            peek.and_then(|peek| peek.task).is_some_and(|task| task.get().starts_with('{'))
        }))
    }

    /// Whether an object with these keys is a graph, and not a task, a payload or a template. An empty one is a graph: taskgraph
    /// writes it when it selects no task.
    pub fn is_graph<'k>(self, keys: &(impl Iterator<Item = &'k str> + Clone)) -> bool {
        let has = |wanted: &str| keys.clone().any(|key| key == wanted);
        let is_template = || has("version") && has("tasks");
        match self {
            Self::Most => !has("payload"),
            Self::Some => !(has("payload") || PAYLOAD.iter().any(|key| has(key)) || is_template()),
            Self::None => keys.clone().next().is_none(),
        }
    }
}

/// One task of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Node<'a> {
    /// Its key in the graph.
    pub key: &'a str,
    /// For people: the label if it has one, else the key.
    pub label: &'a str,
    /// Its definition, with references; `null` if it has none.
    pub task: &'a Value,
    /// Where the node is in the file; the definition is below that.
    pub pointer: String,
    /// Names of dependencies, each with the key of the task that it stands for.
    pub edges: Vec<(&'a str, &'a str)>,
    /// What is wrong with it beside its definition. Pointers begin at the node.
    pub wrong: Vec<Problem>,
}

/// Where the definition is in a node.
pub const TASK: &str = "/task";

/// Whether a file is a graph, and not a task or a payload.
pub fn is_graph(value: &Value) -> bool {
    value.as_object().is_some_and(|nodes| Share::of_value(value).is_graph(&nodes.keys().map(String::as_str)))
}

/// The tasks of a graph, in the file's order.
pub fn nodes(value: &Value) -> Vec<Node<'_>> {
    value.as_object().into_iter().flatten().map(|(key, value)| node(key, value)).collect()
}

fn node<'a>(key: &'a str, node: &'a Value) -> Node<'a> {
    let mut wrong = Vec::new();
    let task = node.get("task").filter(|task| task.is_object());
    if task.is_none() {
        wrong.push(Problem::new("", NO_TASK));
    }
    let mut label = key;
    match node.get("label") {
        Some(Value::String(text)) => label = text,
        Some(other) => wrong.push(Problem::wrong_type("/label", "string", other)),
        None => {}
    }
    let mut edges = Vec::new();
    match node.get("dependencies") {
        Some(Value::Object(named)) => {
            for (name, key) in named {
                match key.as_str() {
                    Some(key) => edges.push((name.as_str(), key)),
                    None => wrong.push(Problem::wrong_type(edge(name), "string", key)),
                }
            }
        }
        Some(other) => wrong.push(Problem::wrong_type("/dependencies", "object", other)),
        None => {}
    }
    let pointer = format!("/{}", escape_pointer_segment(key));
    Node { key, label, task: task.unwrap_or(&Value::Null), pointer, edges, wrong }
}

/// What is said of a node without a definition.
pub const NO_TASK: &str = "is no task of a graph: it has no definition under `task`";

/// Where a node has the dependency of this name.
pub fn edge(name: &str) -> String {
    format!("/dependencies/{}", escape_pointer_segment(name))
}

/// What is said of a name that leads nowhere.
pub fn dangling(name: &str) -> String {
    format!("no task of this graph is {}", Value::from(name.chars().take(80).collect::<String>()))
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
        assert_eq!((nodes[0].key, nodes[0].label, nodes[0].pointer.as_str()), ("b/1", "build", "/b~11"));
        assert_eq!((nodes[1].label, nodes[1].edges.as_slice()), ("t", [("build", "b/1")].as_slice()));
        assert_eq!(graph.pointer(&format!("{}{TASK}", nodes[0].pointer)), Some(nodes[0].task));
        assert!(is_graph(&json!({})), "a graph without tasks");
        for other in [json!([]), json!({ "payload": { "task": {} } }), json!({ "a": { "task": 1 } }), json!(1)] {
            assert!(!is_graph(&other), "{other}");
        }
    }

    #[test]
    fn a_graph_with_mistakes_is_one_and_each_mistake_has_its_place() {
        let graph = json!({ "a": { "task": {} }, "b": 5, "c": { "label": 5, "task": 1, "dependencies": { "x/y": 7 } },
            "d": { "task": {}, "dependencies": [] } });
        assert!(is_graph(&graph));
        let wrong: Vec<String> = nodes(&graph)
            .iter()
            .flat_map(|node| node.wrong.iter().map(|problem| format!("{}{}", node.pointer, problem.pointer)))
            .collect();
        assert_eq!(wrong, ["/b", "/c", "/c/label", "/c/dependencies/x~1y", "/d/dependencies"]);
        for other in [json!({ "a": { "task": {} }, "command": [], "b": 1 }), json!({ "version": 1, "tasks": { "task": {} } })] {
            assert!(!is_graph(&other), "{other}");
        }
    }
}
