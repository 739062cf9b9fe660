//! The fleet: task queues and the workers that were seen at them.
//!
//! They are here for people to look at, except for one thing that decides: a worker in quarantine gets no runs until its date.
//! Nothing of this is a task's, so it expires by itself: a queue or a worker is forgotten a while after it was last seen, when somebody looks next.
//! What is new about them is noted at once; that they were seen once more is noted once a minute, so that a poll costs no write.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Change, Refusal, State, TaskId, Worker, WorkerRecord};

/// How long a task queue is remembered.
const QUEUE_MEMORY: SignedDuration = SignedDuration::from_hours(5 * 24);
/// How long a worker is remembered.
const WORKER_MEMORY: SignedDuration = SignedDuration::from_hours(24);
/// How many runs of a worker are remembered.
const RECENT_RUNS: usize = 20;
/// How much later something has been seen than is noted, at most.
const UNNOTED: SignedDuration = SignedDuration::from_mins(1);
/// How many changes of a worker's quarantine are remembered.
const QUARANTINE_CHANGES: usize = 100;

/// A task queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    /// `taskQueueId`
    pub task_queue_id: Arc<str>,
    /// When a worker was last seen at it, or its first task was created.
    pub last_active: Timestamp,
    /// When it is forgotten unless it is seen before.
    pub expires: Timestamp,
}

/// A change of a worker's quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantined {
    /// Until when it was put there; a date in the past lets it out.
    pub until: Timestamp,
    /// When that was.
    pub at: Timestamp,
    /// Who did it.
    pub client_id: Box<str>,
    /// Why.
    pub info: Box<str>,
}

/// What is known of a worker at a task queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When it was first seen.
    pub first_claim: Timestamp,
    /// When it was last seen.
    pub last_active: Timestamp,
    /// When it is forgotten unless it is seen before.
    pub expires: Timestamp,
    /// Its latest runs, the latest last.
    pub recent: VecDeque<(TaskId, u32)>,
    /// Changes of its quarantine, the latest last.
    pub quarantine: Vec<Quarantined>,
}

impl Seen {
    /// Until when it gets no runs, if it was ever put into quarantine.
    pub fn quarantine_until(&self) -> Option<Timestamp> {
        self.quarantine.last().map(|change| change.until)
    }

    fn new(now: Timestamp) -> Self {
        Self {
            first_claim: now,
            last_active: now,
            expires: after(now, WORKER_MEMORY),
            recent: VecDeque::new(),
            quarantine: Vec::new(),
        }
    }

    fn active(&mut self, now: Timestamp) {
        self.last_active = self.last_active.max(now);
        self.expires = self.expires.max(after(now, WORKER_MEMORY));
    }
}

#[derive(Debug)]
struct Queue {
    last_active: Timestamp,
    /// The same as it is noted.
    noted: Timestamp,
    workers: BTreeMap<Arc<Worker>, Known>,
}

#[derive(Debug)]
struct Known {
    seen: Seen,
    /// When it was last seen as it is noted.
    noted: Timestamp,
}

/// All task queues and workers.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    queues: BTreeMap<Arc<str>, Queue>,
    /// One entry for each queue and each worker, never later than it really expires: who was seen since gets a new one when this one is due.
    checks: BTreeSet<(Timestamp, Arc<str>, Option<Arc<Worker>>)>,
    /// What has changed. Nothing is noted while nobody wants to know.
    changes: Option<Vec<Change>>,
}

