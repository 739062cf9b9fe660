//! How runs begin and end: claims, expiries, retries, deadlines, dependencies. The part of the state machine that moves.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Alarm, Claim, Definition, Effect, Hold, Refusal, Requires, Run, RunState, State, TaskId, TaskState, WhyCreated,
    WhyResolved, Worker,
};

impl State {
    /// Lets everything happen that is due: claims and deadlines expire, tasks past their own expiry are forgotten.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some(due) = self.alarms.first().copied().filter(|(when, ..)| *when <= now) {
            self.alarms.remove(&due);
            let (_, id, alarm) = due;
            match alarm {
                Alarm::Claim => self.end_run(now, id, RunState::Exception, WhyResolved::ClaimExpired, Some(WhyCreated::Retry)),
                Alarm::Deadline => self.end_task(now, id, WhyResolved::DeadlineExceeded),
                Alarm::Expiry => self.forget(now, id),
            }
        }
    }

    /// Lets the claim of a run expire before its time, as if its worker had been gone for long.
    pub fn lapse(&mut self, now: Timestamp, id: TaskId, run_id: u32) -> Result<(), Refusal> {
        self.advance(now);
        let task = self.tasks.get_mut(&id).ok_or_else(|| super::no_task(id))?;
        super::running(id, task, run_id)?;
        self.end_run(now, id, RunState::Exception, WhyResolved::ClaimExpired, Some(WhyCreated::Retry));
        Ok(())
    }

    /// Makes a run for the task, pending.
    pub(super) fn add_run(&mut self, now: Timestamp, id: TaskId, why_created: WhyCreated) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.runs.push(Run { state: RunState::Pending, why_created, scheduled: now, hold: None, resolved: None });
        let place = self.lanes.new_place(task.definition.priority);
        task.place = Some(place);
        let queue = task.definition.task_queue_id.clone();
        self.lanes.put(&queue, place, id);
        self.serve(now, &queue);
    }

    /// Gives waiting workers what is pending, in the order in which they came.
    pub(super) fn serve(&mut self, now: Timestamp, task_queue_id: &Arc<str>) {
        while let Some((ticket, waiter)) = self.lanes.serve(task_queue_id) {
            let claims = self.start_first(now, task_queue_id, &waiter.worker, waiter.count);
            self.effects.push(Effect::Granted(ticket, claims));
        }
    }

    /// Starts up to `count` pending runs for a worker.
    pub(super) fn start_first(&mut self, now: Timestamp, queue: &Arc<str>, worker: &Arc<Worker>, count: usize) -> Vec<Claim> {
        let taken_until = self.taken_until(now);
        let ids = self.lanes.take_first(queue, count);
        let mut claims = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let run_id = u32::try_from(task.runs.len().saturating_sub(1)).unwrap_or(u32::MAX);
            let Some(run) = task.runs.last_mut() else { continue };
            run.state = RunState::Running;
            run.hold = Some(Hold { worker: worker.clone(), started: now, taken_until });
            self.alarms.insert((taken_until, id, Alarm::Claim));
            if let Ok(status) = self.snapshot(id) {
                claims.push(Claim { status, run_id, worker: worker.clone(), taken_until });
            }
        }
        claims
    }

    /// Resolves the last run, if it is pending or running, and makes another one if `retry` says why and retries are left.
    pub(super) fn end_run(&mut self, now: Timestamp, id: TaskId, state: RunState, why: WhyResolved, retry: Option<WhyCreated>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(run) = task.runs.last_mut().filter(|run| !run.state.is_resolved()) else { return };
        match (run.state, &run.hold, task.place) {
            (RunState::Running, Some(hold), _) => {
                self.alarms.remove(&(hold.taken_until, id, Alarm::Claim));
            }
            (_, _, Some(place)) => self.lanes.take(&task.definition.task_queue_id, place),
            _ => {}
        }
        run.state = state;
        run.resolved = Some((why, now));
        task.place = None;
        match retry {
            Some(why_created) if task.retries_left > 0 => {
                task.retries_left -= 1;
                self.add_run(now, id, why_created);
            }
            _ => self.resolved(now, id),
        }
    }

    /// Resolves a task for good that is not resolved yet. One that was never scheduled gets a run that says why.
    pub(super) fn end_task(&mut self, now: Timestamp, id: TaskId, why: WhyResolved) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if !task.runs.is_empty() {
            self.end_run(now, id, RunState::Exception, why, None);
            return;
        }
        task.runs.push(Run {
            state: RunState::Exception,
            why_created: WhyCreated::Exception,
            scheduled: now,
            hold: None,
            resolved: Some((why, now)),
        });
        self.resolved(now, id);
    }

    /// Enters a new task at its dependencies, all of which have to exist. Returns how many of them are missing.
    pub(super) fn enlist(&mut self, id: TaskId, definition: &Definition) -> Result<usize, Refusal> {
        // A task may wait for itself: then it only runs when somebody schedules it.
        let unknown: Vec<_> = definition.dependencies.iter().filter(|on| **on != id && !self.tasks.contains_key(on)).collect();
        if !unknown.is_empty() {
            return Err(Refusal::Input(format!("task {id} depends on tasks that do not exist: {unknown:?}")));
        }
        let mut missing = 0;
        for on in &definition.dependencies {
            match self.tasks.get_mut_unnoted(on) {
                Some(task) if satisfies(task.runs.last().map(|run| run.state), definition.requires) => {}
                Some(task) => {
                    task.dependents.push(id);
                    missing += 1;
                }
                None => missing += 1,
            }
        }
        Ok(missing)
    }

    /// The task has got its final state: no deadline any more, and tasks that waited for it may go.
    fn resolved(&mut self, now: Timestamp, id: TaskId) {
        let Some(task) = self.tasks.get_mut_unnoted(&id) else { return };
        self.alarms.remove(&(task.definition.deadline, id, Alarm::Deadline));
        let state = task.runs.last().map(|run| run.state);
        let mut dependents = std::mem::take(&mut task.dependents);
        // Their order must not depend on whether the books were closed in the meantime.
        dependents.sort_unstable();
        if state == Some(RunState::Completed) {
            let definition = task.definition.clone();
            self.index_completed(now, id, &definition);
        }
        let mut still_waiting = Vec::new();
        for dependent in dependents {
            let Some(other) = self.tasks.get_mut_unnoted(&dependent) else { continue };
            if !satisfies(state, other.definition.requires) {
                still_waiting.push(dependent);
                continue;
            }
            other.blocked_by = other.blocked_by.saturating_sub(1);
            if other.blocked_by == 0 && other.runs.is_empty() {
                self.add_run(now, dependent, WhyCreated::Scheduled);
            }
        }
        if let Some(task) = self.tasks.get_mut_unnoted(&id) {
            task.dependents = still_waiting;
        }
    }

    /// Removes a task and its artifacts from the books.
    fn forget(&mut self, now: Timestamp, id: TaskId) {
        // Its deadline is never after its expiry, so it is resolved; if both are the same instant, the deadline comes first.
        self.end_task_if_open(now, id);
        if let Some(task) = self.tasks.remove(&id) {
            for waits in &task.dependents {
                self.tasks.note_task(*waits);
            }
            self.effects.extend(task.artifacts.into_stored().map(Effect::Unstored));
        }
    }

    fn end_task_if_open(&mut self, now: Timestamp, id: TaskId) {
        let open = self
            .snapshot(id)
            .is_ok_and(|status| matches!(status.state(), TaskState::Unscheduled | TaskState::Pending | TaskState::Running));
        if open {
            self.end_task(now, id, WhyResolved::DeadlineExceeded);
        }
    }
}

pub(super) fn satisfies(state: Option<RunState>, requires: Requires) -> bool {
    match requires {
        Requires::AllCompleted => state == Some(RunState::Completed),
        Requires::AllResolved => state.is_some_and(RunState::is_resolved),
    }
}
