//! The tasks of all files: one of a file with a task or a payload, many of a graph or a template. From here on it does not matter which.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;
use tc_payload::Problem;

use super::{
    define::{self, Defined},
    depend::{self, Named, Placed},
    files::{self, TaskFile},
    shape,
};
use crate::graph::{
    label::{self, Called},
    node::{self, Node},
    reference::{self, Known},
    rendered::Rendered,
};

/// One task of a file.
pub struct Item<'a> {
    /// Its file.
    pub file: &'a TaskFile,
    /// The number of that.
    pub file_number: usize,
    /// Its definition or payload, as written.
    pub value: &'a Value,
    /// Where the task is in the file.
    pub pointer: String,
    /// Where the definition is below that.
    pub below: &'static str,
    /// The task that a template has made.
    pub rendered: Option<&'a Rendered>,
    /// Its key in a graph, or its id in what a template gave: there is more than this task in its file.
    pub key: Option<&'a str>,
    /// Objects in it may stand for ids, addresses and dates.
    pub has_references: bool,
    /// Names of dependencies with the keys they stand for.
    pub edges: Vec<(&'a str, &'a str)>,
    /// What is wrong around its definition.
    pub wrong: Vec<Problem>,
    /// What it is called.
    pub called: Called,
}

impl Item<'_> {
    /// How messages name it: the file, and its label if there are more in it.
    pub fn shown(&self) -> String {
        let file = self.file.document.name();
        if self.key.is_some() { format!("{file}: {}", self.called.name) } else { file.to_owned() }
    }

    /// Where it says that it waits for another task. The pointer begins at the task's own.
    pub fn pointer_to(&self, placed: &Placed, on: usize) -> String {
        if let Some(edge) = placed.edges.iter().position(|edge| *edge == Some(on)) {
            return node::edge(self.edges[edge].0);
        }
        format!("{}/dependencies", self.below)
    }

    /// The label that is written beside the definition in a graph.
    fn own_label(&self) -> Option<&str> {
        let node = self.file.document.value().pointer(&self.pointer).filter(|_| self.has_references)?;
        node.get("label")?.as_str()
    }

    /// By which others name it.
    pub fn label(&self) -> &str {
        self.called.label.as_deref().unwrap_or(&self.called.name)
    }

    /// Its name for a file's stem where it has none of its own.
    pub fn stem(&self) -> &str {
        if self.key.is_some() { &self.called.name } else { &self.file.stem }
    }
}

/// All tasks, in the order of the files and in their order there.
pub fn items(files: &[TaskFile]) -> Vec<Item<'_>> {
    let mut found: Vec<Found<'_>> = Vec::new();
    for (file_number, file) in files.iter().enumerate() {
        let value = file.document.value();
        let one = Found { file_number, value, pointer: String::new(), rendered: None, named: None, node: None };
        if let Some(rendered) = &file.rendered {
            found.extend(rendered.iter().map(|task| {
                let Rendered { value, pointer } = task;
                let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
                let key = text("/taskId").unwrap_or_default();
                let named = Some((key, text("/metadata/name").unwrap_or(key)));
                Found { value, pointer: pointer.clone(), rendered: Some(task), named, ..one.clone() }
            }));
        } else if node::is_graph(value) {
            found.extend(node::nodes(value).into_iter().map(|node| Found {
                value: node.task,
                pointer: node.pointer.clone(),
                named: Some((node.key, node.label)),
                node: Some(node),
                ..one
            }));
        } else {
            found.push(one);
        }
    }
    let sources: Vec<label::Source<'_>> = found
        .iter()
        .map(|found| label::Source {
            label: match found.named {
                Some((_, label)) => Some(label::Label::Given(label)),
                None => label::label(found.value).map(label::Label::Written),
            },
            stem: &files[found.file_number].stem,
            path: files[found.file_number].document.name(),
        })
        .collect();
    let called = label::names(&sources);
    let items = found.into_iter().zip(called).map(|(found, called)| {
        let has_references = found.node.is_some();
        let (edges, wrong) = found.node.map(|node| (node.edges, node.wrong)).unwrap_or_default();
        Item {
            file: &files[found.file_number],
            file_number: found.file_number,
            value: found.value,
            pointer: found.pointer,
            below: if has_references { node::TASK } else { "" },
            rendered: found.rendered,
            key: found.named.map(|(key, _)| key),
            has_references,
            edges,
            wrong,
            called,
        }
    });
    items.collect()
}

/// A task before it has a name.
#[derive(Clone)]
struct Found<'a> {
    file_number: usize,
    value: &'a Value,
    pointer: String,
    rendered: Option<&'a Rendered>,
    /// Key and label.
    named: Option<(&'a str, &'a str)>,
    node: Option<Node<'a>>,
}

