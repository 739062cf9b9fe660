//! The books against a slow and obvious model of them: no lanes, no alarms, no sets of those who wait; whatever is asked is found by looking at
//! every task. Random histories, in which the clock may also go back.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const TASKS: usize = 7;
const QUEUES: usize = 2;
const GROUPS: usize = 2;
const REPORTS: [Report; 4] = [
    Report::Completed,
    Report::Failed,
    Report::Exception(Trouble::WorkerShutdown),
    Report::Exception(Trouble::MalformedPayload),
];

#[derive(Debug, Clone)]
struct New {
    task: usize,
    queue: usize,
    group: usize,
    scheduler: usize,
    priority: usize,
    retries: u32,
    lifetime: i64,
    on: BTreeSet<usize>,
    all_resolved: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Create(New),
    Claim { queue: usize, count: usize },
    Reclaim { task: usize, run: u32 },
    Report { task: usize, run: u32, report: usize },
    Schedule(usize),
    Rerun(usize),
    Cancel(usize),
    Prioritize { task: usize, priority: usize },
    Seal(usize),
    CancelGroup(usize),
    PrioritizeGroup { group: usize, priority: usize },
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let (task, group, priority) = (0..TASKS, 0..GROUPS, 0..Priority::ALL.len());
    let new = (
        (task.clone(), 0..QUEUES, group.clone(), 0..8_usize, priority.clone(), 0..3_u32),
        (5..120_i64, prop::collection::btree_set(task.clone(), 0..3), any::<bool>()),
    )
        .prop_map(|((task, queue, group, scheduler, priority, retries), (lifetime, on, all_resolved))| {
            // Mostly the same one, so that groups get tasks.
            let scheduler = scheduler / 7;
            Step::Create(New { task, queue, group, scheduler, priority, retries, lifetime, on, all_resolved })
        });
    prop_oneof![
        8 => new,
        6 => (0..QUEUES, 1..4_usize).prop_map(|(queue, count)| Step::Claim { queue, count }),
        2 => (task.clone(), 0..4_u32).prop_map(|(task, run)| Step::Reclaim { task, run }),
        6 => (task.clone(), 0..3_u32, 0..REPORTS.len()).prop_map(|(task, run, report)| Step::Report { task, run, report }),
        2 => task.clone().prop_map(Step::Schedule),
        3 => task.clone().prop_map(Step::Rerun),
        1 => task.clone().prop_map(Step::Cancel),
        2 => (task, priority.clone()).prop_map(|(task, priority)| Step::Prioritize { task, priority }),
        1 => group.clone().prop_map(Step::Seal),
        1 => group.clone().prop_map(Step::CancelGroup),
        1 => (group, priority).prop_map(|(group, priority)| Step::PrioritizeGroup { group, priority }),
        4 => (-3..14_i64).prop_map(Step::Pass),
    ]
}

type ModelRun = (RunState, WhyCreated, Option<WhyResolved>);

struct Known {
    new: New,
    deadline: i64,
    priority: Priority,
    retries_left: u32,
    runs: Vec<ModelRun>,
    /// When the last run was made, among all runs of all tasks.
    age: u64,
    /// Until when the last claim holds.
    until: i64,
    met: BTreeSet<usize>,
}

impl Known {
    fn state(&self) -> Option<RunState> {
        self.runs.last().map(|(state, ..)| *state)
    }

    fn is_open(&self) -> bool {
        self.state().is_none_or(|state| !state.is_resolved())
    }

    fn expires(&self) -> i64 {
        self.deadline + 50
    }
}

#[derive(Default)]
struct Model {
    now: i64,
    tasks: BTreeMap<usize, Known>,
    sealed: BTreeSet<usize>,
    runs: u64,
}

