//! Lanes: per task queue, the runs that wait for a worker and the workers that wait for a run.
//!
//! At most one of the two is ever non-empty once [`Lane::settle`] has been called, so a claim that finds nothing is at the end of the line,
//! and nobody overtakes it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Priority, TaskId, Worker};

/// A worker's place in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A run's place in its lane: urgent first, then old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) priority: Priority,
    pub(super) age: u64,
}

/// A worker that waits.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub(super) worker: Arc<Worker>,
    pub(super) count: usize,
}

#[derive(Debug, Default)]
struct Lane {
    pending: BTreeMap<Place, TaskId>,
    waiting: BTreeMap<Ticket, Waiter>,
}

/// All lanes.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    by_name: HashMap<Arc<str>, Lane>,
    tickets: HashMap<Ticket, Arc<str>>,
    next_age: u64,
    next_ticket: u64,
    one_for_all: bool,
}

impl Lanes {
    /// Lanes by task queue, or a single one that serves every claim with every task.
    pub(super) fn new(one_for_all: bool) -> Self {
        Self { one_for_all, ..Self::default() }
    }

    fn name(&self, task_queue_id: &Arc<str>) -> Arc<str> {
        if self.one_for_all { Arc::from("") } else { task_queue_id.clone() }
    }

    /// A place behind all that are there.
    pub(super) fn new_place(&mut self, priority: Priority) -> Place {
        self.next_age += 1;
        Place { priority, age: self.next_age }
    }

    /// A place that was given out before.
    pub(super) fn old_place(&mut self, priority: Priority, age: u64) -> Place {
        self.next_age = self.next_age.max(age);
        Place { priority, age }
    }

    /// Puts the task at its place.
    pub(super) fn put(&mut self, task_queue_id: &Arc<str>, place: Place, task: TaskId) {
        self.by_name.entry(self.name(task_queue_id)).or_default().pending.insert(place, task);
    }

    /// Takes the task from its place.
    pub(super) fn take(&mut self, task_queue_id: &Arc<str>, place: Place) {
        let name = self.name(task_queue_id);
        if let Some(lane) = self.by_name.get_mut(&name) {
            lane.pending.remove(&place);
            self.forget_if_empty(&name);
        }
    }

    /// Takes up to `count` tasks, the first first.
    pub(super) fn take_first(&mut self, task_queue_id: &Arc<str>, count: usize) -> Vec<TaskId> {
        let name = self.name(task_queue_id);
        let Some(lane) = self.by_name.get_mut(&name) else { return Vec::new() };
        let taken = std::iter::from_fn(|| lane.pending.pop_first()).take(count).map(|(_, task)| task).collect();
        self.forget_if_empty(&name);
        taken
    }

    /// Puts a worker at the end of the line.
    pub(super) fn join(&mut self, task_queue_id: &Arc<str>, waiter: Waiter) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let name = self.name(task_queue_id);
        self.tickets.insert(ticket, name.clone());
        self.by_name.entry(name).or_default().waiting.insert(ticket, waiter);
        ticket
    }

    /// Takes a worker out of the line; no matter if it has been served.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if let Some(name) = self.tickets.remove(&ticket) {
            if let Some(lane) = self.by_name.get_mut(&name) {
                lane.waiting.remove(&ticket);
            }
            self.forget_if_empty(&name);
        }
    }

    /// The worker that is served next in the lane of this task queue, if it waits and a run waits, too.
    pub(super) fn serve(&mut self, task_queue_id: &Arc<str>) -> Option<(Ticket, Waiter)> {
        let name = self.name(task_queue_id);
        let lane = self.by_name.get_mut(&name)?;
        if lane.pending.is_empty() {
            return None;
        }
        let served = lane.waiting.pop_first()?;
        self.tickets.remove(&served.0);
        Some(served)
    }

    /// How many runs are pending and how many workers wait in this queue's lane.
    #[cfg(test)]
    pub(super) fn lengths(&self, task_queue_id: &Arc<str>) -> (usize, usize) {
        self.by_name.get(&self.name(task_queue_id)).map_or((0, 0), |lane| (lane.pending.len(), lane.waiting.len()))
    }

    fn forget_if_empty(&mut self, name: &Arc<str>) {
        if self.by_name.get(name).is_some_and(|lane| lane.pending.is_empty() && lane.waiting.is_empty()) {
            self.by_name.remove(name);
        }
    }
}