/// Ids and dependencies of all tasks.
pub fn place(items: &[Item<'_>], fresh: impl FnMut() -> String) -> Vec<Placed> {
    let named: Vec<Named<'_>> = items
        .iter()
        .map(|item| Named {
            value: item.value,
            label: item.label(),
            key: item.key,
            edges: item.edges.clone(),
            may_refer: item.has_references,
            file: item.file_number,
        })
        .collect();
    depend::place(&named, fresh)
}

/// Holds tasks against what is known of all of them.
pub struct Finder<'a> {
    items: &'a [Item<'a>],
    placed: &'a [Placed],
    /// The first task with each id.
    first: HashMap<&'a str, usize>,
    /// The first task of each graph with each label that is written there.
    labels: HashMap<(usize, &'a str), usize>,
}

impl<'a> Finder<'a> {
    /// For these tasks, which are in the same order.
    pub fn new(items: &'a [Item<'a>], placed: &'a [Placed]) -> Self {
        let mut first = HashMap::new();
        for (number, placed) in placed.iter().enumerate() {
            first.entry(placed.id.as_str()).or_insert(number);
        }
        let mut labels = HashMap::new();
        for (number, item) in items.iter().enumerate() {
            if let Some(label) = item.own_label() {
                labels.entry((item.file_number, label)).or_insert(number);
            }
        }
        Self { items, placed, first, labels }
    }

    /// The definition of a task for the queue, or everything that is wrong with the task: with pointers below its own, and without
    /// places.
    pub fn checked(&self, number: usize, root_url: &str, now: Timestamp) -> Result<Defined, Vec<Problem>> {
        let (item, placed) = (&self.items[number], &self.placed[number]);
        let mut problems = item.wrong.clone();
        let first = item.own_label().and_then(|label| Some((label, *self.labels.get(&(item.file_number, label))?)));
        if let Some((label, first)) = first.filter(|(_, first)| *first < number) {
            let other = self.items[first].key.unwrap_or_default();
            let message = format!("{} is the label of {}, too", Value::from(label), Value::from(other));
            problems.push(Problem::new("/label", message));
        }
        if item.value.is_null() && item.has_references {
            return Err(problems);
        }
        let elsewhere = |key: &str| depend::is_slugid(key).then(|| key.to_owned());
        let edges = || item.edges.iter().zip(&placed.edges);
        let ids: HashMap<&str, Option<String>> = edges()
            .map(|((name, key), to)| (*name, to.map_or_else(|| elsewhere(key), |to| Some(self.placed[to].id.clone()))))
            .collect();
        for ((name, key), _) in edges().filter(|((name, _), _)| ids.get(name).is_some_and(Option::is_none)) {
            problems.push(Problem::new(node::edge(name), node::dangling(key)));
        }
        let task = |name: &str| {
            let id = ids.get(name)?;
            // What leads nowhere was said once.
            Some(id.clone().unwrap_or_else(|| placed.id.clone()))
        };
        let mut of_definition = Vec::new();
        let known = Known { task: &task, own_id: &placed.id, root_url, now };
        // Only graphs have references; in a task of its own such an object is what it looks like.
        let value = if item.has_references {
            reference::resolve(item.value, "", &known, &mut of_definition)
        } else {
            item.value.clone()
        };
        self.entries(number, &value, &mut of_definition);
        match depend::declared_id(item.value) {
            Err(problem) => of_definition.push(problem),
            Ok(Some(id)) if self.first.get(id).is_some_and(|first| *first < number) => {
                of_definition.push(Problem::new("/taskId", "is the id of another task, too"));
            }
            Ok(_) => {}
        }
        // A reference that could not be resolved is an object where a text is wanted; that is no second problem.
        let mut defined = None;
        if of_definition.is_empty() {
            of_definition = files::problems(&value);
            let dependencies: Vec<&str> = placed.waits_for.iter().map(|on| self.placed[*on].id.as_str()).collect();
            let made = define::define(&value, item.stem(), &dependencies, &placed.unknown, now);
            of_definition.extend(shape::problems(&made.definition));
            defined = Some(made);
        }
        problems.extend(of_definition.into_iter().map(|mut problem| {
            problem.pointer.insert_str(0, item.below);
            problem
        }));
        defined.filter(|_| problems.is_empty()).ok_or(problems)
    }

    /// Looks at the entries of the definition's own `dependencies`: each has to be a text, and in a graph one that leads somewhere.
    /// `value` is the resolved definition.
    fn entries(&self, number: usize, value: &Value, problems: &mut Vec<Problem>) {
        let (item, unknown) = (&self.items[number], &self.placed[number].unknown);
        let entries = value.get("payload").and_then(|_| value.get("dependencies")?.as_array());
        for (position, entry) in entries.into_iter().flatten().enumerate() {
            let at = || format!("/dependencies/{position}");
            match entry.as_str() {
                // That it could not be resolved was told.
                None if item.has_references && reference::is_reference(entry) => {}
                None => problems.push(Problem::wrong_type(at(), "string", entry)),
                Some(name) if item.has_references && !depend::is_slugid(name) && unknown.iter().any(|known| known == name) => {
                    problems.push(Problem::new(at(), node::dangling(name)));
                }
                Some(_) => {}
            }
        }
    }
}
