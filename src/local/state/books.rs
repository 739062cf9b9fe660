//! The tasks on the books, and which of them have changed since somebody last asked.
//!
//! Whoever may change what has to be kept gets at it through [`Tasks::get_mut`] or [`Tasks::artifacts_mut`], and is noted by that. What can be
//! told from the rest again (who waits for whom, places in lanes, alarms) is no reason for a note.

use std::{collections::HashMap, sync::Arc};

use super::{Task, TaskId, Worker};

/// Something that a journal has to write down anew, or that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// There is a new task.
    New(TaskId),
    /// A task: its runs, its retries, or that it is there at all.
    Task(TaskId),
    /// One artifact of a run.
    Artifact(TaskId, u32, Box<str>),
    /// A name in the index.
    Indexed(Arc<str>),
    /// The seal of a task group.
    Seal(TaskId),
    /// When a task queue was used.
    Queue(Arc<str>),
    /// When a worker was seen at a task queue, and its latest runs.
    Worker(Arc<str>, Arc<Worker>),
    /// A worker's quarantine at a task queue.
    Quarantine(Arc<str>, Arc<Worker>),
}

/// All tasks by their ids.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    by_id: HashMap<TaskId, Task>,
    /// Nothing is noted while nobody wants to know.
    changes: Option<Vec<Change>>,
}

impl Tasks {
    /// From now on changes are noted.
    pub(super) fn note_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// What has changed since the last call of this, in the order in which it changed, perhaps repeatedly.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn note(&mut self, change: impl FnOnce() -> Change) {
        if let Some(changes) = &mut self.changes {
            changes.push(change());
        }
    }

    pub(super) fn get(&self, id: &TaskId) -> Option<&Task> {
        self.by_id.get(id)
    }

    pub(super) fn all(&self) -> &HashMap<TaskId, Task> {
        &self.by_id
    }

    pub(super) fn contains_key(&self, id: &TaskId) -> bool {
        self.by_id.contains_key(id)
    }

    /// A task whose runs or retries are about to change.
    pub(super) fn get_mut(&mut self, id: &TaskId) -> Option<&mut Task> {
        self.note(|| Change::Task(*id));
        self.by_id.get_mut(id)
    }

    /// A task of which nothing will change that has to be kept.
    pub(super) fn get_mut_unnoted(&mut self, id: &TaskId) -> Option<&mut Task> {
        self.by_id.get_mut(id)
    }

    /// A task of which one artifact is about to change.
    pub(super) fn artifacts_mut(&mut self, id: &TaskId, run_id: u32, name: &str) -> Option<&mut Task> {
        self.note(|| Change::Artifact(*id, run_id, name.into()));
        self.by_id.get_mut(id)
    }

    pub(super) fn insert(&mut self, id: TaskId, task: Task) {
        self.note(|| Change::New(id));
        self.by_id.insert(id, task);
    }

    /// A task that was kept.
    pub(super) fn put_unnoted(&mut self, id: TaskId, task: Task) {
        self.by_id.insert(id, task);
    }

    /// Something has changed about a task that is kept and follows from nothing else.
    pub(super) fn note_task(&mut self, id: TaskId) {
        self.note(|| Change::Task(id));
    }

    pub(super) fn remove(&mut self, id: &TaskId) -> Option<Task> {
        let removed = self.by_id.remove(id);
        self.note(|| Change::Task(*id));
        for (run_id, name) in removed.iter().flat_map(|task| task.artifacts.names()) {
            self.note(|| Change::Artifact(*id, run_id, name.into()));
        }
        removed
    }
}
