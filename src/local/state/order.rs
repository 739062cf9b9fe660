//! What people ask of single tasks: schedule it, run it again, cancel it, make it more or less urgent.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Alarm, Claim, MOST_RUNS, Place, Priority, Refusal, RunState, State, Status, TaskId, WhyCreated, WhyResolved, Worker,
    no_task,
};

impl State {
    /// Schedules a task whatever it waits for. Repeating the call, or scheduling a task that was scheduled, changes nothing.
    pub fn schedule(&mut self, now: Timestamp, id: TaskId) -> Result<Status, Refusal> {
        self.before_deadline(now, id, "scheduled")?;
        if self.tasks.get(&id).is_some_and(|task| task.runs.is_empty()) {
            self.add_run(now, id, WhyCreated::Scheduled);
        }
        self.snapshot(id)
    }

    /// Runs a resolved task again, or one that was never scheduled, with all its retries. A task that is pending or running stays as it is.
    pub fn rerun(&mut self, now: Timestamp, id: TaskId) -> Result<Status, Refusal> {
        self.before_deadline(now, id, "run again")?;
        let task = self.tasks.get(&id).ok_or_else(|| no_task(id))?;
        if task.runs.last().is_some_and(|run| !run.state.is_resolved()) {
            return self.snapshot(id);
        }
        let runs = task.runs.len();
        let Some(more) = MOST_RUNS.checked_sub(runs + 1) else {
            return Err(Refusal::Conflict(format!(
                "task {id} cannot be run again: it has {runs} runs, and {MOST_RUNS} are allowed"
            )));
        };
        let deadline = task.definition.deadline;
        if let Some(task) = self.tasks.get_mut(&id) {
            task.retries_left = task.definition.retries.min(u32::try_from(more).unwrap_or(u32::MAX));
        }
        self.alarms.insert((deadline, id, Alarm::Deadline));
        // Whoever does not wait for it any more although it is open again, is kept as such.
        for dependent in self.needs.satisfied(id) {
            self.tasks.note_task(dependent);
        }
        self.add_run(now, id, WhyCreated::Rerun);
        self.snapshot(id)
    }

    /// Cancels a task. Repeating the call, or cancelling a resolved task, changes nothing.
    pub fn cancel(&mut self, now: Timestamp, id: TaskId) -> Result<Status, Refusal> {
        self.before_deadline(now, id, "canceled")?;
        self.end_task(now, id, WhyResolved::Canceled);
        self.snapshot(id)
    }

    /// Gives an open task another priority: its pending run moves in its lane, and a run that is claimed goes on as it is.
    pub fn prioritize(&mut self, now: Timestamp, id: TaskId, priority: Priority) -> Result<Status, Refusal> {
        self.advance(now);
        let status = self.snapshot(id)?;
        if status.runs.last().is_some_and(|run| run.state.is_resolved()) {
            return Err(Refusal::Conflict(format!("task {id} is resolved, so its priority does not change")));
        }
        self.move_in_lane(id, priority);
        self.snapshot(id)
    }

    /// Gives a worker this very run, which has to be pending. Whether others wait in line does not matter: then it would not be.
    pub fn claim_run(&mut self, now: Timestamp, id: TaskId, run_id: u32, worker: &Arc<Worker>) -> Result<Claim, Refusal> {
        self.advance(now);
        let task = self.tasks.get(&id).ok_or_else(|| no_task(id))?;
        let run = task.runs.get(run_id as usize);
        let run = run.ok_or_else(|| Refusal::NotFound(format!("task {id} has no run {run_id}")))?;
        let (RunState::Pending, Some(place)) = (run.state, task.place) else {
            return Err(Refusal::Conflict(format!("run {run_id} of task {id} is not pending")));
        };
        let queue = task.definition.task_queue_id.clone();
        self.lanes.claim_at(&queue, place);
        let claim = self.start_run(now, id, worker).ok_or_else(|| no_task(id))?;
        self.fleet.claimed(now, &queue, worker, &[(id, run_id)]);
        Ok(claim)
    }

    /// Notes an open task's priority. Whether it is a new one.
    pub(super) fn move_in_lane(&mut self, id: TaskId, priority: Priority) -> bool {
        let is_new = self
            .tasks
            .get(&id)
            .is_some_and(|task| task.priority != priority && task.runs.last().is_none_or(|run| !run.state.is_resolved()));
        let Some(task) = self.tasks.get_mut(&id).filter(|_| is_new) else { return false };
        task.priority = priority;
        if let Some(old) = task.place {
            let new = Place { priority, ..old };
            task.place = Some(new);
            self.lanes.reorder(&task.definition.task_queue_id, old, new);
        }
        true
    }

    fn before_deadline(&mut self, now: Timestamp, id: TaskId, what: &str) -> Result<(), Refusal> {
        self.advance(now);
        let deadline = self.tasks.get(&id).ok_or_else(|| no_task(id))?.definition.deadline;
        if deadline <= now {
            return Err(Refusal::Conflict(format!("task {id} cannot be {what} after its deadline, {deadline:.3}")));
        }
        Ok(())
    }
}
