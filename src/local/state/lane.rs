//! Lanes: per task queue, the runs that wait for a worker, the workers that wait for a run, and the runs that workers hold.
//!
//! Of the first two at most one is ever non-empty between two calls of the state machine, so a claim that finds nothing is at the end of the
//! line, and nobody overtakes it. Where one lane serves all task queues, those who look at one of them see only its own.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::Bound,
    sync::Arc,
};

use super::{Priority, TaskId, Worker};

/// A worker's place in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A run's place in its lane: urgent first, then old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub(super) priority: Priority,
    pub(super) age: u64,
}

impl Place {
    /// The place that [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (priority, age) = text.rsplit_once('.')?;
        Some(Self { priority: Priority::parse(priority)?, age: age.parse().ok()? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.priority.as_str(), self.age)
    }
}

/// A worker that waits.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub(super) worker: Arc<Worker>,
    /// What it asked for, also where one lane serves all.
    pub(super) queue: Arc<str>,
    pub(super) count: usize,
}

#[derive(Debug, Default)]
struct Lane {
    pending: BTreeMap<Place, TaskId>,
    claimed: BTreeMap<Place, TaskId>,
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

    /// Takes the task from its place, pending or claimed.
    pub(super) fn take(&mut self, task_queue_id: &Arc<str>, place: Place) {
        let name = self.name(task_queue_id);
        if let Some(lane) = self.by_name.get_mut(&name) {
            if lane.pending.remove(&place).is_none() {
                lane.claimed.remove(&place);
            }
            self.forget_if_empty(&name);
        }
    }

    /// Makes up to `count` pending tasks claimed ones, the first first. They keep their places.
    pub(super) fn claim_first(&mut self, task_queue_id: &Arc<str>, count: usize) -> Vec<TaskId> {
        let name = self.name(task_queue_id);
        let Some(lane) = self.by_name.get_mut(&name) else { return Vec::new() };
        let first = std::iter::from_fn(|| lane.pending.pop_first()).take(count);
        first
            .map(|(place, task)| {
                lane.claimed.insert(place, task);
                task
            })
            .collect()
    }

    /// Puts a claimed task at its place, after a restart.
    pub(super) fn put_claimed(&mut self, task_queue_id: &Arc<str>, place: Place, task: TaskId) {
        self.by_name.entry(self.name(task_queue_id)).or_default().claimed.insert(place, task);
    }

    /// Another place for a pending or claimed task.
    pub(super) fn reorder(&mut self, task_queue_id: &Arc<str>, old: Place, new: Place) {
        let name = self.name(task_queue_id);
        let Some(lane) = self.by_name.get_mut(&name) else { return };
        for tasks in [&mut lane.pending, &mut lane.claimed] {
            if let Some(task) = tasks.remove(&old) {
                tasks.insert(new, task);
            }
        }
    }

    /// Makes one pending task a claimed one.
    pub(super) fn claim_at(&mut self, task_queue_id: &Arc<str>, place: Place) {
        let name = self.name(task_queue_id);
        if let Some(lane) = self.by_name.get_mut(&name)
            && let Some(task) = lane.pending.remove(&place)
        {
            lane.claimed.insert(place, task);
        }
    }

    /// Puts a worker at the end of the line.
    pub(super) fn join(&mut self, task_queue_id: &Arc<str>, waiter: Waiter) -> Ticket {
        let ticket = self.void_ticket();
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

    /// How many runs of this queue are pending and how many are claimed. Where one lane serves all queues, `is_its_own` tells its tasks from
    /// others; else nobody is asked.
    pub(super) fn counts(&self, task_queue_id: &Arc<str>, is_its_own: impl Fn(TaskId) -> bool) -> (usize, usize) {
        let Some(lane) = self.by_name.get(&self.name(task_queue_id)) else { return (0, 0) };
        let count = |tasks: &BTreeMap<Place, TaskId>| {
            if self.one_for_all { tasks.values().filter(|task| is_its_own(**task)).count() } else { tasks.len() }
        };
        (count(&lane.pending), count(&lane.claimed))
    }

    /// Up to `limit` pending or claimed tasks of this queue that come after a place; `is_its_own` as for [`Self::counts`].
    pub(super) fn page(
        &self,
        queue: &Arc<str>,
        claimed: bool,
        (after, limit): (Option<Place>, usize),
        is_its_own: impl Fn(TaskId) -> bool,
    ) -> Vec<(Place, TaskId)> {
        let Some(lane) = self.by_name.get(&self.name(queue)) else { return Vec::new() };
        let tasks = if claimed { &lane.claimed } else { &lane.pending };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let beyond = tasks.range((from, Bound::Unbounded)).map(|(place, task)| (*place, *task));
        beyond.filter(|(_, task)| !self.one_for_all || is_its_own(*task)).take(limit).collect()
    }

    /// A ticket for the end of no line: it is never served.
    pub(super) fn void_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// How many runs are pending and how many workers wait in this queue's lane.
    #[cfg(test)]
    pub(super) fn lengths(&self, task_queue_id: &Arc<str>) -> (usize, usize) {
        self.by_name.get(&self.name(task_queue_id)).map_or((0, 0), |lane| (lane.pending.len(), lane.waiting.len()))
    }

    /// Whether nothing is left of any lane.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.tickets.is_empty()
    }

    fn forget_if_empty(&mut self, name: &Arc<str>) {
        if self
            .by_name
            .get(name)
            .is_some_and(|lane| lane.pending.is_empty() && lane.claimed.is_empty() && lane.waiting.is_empty())
        {
            self.by_name.remove(name);
        }
    }
}
