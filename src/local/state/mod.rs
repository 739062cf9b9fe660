//! The queue's books: a pure state machine.
//!
//! It owns which tasks exist, who may claim what, what expires when, and which artifacts a run has. It does no I/O, holds no clock and no
//! lock: time is an argument, what others have to be told leaves as [`Effect`]s, and [`State::next_wakeup`] says when something expires.
//! Every call first lets happen what is due ([`State::advance`]), so no call ever sees a claim that has expired or a task past its deadline.
//!
//! Costs: an expiry is O(log n) for each thing that expires, a claim O(log n) for each task claimed; no call walks over all tasks, except that
//! those about a group walk over its tasks, in batches.

mod artifact;
mod books;
mod built_in;
mod fleet;
mod group;
mod id;
mod index;
mod lane;
mod names;
mod need;
mod order;
mod record;
mod schedule;
mod task;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};

pub use artifact::{Artifact, NewArtifact, Storage, Stored};
pub use books::Change;
pub use built_in::BuiltIn;
pub use fleet::{Quarantined, QueueView, Seen};
pub use group::{Batch, Group};
pub use id::TaskId;
pub use index::{Indexed, Indexing, indexing, is_namespace};
pub use lane::{Place, Ticket};
pub use record::{Reopening, TaskRecord, WorkerRecord};
pub use task::{
    Definition, Hold, Priority, Report, Requires, Run, RunState, Status, TaskState, Trouble, WhyCreated, WhyResolved, Worker,
};

use lane::{Lanes, Waiter};
use record::shared;

/// Most runs of a task, reruns included.
const MOST_RUNS: usize = 50;
/// Longest definition that is shown in full to somebody who made another one, in bytes.
const SHOWN_BYTES: usize = 4096;

/// What the state machine is told once.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How long a claim or reclaim holds.
    pub claim_timeout: SignedDuration,
    /// Whether a claim gets tasks of every task queue.
    pub any_queue: bool,
}

/// A run that was given to a worker.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The task after the claim.
    pub status: Status,
    /// The run.
    pub run_id: u32,
    /// Its worker.
    pub worker: Arc<Worker>,
    /// When the claim ends unless it is renewed.
    pub taken_until: Timestamp,
}

