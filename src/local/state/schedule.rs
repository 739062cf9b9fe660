//! How runs begin and end: claims, expiries, retries, deadlines, dependencies. The part of the state machine that moves.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Alarm, BuiltIn, Change, Claim, Definition, Effect, Hold, Refusal, Requires, Run, RunState, State, TaskId, WhyCreated,
    WhyResolved, Worker,
};

impl State {
    /// Lets everything happen that is due, in the order of the dates: claims and deadlines expire, artifacts and tasks past their own expiry are forgotten. Who
    /// waits in line is served in the end: after a jump of the clock, what would run again may be past its deadline already.
    pub fn advance(&mut self, now: Timestamp) {
        if self.next_wakeup().is_none_or(|next| next > now) {
            return;
        }
        self.together(now, |state| {
            while let Some(due) = state.alarms.first().copied().filter(|(when, ..)| *when <= now) {
                state.alarms.remove(&due);
                let (_, id, alarm) = due;
                match alarm {
                    Alarm::BuiltIn => state.run_built_in(now, id),
                    Alarm::Claim => {
                        state.end_run(now, id, RunState::Exception, WhyResolved::ClaimExpired, Some(WhyCreated::Retry));
                    }
                    Alarm::Artifacts => state.forget_artifacts(now, id),
                    Alarm::Deadline => state.end_task(now, id, WhyResolved::DeadlineExceeded),
                    Alarm::Expiry => state.forget(now, id),
                }
            }
        });
    }