impl Model {
    /// Whether a step is accepted, after it was made.
    fn take(&mut self, step: &Step) -> Option<bool> {
        if let Step::Pass(seconds) = step {
            self.now += seconds;
        }
        self.advance();
        let accepted = match step {
            Step::Create(new) => self.create(new),
            Step::Pass(_) | Step::Claim { .. } => return None,
            Step::Reclaim { task, run } => match self.running(*task, *run) {
                Some(known) => {
                    let until = known.until;
                    let renewed = until.max(self.now + CLAIM.as_secs());
                    self.tasks.get_mut(task)?.until = renewed;
                    true
                }
                None => false,
            },
            Step::Report { task, run, report } => self.report(*task, *run as usize, REPORTS[*report]),
            Step::Schedule(task) => {
                let accepted = self.before_deadline(*task);
                if accepted && self.tasks[task].runs.is_empty() {
                    self.add_run(*task, WhyCreated::Scheduled);
                }
                accepted
            }
            Step::Rerun(task) => self.rerun(*task),
            Step::Cancel(task) => {
                let accepted = self.before_deadline(*task);
                if accepted && self.close(*task, WhyResolved::Canceled) {
                    self.tell(*task);
                }
                accepted
            }
            Step::Prioritize { task, priority } => match self.tasks.get_mut(task).filter(|known| known.is_open()) {
                Some(known) => {
                    known.priority = Priority::ALL[*priority];
                    true
                }
                None => false,
            },
            Step::Seal(group) => {
                let there = self.members(*group).next().is_some();
                if there {
                    self.sealed.insert(*group);
                }
                there
            }
            Step::CancelGroup(group) => {
                let members: Vec<usize> = self.members(*group).collect();
                if !self.sealed.contains(group) || members.is_empty() {
                    return Some(false);
                }
                let closed: Vec<usize> = members.into_iter().filter(|task| self.close(*task, WhyResolved::Canceled)).collect();
                closed.into_iter().for_each(|task| self.tell(task));
                true
            }
            Step::PrioritizeGroup { group, priority } => {
                let members: Vec<usize> = self.members(*group).collect();
                for task in &members {
                    if let Some(known) = self.tasks.get_mut(task).filter(|known| known.is_open()) {
                        known.priority = Priority::ALL[*priority];
                    }
                }
                !members.is_empty()
            }
        };
        Some(accepted)
    }

