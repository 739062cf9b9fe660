//! The tasks of all files: one of a file with a task or a payload, many of a graph or a template. From here on it does not matter which.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;
use tc_payload::Problem;

use super::{
    depend::{self, Named, Placed},
    files::{self, TaskFile},
};
use crate::graph::{
    label::{self, Called},
    node,
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
    /// Where that is in the file.
    pub pointer: String,
    /// The task that a template has made.
    pub rendered: Option<&'a Rendered>,
    /// Its key in a graph, or its id in what a template gave: there is more than this task in its file.
    pub key: Option<&'a str>,
    /// Objects in it may stand for ids, addresses and dates.
    pub has_references: bool,
    /// Names of dependencies with the keys they stand for.
    pub edges: Vec<(&'a str, &'a str)>,
    /// What it is called.
    pub called: Called,
}

impl Item<'_> {
    /// How messages name it: the file, and its label if there are more in it.
    pub fn shown(&self) -> String {
        let file = self.file.document.name();
        if self.key.is_some() { format!("{file}: {}", self.called.name) } else { file.to_owned() }
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
        let one = Found {
            file_number,
            value,
            pointer: String::new(),
            rendered: None,
            named: None,
            edges: Vec::new(),
            has_references: false,
        };
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
                pointer: node.pointer,
                named: Some((node.key, node.label)),
                edges: node.edges,
                has_references: true,
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
    let items = found.into_iter().zip(called).map(|(found, called)| Item {
        file: &files[found.file_number],
        file_number: found.file_number,
        value: found.value,
        pointer: found.pointer,
        rendered: found.rendered,
        key: found.named.map(|(key, _)| key),
        has_references: found.has_references,
        edges: found.edges,
        called,
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
    edges: Vec<(&'a str, &'a str)>,
    has_references: bool,
}

/// Ids and dependencies of all tasks.
pub fn place(items: &[Item<'_>], fresh: impl FnMut() -> String) -> Vec<Placed> {
    let named: Vec<Named<'_>> = items
        .iter()
        .map(|item| Named {
            value: item.value,
            label: item.label(),
            key: item.key,
            edges: item.edges.iter().map(|(_, key)| *key).collect(),
            file: item.file_number,
        })
        .collect();
    depend::place(&named, fresh)
}

/// Finds tasks without a walk over all of them.
pub struct Finder<'a> {
    items: &'a [Item<'a>],
    placed: &'a [Placed],
    /// By the number of the file and the key there.
    by_key: HashMap<(usize, &'a str), usize>,
    /// The first task with each id.
    first: HashMap<&'a str, usize>,
}

impl<'a> Finder<'a> {
    /// For these tasks, which are in the same order.
    pub fn new(items: &'a [Item<'a>], placed: &'a [Placed]) -> Self {
        let keys = items.iter().enumerate().filter_map(|(number, item)| Some(((item.file_number, item.key?), number)));
        let mut first = HashMap::new();
        for (number, placed) in placed.iter().enumerate() {
            first.entry(placed.id.as_str()).or_insert(number);
        }
        Self { items, placed, by_key: keys.collect(), first }
    }

    /// The value of a task with all references resolved, and everything that is wrong with it: with pointers below the task's own,
    /// and without places.
    pub fn checked(&self, number: usize, root_url: &str, now: Timestamp) -> (Value, Vec<Problem>) {
        let item = &self.items[number];
        let mut problems = Vec::new();
        let edges: HashMap<&str, &str> = item.edges.iter().copied().collect();
        let task = |name: &str| {
            let at = self.by_key.get(&(item.file_number, *edges.get(name)?))?;
            Some(self.placed[*at].id.clone())
        };
        let known = Known { task: &task, own_id: &self.placed[number].id, root_url, now };
        // Only graphs have references; in a task of its own such an object is what it looks like.
        let value =
            if item.has_references { reference::resolve(item.value, "", &known, &mut problems) } else { item.value.clone() };
        match depend::declared_id(item.value) {
            Err(problem) => problems.push(problem),
            Ok(Some(id)) if self.first.get(id).is_some_and(|first| *first < number) => {
                problems.push(Problem::new("/taskId", "is the id of another task, too"));
            }
            Ok(_) => {}
        }
        // A reference that could not be resolved is an object where a text is wanted; that is no second problem.
        if problems.is_empty() {
            problems = files::problems(&value);
        }
        (value, problems)
    }
}