    /// Does something that may make several runs, and hands them out once all of them are there: the most urgent first, and as many as a worker
    /// asks for.
    pub(super) fn together(&mut self, now: Timestamp, act: impl FnOnce(&mut Self)) {
        if self.unserved.is_some() {
            return act(self);
        }
        self.unserved = Some(Vec::new());
        act(self);
        for queue in self.unserved.take().unwrap_or_default() {
            self.serve(now, &queue);
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
        // Most tasks have one run, and there may be very many tasks.
        task.runs.reserve_exact(1);
        task.runs.push(Run { state: RunState::Pending, why_created, scheduled: now, hold: None, resolved: None });
        if BuiltIn::of(&task.definition.task_queue_id).is_some() {
            self.alarms.insert((now, id, Alarm::BuiltIn));
            return;
        }
        let place = self.lanes.new_place(task.priority);
        task.place = Some(place);
        let queue = task.definition.task_queue_id.clone();
        self.lanes.put(&queue, place, id);
        match &mut self.unserved {
            Some(unserved) => unserved.push(queue),
            None => self.serve(now, &queue),
        }
    }

    /// Gives waiting workers what is pending, in the order in which they came. Who has come into quarantine in the meantime waits in vain.
    pub(super) fn serve(&mut self, now: Timestamp, task_queue_id: &Arc<str>) {
        while let Some((ticket, waiter)) = self.lanes.serve(task_queue_id) {
            if self.fleet.is_quarantined(now, &waiter.queue, &waiter.worker) {
                continue;
            }
            let claims = self.start_first(now, &waiter.queue, &waiter.worker, waiter.count);
            self.effects.push(Effect::Granted(ticket, claims));
        }
    }

    /// Starts up to `count` pending runs for a worker.
    pub(super) fn start_first(&mut self, now: Timestamp, queue: &Arc<str>, worker: &Arc<Worker>, count: usize) -> Vec<Claim> {
        let ids = self.lanes.claim_first(queue, count);
        let claims: Vec<Claim> = ids.into_iter().filter_map(|id| self.start_run(now, id, worker)).collect();
        if !claims.is_empty() {
            let runs: Vec<_> = claims.iter().map(|claim| (claim.status.task_id, claim.run_id)).collect();
            self.fleet.claimed(now, queue, worker, &runs);
        }
        claims
    }

    /// Starts a task's last run for a worker. It is a claimed one in its lane already.
    pub(super) fn start_run(&mut self, now: Timestamp, id: TaskId, worker: &Arc<Worker>) -> Option<Claim> {
        let taken_until = self.taken_until(now);
        let task = self.tasks.get_mut(&id)?;
        let run_id = u32::try_from(task.runs.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let run = task.runs.last_mut()?;
        run.state = RunState::Running;
        run.hold = Some(Hold { worker: worker.clone(), started: now, taken_until });
        self.alarms.insert((taken_until, id, Alarm::Claim));
        Some(Claim { status: self.snapshot(id).ok()?, run_id, worker: worker.clone(), taken_until })
    }

    /// Resolves the last run, if it is pending or running, and makes another one if `retry` says why and retries are left.
    pub(super) fn end_run(&mut self, now: Timestamp, id: TaskId, state: RunState, why: WhyResolved, retry: Option<WhyCreated>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(run) = task.runs.last_mut().filter(|run| !run.state.is_resolved()) else { return };
        if let (RunState::Running, Some(hold)) = (run.state, &run.hold) {
            self.alarms.remove(&(hold.taken_until, id, Alarm::Claim));
        }
        if let Some(place) = task.place.take() {
            self.lanes.take(&task.definition.task_queue_id, place);
        }
        run.state = state;
        run.resolved = Some((why, now));
        match retry {
            Some(why_created) if task.retries_left > 0 => {
                task.retries_left -= 1;
                self.add_run(now, id, why_created);
            }
            _ => self.resolved(now, id),
        }
    }

    /// Resolves a task for good that is not resolved yet.
    pub(super) fn end_task(&mut self, now: Timestamp, id: TaskId, why: WhyResolved) {
        if self.close_task(now, id, why) {
            self.resolved(now, id);
        }
    }

    /// The same, but nobody hears of it yet. A task that was never scheduled gets a run that says why. Whether anything has changed.
    pub(super) fn close_task(&mut self, now: Timestamp, id: TaskId, why: WhyResolved) -> bool {
        let open = self.tasks.get(&id).is_some_and(|task| task.runs.last().is_none_or(|run| !run.state.is_resolved()));
        let Some(task) = self.tasks.get_mut(&id).filter(|_| open) else { return false };
        if task.runs.is_empty() {
            task.runs.reserve_exact(1);
            let why_created = WhyCreated::Exception;
            task.runs.push(Run { state: RunState::Pending, why_created, scheduled: now, hold: None, resolved: None });
        }
        if let Some(place) = task.place.take() {
            self.lanes.take(&task.definition.task_queue_id, place);
        }
        if let Some(run) = task.runs.last_mut() {
            if let (RunState::Running, Some(hold)) = (run.state, &run.hold) {
                self.alarms.remove(&(hold.taken_until, id, Alarm::Claim));
            }
            run.state = RunState::Exception;
            run.resolved = Some((why, now));
        }
        true
    }

    /// Enters a new task at its dependencies, all of which have to exist as long as it may wait for them. Returns how many of them are missing.
    pub(super) fn enlist(&mut self, id: TaskId, definition: &Definition) -> Result<usize, Refusal> {
        // A task may wait for itself: then it only runs when somebody schedules it.
        let others = || definition.dependencies.iter().filter(|on| **on != id);
        let unknown: Vec<_> = others().filter(|on| !self.tasks.contains_key(on)).collect();
        if !unknown.is_empty() {
            return Err(Refusal::Input(format!("task {id} depends on tasks that do not exist: {unknown:?}")));
        }
        // So nobody ever waits for a task that is forgotten, nor for another one that has got its id.
        let expire_first = |on: &TaskId| self.tasks.get(on).is_some_and(|task| task.definition.expires < definition.deadline);
        let too_short: Vec<_> = others().filter(|on| expire_first(on)).collect();
        if !too_short.is_empty() {
            return Err(Refusal::Input(format!("task {id} depends on tasks that expire before its deadline: {too_short:?}")));
        }
        let mut missing = 0;
        for on in &definition.dependencies {
            let satisfied = self.is_satisfied(*on, definition.requires);
            self.needs.add(*on, id, satisfied);
            missing += usize::from(!satisfied);
        }
        Ok(missing)
    }

    /// Whether a task stands as somebody requires who depends on it.
    pub(super) fn is_satisfied(&self, on: TaskId, requires: Requires) -> bool {
        self.tasks.get(&on).is_some_and(|task| satisfies(task.runs.last().map(|run| run.state), requires))
    }

    /// The task has got its final state: no deadline any more, and tasks that waited for it may go.
    pub(super) fn resolved(&mut self, now: Timestamp, id: TaskId) {
        let Some(task) = self.tasks.get_mut_unnoted(&id) else { return };
        self.alarms.remove(&(task.definition.deadline, id, Alarm::Deadline));
        let state = task.runs.last().map(|run| run.state);
        if state == Some(RunState::Completed) {
            let definition = task.definition.clone();
            self.index_completed(now, id, &definition);
        }
        self.together(now, |books| books.release(now, id, state));
    }

    /// Tells those that wait for a task how it stands now.
    fn release(&mut self, now: Timestamp, id: TaskId, state: Option<RunState>) {
        for dependent in self.needs.waiting(id) {
            let Some(other) = self.tasks.get_mut_unnoted(&dependent) else { continue };
            if !satisfies(state, other.definition.requires) {
                continue;
            }
            self.needs.satisfy(id, dependent);
            other.blocked_by = other.blocked_by.saturating_sub(1);
            if other.blocked_by == 0 && other.runs.is_empty() {
                self.add_run(now, dependent, WhyCreated::Scheduled);
            }
        }
    }

    /// Removes a task and its artifacts from the books.
    fn forget(&mut self, now: Timestamp, id: TaskId) {
        // Its deadline is never after its expiry, so it is resolved; if both are the same instant, the deadline comes first.
        self.end_task(now, id, WhyResolved::DeadlineExceeded);
        let Some(task) = self.tasks.remove(&id) else { return };
        for on in &task.definition.dependencies {
            self.needs.remove(*on, id);
        }
        let group = task.definition.task_group_id;
        if self.groups.leave(group, id) {
            self.tasks.note(|| Change::Seal(group));
        }
        self.effects.extend(task.artifacts.into_stored().map(Effect::Unstored));
    }
}

pub(super) fn satisfies(state: Option<RunState>, requires: Requires) -> bool {
    match requires {
        Requires::AllCompleted => state == Some(RunState::Completed),
        Requires::AllResolved => state.is_some_and(RunState::is_resolved),
    }
}