    fn members(&self, group: usize) -> impl Iterator<Item = usize> + use<'_> {
        self.tasks.iter().filter(move |(_, known)| known.new.group == group).map(|(task, _)| *task)
    }

    fn before_deadline(&self, task: usize) -> bool {
        self.tasks.get(&task).is_some_and(|known| known.deadline > self.now)
    }

    fn running(&self, task: usize, run: u32) -> Option<&Known> {
        let known = self.tasks.get(&task)?;
        (known.state() == Some(RunState::Running) && run as usize + 1 == known.runs.len()).then_some(known)
    }

    fn create(&mut self, new: &New) -> bool {
        if self.tasks.contains_key(&new.task) {
            return true;
        }
        let deadline = self.now + new.lifetime;
        let fits = self.members(new.group).all(|other| self.tasks[&other].new.scheduler == new.scheduler);
        let others = || new.on.iter().filter(|on| **on != new.task);
        let dependable = others().all(|on| self.tasks.get(on).is_some_and(|known| known.expires() >= deadline));
        if !fits || self.sealed.contains(&new.group) || !dependable {
            return false;
        }
        let met = new.on.iter().copied().filter(|on| self.satisfies(*on, new.all_resolved)).collect();
        let priority = Priority::ALL[new.priority];
        let known =
            Known { new: new.clone(), deadline, priority, retries_left: new.retries, runs: vec![], age: 0, until: 0, met };
        self.tasks.insert(new.task, known);
        self.schedule_if_met(new.task);
        true
    }

    fn satisfies(&self, on: usize, all_resolved: bool) -> bool {
        self.tasks.get(&on).is_some_and(|known| match all_resolved {
            true => known.state().is_some_and(RunState::is_resolved),
            false => known.state() == Some(RunState::Completed),
        })
    }

    fn schedule_if_met(&mut self, task: usize) {
        let known = &self.tasks[&task];
        if known.runs.is_empty() && known.met == known.new.on {
            self.add_run(task, WhyCreated::Scheduled);
        }
    }

    fn add_run(&mut self, task: usize, why: WhyCreated) {
        self.runs += 1;
        let known = self.tasks.get_mut(&task).expect("known");
        known.runs.push((RunState::Pending, why, None));
        known.age = self.runs;
    }

    /// Ends the open run, or makes one that has ended. Whether anything has changed.
    fn close(&mut self, task: usize, why: WhyResolved) -> bool {
        let Some(known) = self.tasks.get_mut(&task).filter(|known| known.is_open()) else { return false };
        let created = known.runs.pop().map_or(WhyCreated::Exception, |(_, created, _)| created);
        known.runs.push((RunState::Exception, created, Some(why)));
        true
    }

    /// Whoever waits for a task hears how it has ended.
    fn tell(&mut self, task: usize) {
        let waiting: Vec<usize> =
            self.tasks.iter().filter(|(_, known)| known.new.on.contains(&task)).map(|(other, _)| *other).collect();
        for other in waiting {
            if self.satisfies(task, self.tasks[&other].new.all_resolved) {
                self.tasks.get_mut(&other).expect("known").met.insert(task);
                self.schedule_if_met(other);
            }
        }
    }

    fn end_run(&mut self, task: usize, state: RunState, why: WhyResolved, retry: Option<WhyCreated>) {
        let known = self.tasks.get_mut(&task).expect("known");
        let run = known.runs.last_mut().expect("a run");
        (run.0, run.2) = (state, Some(why));
        match retry {
            Some(created) if known.retries_left > 0 => {
                known.retries_left -= 1;
                self.add_run(task, created);
            }
            _ => self.tell(task),
        }
    }

    fn report(&mut self, task: usize, run: usize, report: Report) -> bool {
        let (state, why) = report.target();
        if self.running(task, u32::try_from(run).expect("small")).is_some() {
            self.end_run(task, state, why, report.retry());
            return true;
        }
        // A repeated report changes nothing, as long as nothing but its own retry has followed.
        let Some(known) = self.tasks.get(&task) else { return false };
        let behind = known.runs.len().saturating_sub(run + 1);
        let repeated = known.runs.get(run).is_some_and(|(was, _, reason)| (*was, *reason) == (state, Some(why)));
        repeated && (behind == 0 || (behind == 1 && state == RunState::Exception))
    }

    fn rerun(&mut self, task: usize) -> bool {
        if !self.before_deadline(task) {
            return false;
        }
        let known = self.tasks.get_mut(&task).expect("known");
        if !known.runs.is_empty() && known.is_open() {
            return true;
        }
        known.retries_left = known.new.retries;
        self.add_run(task, WhyCreated::Rerun);
        true
    }

    /// Claims the most urgent and oldest runs, one by one.
    fn claim(&mut self, queue: usize, count: usize) -> Vec<usize> {
        let mut claimed = Vec::new();
        while claimed.len() < count {
            let pending =
                self.tasks.iter().filter(|(_, known)| known.new.queue == queue && known.state() == Some(RunState::Pending));
            let Some((task, _)) = pending.min_by_key(|(_, known)| (known.priority, known.age)) else { break };
            let (task, until) = (*task, self.now + CLAIM.as_secs());
            let known = self.tasks.get_mut(&task).expect("known");
            known.runs.last_mut().expect("a run").0 = RunState::Running;
            known.until = until;
            claimed.push(task);
        }
        claimed
    }

    fn advance(&mut self) {
        loop {
            let due = self.tasks.iter().flat_map(|(task, known)| {
                let claim = (known.state() == Some(RunState::Running)).then_some((known.until, *task, 0));
                let deadline = known.is_open().then_some((known.deadline, *task, 1));
                [claim, deadline, Some((known.expires(), *task, 2))]
            });
            let Some((when, task, what)) = due.flatten().min() else { return };
            if when > self.now {
                return;
            }
            match what {
                0 => self.end_run(task, RunState::Exception, WhyResolved::ClaimExpired, Some(WhyCreated::Retry)),
                1 => {
                    self.close(task, WhyResolved::DeadlineExceeded);
                    self.tell(task);
                }
                _ => {
                    let gone = self.tasks.remove(&task).expect("known");
                    if self.members(gone.new.group).next().is_none() {
                        self.sealed.remove(&gone.new.group);
                    }
                }
            }
        }
    }
}

