//! Which of the files' tasks wait for which: ids, dependencies, and the order in which the queue gets to know them.
//!
//! A file may give its task an id with the key `taskId` beside `payload`, a graph with the key of the task; others get one. An
//! entry of `dependencies` is the id or the label of another task. What names no task of this session is left out, since
//! nobody here would ever run it; in a graph that has to be an id.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
};

use serde_json::Value;
use tc_payload::Problem;

use crate::{graph::reference, local::state::TaskId};

/// The key beside `payload`.
pub const TASK_ID: &str = "taskId";

/// One task, before it is a definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Named<'a> {
    /// Its definition, or a bare payload.
    pub value: &'a Value,
    /// By which others may name it.
    pub label: &'a str,
    /// Its key in a graph, which may be an id.
    pub key: Option<&'a str>,
    /// Names of dependencies, each with the key of the task of the same graph that it stands for.
    pub edges: Vec<(&'a str, &'a str)>,
    /// Entries of its `dependencies` may be references to those names.
    pub may_refer: bool,
    /// The file that it is in.
    pub file: usize,
}

/// One task's place among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its id.
    pub id: String,
    /// The tasks that it waits for, by position.
    pub waits_for: Vec<usize>,
    /// For each edge the task that it leads to, by position, if that is here.
    pub edges: Vec<Option<usize>>,
    /// Names that it waits for and that name nothing here.
    pub unknown: Vec<String>,
}

/// The id that a file gives its task, or what is wrong with it. The pointer is relative to the file.
pub fn declared_id(value: &Value) -> Result<Option<&str>, Problem> {
    // In a bare payload the key is not ours to judge.
    if value.get("payload").is_none() {
        return Ok(None);
    }
    match value.get(TASK_ID) {
        None => Ok(None),
        Some(Value::String(id)) if is_slugid(id) => Ok(Some(id)),
        Some(_) => Err(Problem::new("/taskId", "is no task id: 22 letters of the kind that slugid.v4 makes")
            .with_hint("leave taskId out, and the task gets an id")),
    }
}

/// Whether this is the text of a version 4 UUID in URL-safe base64, as ids of tasks are.
pub fn is_slugid(id: &str) -> bool {
    TaskId::parse(id).is_some()
}