/// What has to be told to others after a call.
#[derive(Debug)]
pub enum Effect {
    /// A worker that waited in line got runs.
    Granted(Ticket, Vec<Claim>),
    /// These stored bytes belong to no artifact any more.
    Unstored(Stored),
}

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The books say otherwise.
    #[error("{0}")]
    Conflict(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Input(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    BuiltIn,
    Claim,
    Deadline,
    /// Artifacts of the task expire before it does.
    Artifacts,
    Expiry,
}

#[derive(Debug)]
struct Task {
    definition: Arc<Definition>,
    priority: Priority,
    retries_left: u32,
    runs: Vec<Run>,
    /// Where the pending or claimed run is in its lane.
    place: Option<Place>,
    /// How many dependencies are missing.
    blocked_by: usize,
    artifacts: artifact::Artifacts,
}

/// The books.
#[derive(Debug)]
pub struct State {
    rules: Rules,
    tasks: books::Tasks,
    lanes: Lanes,
    alarms: BTreeSet<(Timestamp, TaskId, Alarm)>,
    effects: Vec<Effect>,
    index: index::Index,
    needs: need::Needs,
    groups: group::Groups,
    fleet: fleet::Fleet,
    /// Task queues that have got runs while more may come, which is no time to hand them out.
    unserved: Option<Vec<Arc<str>>>,
}

impl State {
    /// Empty books.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            tasks: books::Tasks::default(),
            lanes: Lanes::new(rules.any_queue),
            alarms: BTreeSet::new(),
            effects: Vec::new(),
            index: index::Index::default(),
            needs: need::Needs::default(),
            groups: group::Groups::default(),
            fleet: fleet::Fleet::default(),
            unserved: None,
        }
    }

    /// What has to be told to others since the last call of this.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// From now on it is noted what changes, for [`Self::take_changes`].
    pub fn note_changes(&mut self) {
        self.tasks.note_changes();
        self.index.note_changes();
        self.fleet.note_changes();
    }

    /// Which tasks, artifacts and names in the index have changed since the last call of this; empty unless [`Self::note_changes`] was called.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = self.tasks.take_changes();
        changes.extend(self.index.take_changes().into_iter().map(Change::Indexed));
        changes.extend(self.fleet.take_changes());
        changes
    }

    /// Forgets names in the index, task queues and workers that have expired. Nobody sees those before either, so this may come late.
    pub fn forget_expired(&mut self, now: Timestamp) {
        self.index.forget_expired(now);
        self.fleet.forget_expired(now);
    }

    /// When [`Self::advance`] has something to do next.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(when, ..)| *when)
    }

    /// The task as it stands.
    pub fn status(&mut self, now: Timestamp, id: TaskId) -> Result<Status, Refusal> {
        self.advance(now);
        self.snapshot(id)
    }

    /// Puts a new task on the books. Repeating the call changes nothing; another definition under the same id is a conflict.
    pub fn create(&mut self, now: Timestamp, id: TaskId, definition: Arc<Definition>) -> Result<Status, Refusal> {
        self.advance(now);
        if let Some(known) = self.tasks.get(&id) {
            if known.definition.same(&definition) {
                return self.snapshot(id);
            }
            return Err(Refusal::Conflict(format!(
                "task {id} exists with another definition\n\nexisting definition:\n{}\n\nthis request:\n{}",
                shown(&known.definition),
                shown(&definition)
            )));
        }
        self.groups.admit(&self.tasks, id, &definition)?;
        let blocked_by = self.enlist(id, &definition)?;
        self.groups.join(&self.tasks, id, &definition);
        self.fleet.wanted(now, &definition.task_queue_id);
        self.alarms.insert((definition.deadline, id, Alarm::Deadline));
        self.alarms.insert((definition.expires, id, Alarm::Expiry));
        let task = Task {
            priority: definition.priority,
            retries_left: definition.retries,
            runs: Vec::new(),
            place: None,
            blocked_by,
            artifacts: artifact::Artifacts::default(),
            definition,
        };
        self.tasks.insert(id, task);
        if blocked_by == 0 {
            self.add_run(now, id, WhyCreated::Scheduled);
        }
        let mut status = self.snapshot(id)?;
        // A worker that waited may have the run by now; who created the task is told how it was created.
        for run in &mut status.runs {
            run.state = RunState::Pending;
            run.hold = None;
        }
        Ok(status)
    }

    /// Gives a worker up to `count` runs of a task queue, at once. Never overtakes a worker that waits. One in quarantine gets nothing.
    pub fn claim(&mut self, now: Timestamp, task_queue_id: &Arc<str>, worker: &Arc<Worker>, count: usize) -> Vec<Claim> {
        self.advance(now);
        self.fleet.seen(now, task_queue_id, worker);
        if self.fleet.is_quarantined(now, task_queue_id, worker) {
            return Vec::new();
        }
        self.start_first(now, task_queue_id, worker, count)
    }

    /// Puts a worker in line for up to `count` runs. It is served by [`Effect::Granted`], perhaps at once; one in quarantine never is.
    pub fn wait(&mut self, now: Timestamp, task_queue_id: &Arc<str>, worker: Arc<Worker>, count: usize) -> Ticket {
        self.advance(now);
        self.fleet.seen(now, task_queue_id, &worker);
        if self.fleet.is_quarantined(now, task_queue_id, &worker) {
            return self.lanes.void_ticket();
        }
        let ticket = self.lanes.join(task_queue_id, Waiter { worker, queue: task_queue_id.clone(), count });
        self.serve(now, task_queue_id);
        ticket
    }

    /// Takes a worker out of the line.
    pub fn leave(&mut self, ticket: Ticket) {
        self.lanes.leave(ticket);
    }

    /// Undoes a claim whose worker never heard of it: the run is pending again, as old as it was.
    pub fn give_back(&mut self, now: Timestamp, claim: &Claim) {
        self.advance(now);
        let id = claim.status.task_id;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let last = task.runs.len().checked_sub(1);
        let (Some(place), Some(run)) = (task.place, task.runs.last_mut()) else { return };
        let unchanged =
            run.hold.as_ref().is_some_and(|h| h.taken_until == claim.taken_until && Arc::ptr_eq(&h.worker, &claim.worker));
        if last != Some(claim.run_id as usize) || run.state != RunState::Running || !unchanged {
            return;
        }
        run.state = RunState::Pending;
        run.hold = None;
        let queue = task.definition.task_queue_id.clone();
        self.alarms.remove(&(claim.taken_until, id, Alarm::Claim));
        self.lanes.take(&queue, place);
        self.lanes.put(&queue, place, id);
        self.serve(now, &queue);
    }

    /// Renews a claim.
    pub fn reclaim(&mut self, now: Timestamp, id: TaskId, run_id: u32) -> Result<Claim, Refusal> {
        self.advance(now);
        let taken_until = self.taken_until(now);
        let task = self.tasks.get_mut(&id).ok_or_else(|| no_task(id))?;
        let run = running(id, task, run_id)?;
        let Some(hold) = &mut run.hold else { return Err(not_running(id, run_id)) };
        // A second worker process, or a clock that went back, never shortens a claim.
        let renewed = taken_until.max(hold.taken_until);
        self.alarms.remove(&(hold.taken_until, id, Alarm::Claim));
        self.alarms.insert((renewed, id, Alarm::Claim));
        hold.taken_until = renewed;
        let worker = hold.worker.clone();
        let queue = task.definition.task_queue_id.clone();
        self.fleet.seen(now, &queue, &worker);
        Ok(Claim { status: self.snapshot(id)?, run_id, worker, taken_until: renewed })
    }

    /// Resolves a run as its worker reports it. Repeating the same report changes nothing.
    pub fn report(&mut self, now: Timestamp, id: TaskId, run_id: u32, report: Report) -> Result<Status, Refusal> {
        self.advance(now);
        let (state, why) = report.target();
        let task = self.tasks.get_mut(&id).ok_or_else(|| no_task(id))?;
        let runs = task.runs.len();
        let run = run_mut(id, task, run_id)?;
        let is_last = run_id as usize + 1 == runs;
        if is_last && run.state == RunState::Running {
            self.end_run(now, id, state, why, report.retry());
            return self.snapshot(id);
        }
        // The run that a reported exception was retried with may follow, but no other.
        let repeated = run.state == state && run.resolved.as_ref().is_some_and(|(w, _)| *w == why);
        let still_last = is_last || (state == RunState::Exception && run_id as usize + 2 == runs);
        if repeated && still_last { self.snapshot(id) } else { Err(not_running(id, run_id)) }
    }

    /// How many runs of a task queue are pending and how many are claimed.
    pub fn counts(&mut self, now: Timestamp, task_queue_id: &Arc<str>) -> (usize, usize) {
        self.advance(now);
        self.lanes.counts(task_queue_id, |id| self.is_of(id, task_queue_id))
    }

    /// Up to `limit` tasks of a task queue that are pending, or claimed, in the order of their places, after one of those.
    pub fn lane(
        &mut self,
        now: Timestamp,
        task_queue_id: &Arc<str>,
        claimed: bool,
        after: Option<Place>,
        limit: usize,
    ) -> Vec<(Place, Status)> {
        self.advance(now);
        let page = self.lanes.page(task_queue_id, claimed, (after, limit), |id| self.is_of(id, task_queue_id));
        page.into_iter().filter_map(|(place, id)| Some((place, self.snapshot(id).ok()?))).collect()
    }

    /// Up to `limit` tasks that depend on this one, in the order of their ids, after one of them.
    pub fn dependents(
        &mut self,
        now: Timestamp,
        id: TaskId,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<Status>, Refusal> {
        self.status(now, id)?;
        let ids = self.needs.page(id, after, limit);
        Ok(ids.into_iter().filter_map(|id| self.snapshot(id).ok()).collect())
    }

    fn is_of(&self, id: TaskId, task_queue_id: &str) -> bool {
        self.tasks.get(&id).is_some_and(|task| &*task.definition.task_queue_id == task_queue_id)
    }

    fn snapshot(&self, id: TaskId) -> Result<Status, Refusal> {
        let task = self.tasks.get(&id).ok_or_else(|| no_task(id))?;
        Ok(Status {
            task_id: id,
            definition: task.definition.clone(),
            priority: task.priority,
            retries_left: task.retries_left,
            runs: task.runs.clone(),
        })
    }

    fn taken_until(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(self.rules.claim_timeout).unwrap_or(Timestamp::MAX)
    }
}