/// Groups have ids that no task has, so that it is clear which is meant.
fn group_id(group: usize) -> TaskId {
    id(500 + group)
}

fn really(state: &mut State, now: i64, step: &Step) -> Option<bool> {
    let moment = at(now);
    let all = usize::MAX;
    Some(match step {
        Step::Create(new) => create(state, now, new.task, |d| {
            (d.task_queue_id, d.task_group_id) = (queue(new.queue), group_id(new.group));
            d.scheduler_id = format!("scheduler{}", new.scheduler).into();
            (d.priority, d.retries) = (Priority::ALL[new.priority], new.retries);
            (d.deadline, d.expires) = (at(now + new.lifetime), at(now + new.lifetime + 50));
            d.dependencies = new.on.iter().map(|number| id(*number)).collect();
            d.requires = if new.all_resolved { Requires::AllResolved } else { Requires::AllCompleted };
        })
        .is_ok(),
        Step::Claim { .. } => return None,
        Step::Pass(_) => {
            state.advance(moment);
            return None;
        }
        Step::Reclaim { task, run } => state.reclaim(moment, id(*task), *run).is_ok(),
        Step::Report { task, run, report } => state.report(moment, id(*task), *run, REPORTS[*report]).is_ok(),
        Step::Schedule(task) => state.schedule(moment, id(*task)).is_ok(),
        Step::Rerun(task) => state.rerun(moment, id(*task)).is_ok(),
        Step::Cancel(task) => state.cancel(moment, id(*task)).is_ok(),
        Step::Prioritize { task, priority } => state.prioritize(moment, id(*task), Priority::ALL[*priority]).is_ok(),
        Step::Seal(group) => state.seal_group(moment, group_id(*group)).is_ok(),
        Step::CancelGroup(group) => state.cancel_group(moment, group_id(*group), None, all).is_ok(),
        Step::PrioritizeGroup { group, priority } => {
            state.prioritize_group(moment, group_id(*group), Priority::ALL[*priority], None, all).is_ok()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_are_what_a_slow_look_at_everything_says(steps in prop::collection::vec(step(), 1..90)) {
        let (mut state, mut model) = (state(), Model::default());
        for step in &steps {
            let expected = model.take(step);
            prop_assert_eq!(really(&mut state, model.now, step), expected, "{:?}", step);
            if let Step::Claim { queue: number, count } = step {
                let claims = state.claim(at(model.now), &queue(*number), &worker("w"), *count);
                let claimed: Vec<TaskId> = claims.iter().map(|claim| claim.status.task_id).collect();
                let expected: Vec<TaskId> = model.claim(*number, *count).into_iter().map(id).collect();
                prop_assert_eq!(claimed, expected);
            }
            for task in 0..TASKS {
                let status = state.status(at(model.now), id(task)).ok();
                let shown = status.map(|status| {
                    let runs: Vec<ModelRun> =
                        status.runs.iter().map(|run| (run.state, run.why_created, run.resolved.as_ref().map(|(why, _)| *why))).collect();
                    (status.priority, status.retries_left, runs)
                });
                let expected = model.tasks.get(&task).map(|known| (known.priority, known.retries_left, known.runs.clone()));
                prop_assert_eq!(shown, expected, "task {} after {:?}", task, step);
            }
            for group in 0..GROUPS {
                let page = state.group_page(at(model.now), group_id(group), None, TASKS).ok();
                let shown = page.map(|(known, tasks)| {
                    (known.sealed.is_some(), tasks.iter().map(|status| status.task_id).collect::<Vec<_>>())
                });
                let members: Vec<TaskId> = model.members(group).map(id).collect();
                let expected = (!members.is_empty()).then(|| (model.sealed.contains(&group), members));
                prop_assert_eq!(shown, expected, "group {} after {:?}", group, step);
            }
        }
    }
}
