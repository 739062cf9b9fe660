//! The tasks of all files: one of a file with a task or a payload, many of a graph. From here on it does not matter which.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;
use tc_payload::Problem;

use super::{
    depend::{self, Named, Placed},
    files::{self, TaskFile},
    graph,
    label::{self, Called},
    reference::{self, Known},
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
    /// Its key in a graph.
    pub key: Option<&'a str>,
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
    let mut found = Vec::new();
    for (file_number, file) in files.iter().enumerate() {
        let value = file.document.value();
        if graph::is_graph(value) {
            let nodes = graph::nodes(value).into_iter();
            found.extend(nodes.map(|node| (file_number, node.task, node.pointer, Some((node.key, node.label)), node.edges)));
        } else {
            found.push((file_number, value, String::new(), None, Vec::new()));
        }
    }
    let sources: Vec<label::Source<'_>> = found
        .iter()
        .map(|(file, value, _, named, _)| label::Source {
            label: match named {
                Some((_, label)) => Some(label::Label::Given(label)),
                None => label::label(value).map(label::Label::Written),
            },
            stem: &files[*file].stem,
            path: files[*file].document.name(),
        })
        .collect();
    let called = label::names(&sources);
    let items = found.into_iter().zip(called).map(|((file_number, value, pointer, named, edges), called)| Item {
        file: &files[file_number],
        file_number,
        value,
        pointer,
        key: named.map(|(key, _)| key),
        edges,
        called,
    });
    items.collect()
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
        let value = match item.key {
            Some(_) => reference::resolve(item.value, "", &known, &mut problems),
            None => item.value.clone(),
        };
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
