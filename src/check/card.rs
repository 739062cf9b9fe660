//! What is remembered of one task, for the rules between tasks. There are many of them, so it is little.

use jiff::Timestamp;

use super::rule::Rule;
use crate::local::state::TaskId;

/// One task.
#[derive(Debug, Default)]
pub(super) struct Card {
    /// Its key in a graph.
    pub(super) key: Option<Box<str>>,
    /// What a task that a template has made is called among the others.
    pub(super) title: Option<Box<str>>,
    /// Its label, if it says one; for tasks of graphs, the key stands in.
    pub(super) label: Option<Box<str>>,
    /// Its id, if that is known.
    pub(super) id: Option<TaskId>,
    /// What it waits for.
    pub(super) waits_for: Vec<Name>,
    /// Tasks that have to be among those.
    pub(super) needs: Vec<Need>,
    /// Its caches.
    pub(super) caches: Vec<CacheUse>,
    /// Its queue, if it names one.
    pub(super) queue: Option<Box<str>>,
    /// When it has to be done.
    pub(super) deadline: Option<Timestamp>,
    /// Until when it is kept.
    pub(super) expires: Option<Timestamp>,
}

impl Card {
    /// A task of which only its key in a graph is known.
    pub(super) fn of_key(key: &str) -> Self {
        Self { key: Some(key.into()), label: Some(key.into()), id: TaskId::parse(key), ..Self::default() }
    }

    /// For people, if it is called something else than its file.
    pub(super) fn called(&self) -> Option<&str> {
        self.title.as_deref().or(self.label.as_deref())
    }
}

/// The name of a task that is waited for.
#[derive(Debug)]
pub(super) struct Name {
    /// A key, an id or a label.
    pub(super) text: Box<str>,
    pub(super) at: At,
}

/// Where a dependency stands.
#[derive(Debug)]
pub(super) enum At {
    /// In a graph, under this name.
    Edge(Box<str>),
    /// In the definition, at this position.
    Entry(usize),
}

/// A task whose artifact is used.
#[derive(Debug)]
pub(super) struct Need {
    /// Where it is named.
    pub(super) pointer: String,
    /// Its id.
    pub(super) task_id: Box<str>,
    /// What is broken if it is not waited for.
    pub(super) rule: &'static Rule,
}

/// A cache in a task.
#[derive(Debug)]
pub(super) struct CacheUse {
    pub(super) name: Box<str>,
    /// Where it is in the task.
    pub(super) path: Box<str>,
    /// Where it is named.
    pub(super) pointer: String,
    pub(super) container: bool,
}