/// A definition as it is shown to somebody who made another one.
fn shown(definition: &Definition) -> Cow<'_, str> {
    let json = definition.json.get();
    let end = (0..=SHOWN_BYTES.min(json.len())).rev().find(|at| json.is_char_boundary(*at)).unwrap_or_default();
    match json.get(..end) {
        Some(start) if start.len() < json.len() => format!("{start}… ({} bytes)", json.len()).into(),
        _ => json.into(),
    }
}

fn no_task(id: TaskId) -> Refusal {
    Refusal::NotFound(format!("task {id} does not exist"))
}

fn not_running(id: TaskId, run_id: u32) -> Refusal {
    Refusal::Conflict(format!("run {run_id} of task {id} is resolved or not running"))
}

fn run_mut(id: TaskId, task: &mut Task, run_id: u32) -> Result<&mut Run, Refusal> {
    task.runs.get_mut(run_id as usize).ok_or_else(|| Refusal::NotFound(format!("task {id} has no run {run_id}")))
}

/// The task's last run, if it is the one asked for and running.
fn running(id: TaskId, task: &mut Task, run_id: u32) -> Result<&mut Run, Refusal> {
    let last = task.runs.len();
    let run = run_mut(id, task, run_id)?;
    if run.state == RunState::Running && run_id as usize + 1 == last { Ok(run) } else { Err(not_running(id, run_id)) }
}
