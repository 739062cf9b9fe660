//! The tasks of all files: one of a file with a task or a payload, many of a graph. From here on it does not matter which.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;
use tc_payload::{Problem, apply_places};

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

/// The value of a task with all references resolved, and everything that is wrong with it, with places.
pub fn checked(items: &[Item<'_>], placed: &[Placed], number: usize, root_url: &str) -> (Value, Vec<Problem>) {
    let item = &items[number];
    let mut problems = Vec::new();
    let edges: HashMap<&str, &str> = item.edges.iter().copied().collect();
    let task = |name: &str| {
        let key = edges.get(name)?;
        let at = items.iter().position(|other| other.file_number == item.file_number && other.key == Some(key))?;
        Some(placed[at].id.clone())
    };
    let known = Known { task: &task, own_id: &placed[number].id, root_url, now: Timestamp::now() };
    // Only graphs have references; in a task of its own such an object is what it looks like.
    let value = match item.key {
        Some(_) => reference::resolve(item.value, "", &known, &mut problems),
        None => item.value.clone(),
    };
    match depend::declared_id(item.value) {
        Err(problem) => problems.push(problem),
        Ok(Some(id)) if placed[..number].iter().any(|other| other.id == id) => {
            problems.push(Problem::new("/taskId", "is the id of another task, too"));
        }
        Ok(_) => {}
    }
    apply_places(&mut problems, &item.file.document, &item.pointer);
    // A reference that could not be resolved is an object where a text is wanted; that is no second problem.
    if problems.is_empty() {
        problems.extend(files::problems(&item.file.document, &value, &item.pointer));
    }
    (value, problems)
}