impl Fleet {
    /// From now on changes are noted.
    pub(super) fn note_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// What has changed since the last call of this, or is forgotten.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn note(&mut self, change: impl FnOnce() -> Change) {
        if let Some(changes) = &mut self.changes {
            changes.push(change());
        }
    }

    fn note_worker(&mut self, name: &Arc<str>, worker: &Arc<Worker>) {
        if let Some(known) = self.queues.get_mut(name).and_then(|queue| queue.workers.get_mut(worker)) {
            known.noted = known.seen.last_active;
            self.note(|| Change::Worker(name.clone(), worker.clone()));
        }
    }

    /// A task was created for this queue.
    pub(super) fn wanted(&mut self, now: Timestamp, queue: &Arc<str>) {
        self.forget_expired(now);
        self.queue(now, queue);
    }

    /// A worker called about this queue, or is declared to be there.
    pub(super) fn seen(&mut self, now: Timestamp, queue: &Arc<str>, worker: &Arc<Worker>) {
        self.forget_expired(now);
        let known = self.enter(now, queue, worker);
        known.seen.active(now);
        if known.seen.last_active.duration_since(known.noted) >= UNNOTED {
            self.note_worker(queue, worker);
        }
        let known = self.queue(now, queue);
        known.last_active = known.last_active.max(now);
        if known.last_active.duration_since(known.noted) >= UNNOTED {
            known.noted = known.last_active;
            self.note(|| Change::Queue(queue.clone()));
        }
    }

    /// A worker got these runs.
    pub(super) fn claimed(&mut self, now: Timestamp, queue: &Arc<str>, worker: &Arc<Worker>, runs: &[(TaskId, u32)]) {
        self.seen(now, queue, worker);
        let seen = &mut self.enter(now, queue, worker).seen;
        seen.recent.extend(runs.iter().rev().take(RECENT_RUNS).rev());
        let too_many = seen.recent.len().saturating_sub(RECENT_RUNS);
        seen.recent.drain(..too_many);
        // The runs are noted with it, so this is hardly more to write.
        self.note_worker(queue, worker);
    }

    /// Whether the worker gets no runs of this queue.
    pub(super) fn is_quarantined(&self, now: Timestamp, queue: &Arc<str>, worker: &Arc<Worker>) -> bool {
        self.find(queue, worker).and_then(Seen::quarantine_until).is_some_and(|until| until > now)
    }

    fn find(&self, queue: &str, worker: &Worker) -> Option<&Seen> {
        self.queues.get(queue)?.workers.get(worker).map(|known| &known.seen)
    }

    fn queue(&mut self, now: Timestamp, name: &Arc<str>) -> &mut Queue {
        let Self { queues, checks, changes } = self;
        queues.entry(name.clone()).or_insert_with(|| {
            checks.insert((after(now, QUEUE_MEMORY), name.clone(), None));
            if let Some(changes) = changes {
                changes.push(Change::Queue(name.clone()));
            }
            Queue { last_active: now, noted: now, workers: BTreeMap::new() }
        })
    }

    fn enter(&mut self, now: Timestamp, name: &Arc<str>, worker: &Arc<Worker>) -> &mut Known {
        if !self.queue(now, name).workers.contains_key(worker) {
            self.checks.insert((after(now, WORKER_MEMORY), name.clone(), Some(worker.clone())));
            self.note(|| Change::Worker(name.clone(), worker.clone()));
        }
        let queue = self.queue(now, name);
        queue.workers.entry(worker.clone()).or_insert_with(|| Known { seen: Seen::new(now), noted: now })
    }

    pub(super) fn forget_expired(&mut self, now: Timestamp) {
        while self.checks.first().is_some_and(|(when, ..)| *when <= now) {
            let Some((_, name, worker)) = self.checks.pop_first() else { return };
            let Some(queue) = self.queues.get_mut(&name) else { continue };
            let expires = match &worker {
                None => after(queue.last_active, QUEUE_MEMORY),
                Some(worker) => queue.workers.get(worker).map_or(now, |known| known.seen.expires),
            };
            match &worker {
                // Whoever is still here was seen here, or will be forgotten soon.
                _ if expires > now => drop(self.checks.insert((expires, name, worker))),
                None if !queue.workers.is_empty() => drop(self.checks.insert((after(now, WORKER_MEMORY), name, worker))),
                None => {
                    self.queues.remove(&name);
                    self.note(|| Change::Queue(name));
                }
                Some(worker) => {
                    let known = queue.workers.remove(worker);
                    if known.is_some_and(|known| !known.seen.quarantine.is_empty()) {
                        self.note(|| Change::Quarantine(name.clone(), worker.clone()));
                    }
                    self.note(|| Change::Worker(name, worker.clone()));
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.checks.is_empty()
    }
}

impl State {
    /// Up to `limit` task queues in the order of their names, after one of them.
    pub fn task_queues(&mut self, now: Timestamp, after: Option<&str>, limit: usize) -> Vec<QueueView> {
        self.advance(now);
        self.fleet.forget_expired(now);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.fleet.queues.range::<str, _>((from, Bound::Unbounded)).take(limit).map(|(name, queue)| view(name, queue)).collect()
    }

    /// All task queues of one provisioner.
    pub fn queues_of(&mut self, now: Timestamp, provisioner_id: &str) -> Vec<QueueView> {
        self.fleet.forget_expired(now);
        let prefix = format!("{provisioner_id}/");
        let from = self.fleet.queues.range::<str, _>((Bound::Included(&*prefix), Bound::Unbounded));
        from.take_while(|(name, _)| name.starts_with(&prefix)).map(|(name, queue)| view(name, queue)).collect()
    }

    /// One task queue.
    pub fn task_queue(&mut self, now: Timestamp, task_queue_id: &str) -> Result<QueueView, Refusal> {
        self.fleet.forget_expired(now);
        let found = self.fleet.queues.get_key_value(task_queue_id).map(|(name, queue)| view(name, queue));
        found.ok_or_else(|| {
            Refusal::NotFound(format!("task queue {task_queue_id} does not exist, or has not been used for days"))
        })
    }

    /// Up to `limit` workers of a task queue in the order of their names, after one of them; only those in quarantine, or only those that are not,
    /// if that is asked for.
    pub fn workers(
        &mut self,
        now: Timestamp,
        task_queue_id: &str,
        quarantined: Option<bool>,
        after: Option<&Worker>,
        limit: usize,
    ) -> Vec<(Arc<Worker>, Seen)> {
        self.fleet.forget_expired(now);
        let Some(queue) = self.fleet.queues.get(task_queue_id) else { return Vec::new() };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let wanted =
            |seen: &Seen| quarantined.is_none_or(|wanted| wanted == seen.quarantine_until().is_some_and(|until| until > now));
        let workers = queue.workers.range::<Worker, _>((from, Bound::Unbounded)).filter(|(_, known)| wanted(&known.seen));
        workers.take(limit).map(|(worker, known)| (worker.clone(), known.seen.clone())).collect()
    }

    /// One worker.
    pub fn worker(&mut self, now: Timestamp, task_queue_id: &str, worker: &Worker) -> Result<Seen, Refusal> {
        self.fleet.forget_expired(now);
        self.fleet.find(task_queue_id, worker).cloned().ok_or_else(|| no_worker(task_queue_id, worker))
    }

    /// Puts a worker that was seen into quarantine, or lets it out.
    pub fn quarantine(
        &mut self,
        now: Timestamp,
        task_queue_id: &Arc<str>,
        worker: &Arc<Worker>,
        change: Quarantined,
    ) -> Result<Seen, Refusal> {
        self.worker(now, task_queue_id, worker)?;
        self.keep_quarantine(now, task_queue_id, worker, vec![change]);
        self.worker(now, task_queue_id, worker)
    }

    /// What has to be kept of a worker: its quarantine; nothing if it was never in any.
    pub fn quarantine_record(&self, task_queue_id: &str, worker: &Worker) -> Option<&[Quarantined]> {
        self.fleet.find(task_queue_id, worker).map(|seen| seen.quarantine.as_slice()).filter(|changes| !changes.is_empty())
    }

    /// Adds changes of a worker's quarantine, made here or before a restart. The worker is remembered until it is out again.
    pub fn keep_quarantine(&mut self, now: Timestamp, queue: &Arc<str>, worker: &Arc<Worker>, changes: Vec<Quarantined>) {
        let seen = &mut self.fleet.enter(now, queue, worker).seen;
        seen.quarantine.extend(changes);
        let too_many = seen.quarantine.len().saturating_sub(QUARANTINE_CHANGES);
        seen.quarantine.drain(..too_many);
        seen.expires = seen.expires.max(seen.quarantine_until().unwrap_or(now));
        self.fleet.note(|| Change::Quarantine(queue.clone(), worker.clone()));
    }

    /// Says that a worker is there, and until when it is at least remembered.
    pub fn declare_worker(&mut self, now: Timestamp, queue: &Arc<str>, worker: &Arc<Worker>, expires: Timestamp) -> Seen {
        self.fleet.seen(now, queue, worker);
        let seen = &mut self.fleet.enter(now, queue, worker).seen;
        seen.expires = seen.expires.max(expires);
        let seen = seen.clone();
        self.fleet.note_worker(queue, worker);
        seen
    }

    /// Notes of all that was seen when that was last, to the second.
    pub fn note_fleet(&mut self) {
        let Fleet { queues, changes: Some(changes), .. } = &mut self.fleet else { return };
        for (name, queue) in queues {
            if queue.noted < queue.last_active {
                queue.noted = queue.last_active;
                changes.push(Change::Queue(name.clone()));
            }
            for (worker, known) in queue.workers.iter_mut().filter(|(_, known)| known.noted < known.seen.last_active) {
                known.noted = known.seen.last_active;
                changes.push(Change::Worker(name.clone(), worker.clone()));
            }
        }
    }

    /// What has to be kept of a task queue: when it was last used; nothing if it is not known.
    pub fn queue_record(&self, task_queue_id: &str) -> Option<Timestamp> {
        self.fleet.queues.get(task_queue_id).map(|queue| queue.last_active)
    }

    /// What has to be kept of a worker apart from its quarantine; nothing if it is not known.
    pub fn worker_record(&self, task_queue_id: &str, worker: &Worker) -> Option<WorkerRecord> {
        self.fleet.find(task_queue_id, worker).map(|seen| WorkerRecord {
            first_claim: seen.first_claim,
            last_active: seen.last_active,
            expires: seen.expires,
            recent: seen.recent.iter().copied().collect(),
        })
    }

    /// A task queue that was kept.
    pub(super) fn keep_queue(&mut self, queue: &Arc<str>, last_active: Timestamp) {
        self.fleet.queue(last_active, queue);
    }

    /// A worker that was kept.
    pub(super) fn keep_worker(&mut self, queue: &Arc<str>, worker: &Arc<Worker>, record: WorkerRecord) {
        let seen = &mut self.fleet.enter(record.last_active, queue, worker).seen;
        seen.first_claim = record.first_claim;
        seen.expires = seen.expires.max(record.expires);
        seen.recent = record.recent.into();
        seen.recent.truncate(RECENT_RUNS);
    }
}

fn view(name: &Arc<str>, queue: &Queue) -> QueueView {
    QueueView { task_queue_id: name.clone(), last_active: queue.last_active, expires: after(queue.last_active, QUEUE_MEMORY) }
}

fn no_worker(task_queue_id: &str, worker: &Worker) -> Refusal {
    Refusal::NotFound(format!("worker {}/{} of task queue {task_queue_id} does not exist", worker.group, worker.id))
}

fn after(date: Timestamp, duration: SignedDuration) -> Timestamp {
    date.saturating_add(duration).unwrap_or(Timestamp::MAX)
}
