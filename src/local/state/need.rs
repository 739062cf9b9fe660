//! Who waits for whom: one entry for each dependency of each task on the books, ordered by both.
//!
//! An entry is satisfied once, as soon as the dependency stands as the dependent requires, and stays so if the dependency is run again. It goes
//! with its dependent, not with the dependency: by then, the dependent waits for nothing any more. How many
//! entries of a task are not satisfied is also in the task, so that nobody has to count.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Bound,
};

use super::TaskId;

/// All dependencies.
#[derive(Debug, Default)]
pub(super) struct Needs(BTreeMap<(TaskId, TaskId), bool>);

impl Needs {
    /// `dependent` depends on `on`, which is satisfied or not.
    pub(super) fn add(&mut self, on: TaskId, dependent: TaskId, satisfied: bool) {
        self.0.insert((on, dependent), satisfied);
    }

    /// There is no such dependent any more.
    pub(super) fn remove(&mut self, on: TaskId, dependent: TaskId) {
        self.0.remove(&(on, dependent));
    }

    /// Up to `limit` of those that depend on a task, in the order of their ids, after one of them.
    pub(super) fn page(&self, on: TaskId, after: Option<TaskId>, limit: usize) -> Vec<TaskId> {
        self.range(on, after).map(|(dependent, _)| dependent).take(limit).collect()
    }

    /// Those that still wait for a task.
    pub(super) fn waiting(&self, on: TaskId) -> Vec<TaskId> {
        self.range(on, None).filter(|(_, satisfied)| !satisfied).map(|(dependent, _)| dependent).collect()
    }

    /// Those that depend on a task and do not wait for it any more.
    pub(super) fn satisfied(&self, on: TaskId) -> Vec<TaskId> {
        self.range(on, None).filter(|(_, satisfied)| *satisfied).map(|(dependent, _)| dependent).collect()
    }

    /// Whether the dependent does not wait for that task any more.
    pub(super) fn is_satisfied(&self, on: TaskId, dependent: TaskId) -> bool {
        self.0.get(&(on, dependent)).copied().unwrap_or_default()
    }

    /// All at once, which is faster than one by one.
    pub(super) fn of(mut all: Vec<((TaskId, TaskId), bool)>) -> Self {
        all.sort_unstable();
        Self(all.into_iter().collect())
    }

    /// That need is satisfied now.
    pub(super) fn satisfy(&mut self, on: TaskId, dependent: TaskId) {
        self.0.insert((on, dependent), true);
    }

    fn range(&self, on: TaskId, after: Option<TaskId>) -> impl Iterator<Item = (TaskId, bool)> + use<'_> {
        let from = Bound::Excluded((on, after.unwrap_or(TaskId::FIRST)));
        let range: btree_map::Range<'_, _, _> = self.0.range((from, Bound::Included((on, TaskId::LAST))));
        range.map(|((_, dependent), satisfied)| (*dependent, *satisfied))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