/// Places all tasks. `fresh` makes an id for each that has none.
pub fn place(tasks: &[Named<'_>], mut fresh: impl FnMut() -> String) -> Vec<Placed> {
    let ids: Vec<String> = tasks
        .iter()
        .map(|task| {
            let key = task.key.filter(|key| is_slugid(key));
            declared_id(task.value).ok().flatten().or(key).map_or_else(&mut fresh, str::to_owned)
        })
        .collect();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (position, task) in tasks.iter().enumerate() {
        known.entry(task.label).or_insert(position);
    }
    // An id is not to be mistaken: it goes before a label.
    known.extend(ids.iter().enumerate().map(|(position, id)| (id.as_str(), position)));
    // A key means something in its own graph only.
    let keys: HashMap<(usize, &str), usize> =
        tasks.iter().enumerate().filter_map(|(position, task)| Some(((task.file, task.key?), position))).collect();
    let placed = tasks.iter().zip(&ids).map(|(task, id)| {
        let named = task.value.get("payload").and_then(|_| task.value.get("dependencies")).and_then(Value::as_array);
        let find = |name: &str| keys.get(&(task.file, name)).or_else(|| known.get(name)).copied();
        let edges: Vec<Option<usize>> = task.edges.iter().map(|(_, key)| find(key)).collect();
        let leads_to = |name: &str| {
            let (at, (_, key)) = task.edges.iter().enumerate().find(|(_, (edge, _))| *edge == name)?;
            Some(edges[at].map_or_else(|| (*key).to_owned(), |to| ids[to].clone()))
        };
        let named = named.into_iter().flatten().filter_map(|entry| match entry {
            Value::String(name) => Some(Cow::Borrowed(name.as_str())),
            other if task.may_refer => reference::dependency(other, id, &leads_to).map(Cow::Owned),
            _ => None,
        });
        let (mut waits_for, mut unknown, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        let found = task.edges.iter().map(|(_, key)| Cow::Borrowed(*key)).zip(edges.iter().copied());
        let named = named.map(|name| {
            let position = find(&name);
            (name, position)
        });
        for (name, position) in found.chain(named) {
            match position {
                Some(position) if seen.insert(position) => waits_for.push(position),
                Some(_) => {}
                None => unknown.push(name.into_owned()),
            }
        }
        Placed { id: id.clone(), waits_for, edges, unknown }
    });
    placed.collect()
}

/// Positions in an order in which each comes after those it waits for, as near to the given order as that allows; and the
/// positions that have none: they wait for themselves, directly or through others, or for such tasks.
pub fn order(placed: &[Placed]) -> (Vec<usize>, Vec<usize>) {
    let mut dependents = vec![Vec::new(); placed.len()];
    let mut missing: Vec<usize> = placed.iter().map(|task| task.waits_for.len()).collect();
    for (position, task) in placed.iter().enumerate() {
        for on in &task.waits_for {
            dependents[*on].push(position);
        }
    }
    let ready = missing.iter().enumerate().filter(|(_, missing)| **missing == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = ready.map(|(position, _)| Reverse(position)).collect();
    let mut ordered = Vec::with_capacity(placed.len());
    while let Some(Reverse(position)) = ready.pop() {
        ordered.push(position);
        for next in &dependents[position] {
            missing[*next] -= 1;
            if missing[*next] == 0 {
                ready.push(Reverse(*next));
            }
        }
    }
    let circular = (0..placed.len()).filter(|position| missing[*position] > 0).collect();
    (ordered, circular)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BUILD: &str = "fN1SbArXTPSVFNUvaOlinQ";

    fn placed(tasks: &[(&str, Value)]) -> Vec<Placed> {
        let named: Vec<_> = tasks
            .iter()
            .map(|(label, value)| Named { value, label, key: None, edges: Vec::new(), may_refer: false, file: 0 })
            .collect();
        let mut count = 0;
        place(&named, || {
            count += 1;
            format!("made-{count}")
        })
    }

    #[test]
    fn tasks_are_named_by_id_and_by_label() {
        let placed = placed(&[
            ("use", json!({ "payload": {}, "dependencies": [BUILD, "build", "nobody"] })),
            ("build", json!({ "payload": {}, "taskId": BUILD })),
        ]);
        assert_eq!(
            placed[0],
            Placed { id: "made-1".into(), waits_for: vec![1], edges: vec![], unknown: vec!["nobody".into()] }
        );
        assert_eq!(placed[1], Placed { id: BUILD.into(), waits_for: vec![], edges: vec![], unknown: vec![] });
        assert_eq!(order(&placed), (vec![1, 0], vec![]));
    }

    #[test]
    fn a_bare_payload_waits_for_nothing() {
        let placed = placed(&[("a", json!({ "dependencies": ["b"] })), ("b", json!({ "payload": {} }))]);
        assert_eq!(placed[0].waits_for, [0_usize; 0]);
    }

    #[test]
    fn keys_of_a_graph_are_ids_or_name_tasks_of_the_same_graph() {
        let task = json!({ "payload": {} });
        let node = |key, edges: &[&'static str], file| {
            let edges = edges.iter().map(|edge| ("edge", *edge)).collect();
            Named { value: &task, label: key, key: Some(key), edges, may_refer: true, file }
        };
        let tasks = [node(BUILD, &[], 0), node("b", &[BUILD, "b2"], 0), node("b2", &[], 1), node("b2", &[], 0)];
        let placed = place(&tasks, || "fresh".to_owned());
        assert_eq!((placed[0].id.as_str(), placed[1].id.as_str()), (BUILD, "fresh"));
        assert_eq!(placed[1].waits_for, [0, 3]);
    }

    #[test]
    fn dependencies_of_a_graph_may_be_references() {
        let refer = |names: &[&str]| {
            let entries: Vec<Value> = names.iter().map(|name| json!({ "task-reference": name })).collect();
            json!({ "payload": {}, "dependencies": entries })
        };
        let values = [refer(&["<e>", "<out>", "<decision>", "<nothing>"]), refer(&[]), refer(&["<self>"])];
        let node =
            |at: usize, key, edges| Named { value: &values[at], label: key, key: Some(key), edges, may_refer: true, file: 0 };
        let tasks = [node(0, "a", vec![("e", "b"), ("out", BUILD)]), node(1, "b", vec![]), node(2, "c", vec![])];
        let mut count = 0;
        let placed = place(&tasks, || {
            count += 1;
            format!("made-{count}")
        });
        assert_eq!((placed[0].waits_for.as_slice(), placed[2].waits_for.as_slice()), ([1].as_slice(), [2].as_slice()));
        assert!(placed[0].unknown.iter().all(|name| name == BUILD), "{placed:?}");
        let mut alone = tasks[0].clone();
        alone.may_refer = false;
        assert_eq!(place(&[alone], || "x".to_owned())[0].unknown, ["b", BUILD]);
    }

    #[test]
    fn what_waits_for_itself_has_no_order() {
        let task = |on: &[&str]| json!({ "payload": {}, "dependencies": on });
        let placed =
            placed(&[("a", task(&["b"])), ("b", task(&["c"])), ("c", task(&["b"])), ("d", task(&[])), ("e", task(&["e"]))]);
        assert_eq!(order(&placed), (vec![3], vec![0, 1, 2, 4]));
    }

    #[test]
    fn many_tasks_are_ordered_without_a_walk_over_all_of_them_for_each() {
        // Backwards, so that each walk over all of them would order a single one.
        let last = 99_999_usize;
        let placed: Vec<Placed> = (0..=last)
            .map(|position| Placed {
                id: String::new(),
                waits_for: (position < last).then_some(position + 1).into_iter().collect(),
                edges: Vec::new(),
                unknown: Vec::new(),
            })
            .collect();
        let (ordered, circular) = order(&placed);
        assert_eq!((ordered.len(), ordered[0], ordered[last], circular.len()), (100_000, last, 0, 0));
    }

    #[test]
    fn an_id_has_to_be_one() {
        assert_eq!(declared_id(&json!({ "payload": {}, "taskId": BUILD })), Ok(Some(BUILD)));
        assert_eq!(declared_id(&json!({ "taskId": "anything" })), Ok(None), "it is a bare payload");
        for id in [json!("short"), json!(5), json!("fN1SbArXTPSVFNUvaOlinB"), json!("fN1SbArXaPSVFNUvaOlinQ"), json!(null)] {
            assert!(declared_id(&json!({ "payload": {}, "taskId": id })).is_err(), "{id}");
        }
    }
}
