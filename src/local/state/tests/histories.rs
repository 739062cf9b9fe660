//! Random histories: whatever is asked in whatever order, the books stay consistent.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const TASKS: usize = 6;
pub(super) const QUEUES: usize = 2;
pub(super) const GROUPS: usize = 3;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Create { task: usize, queue: usize, priority: usize, retries: u32, deadline: i64, on: Vec<usize>, all_resolved: bool },
    Claim { queue: usize, count: usize },
    Wait { queue: usize, count: usize },
    Leave { ticket: usize },
    GiveBack { claim: usize },
    Reclaim { task: usize, run: u32 },
    Report { task: usize, run: u32, report: usize },
    Cancel { task: usize },
    Schedule { task: usize },
    Rerun { task: usize },
    Prioritize { task: usize, priority: usize },
    Seal { group: usize },
    Pass { seconds: i64 },
}

const REPORTS: [Report; 5] = [
    Report::Completed,
    Report::Failed,
    Report::Exception(Trouble::WorkerShutdown),
    Report::Exception(Trouble::IntermittentTask),
    Report::Exception(Trouble::MalformedPayload),
];

pub(super) fn step() -> impl Strategy<Value = Step> {
    let (task, queue, run) = (0..TASKS, 0..QUEUES, 0..4_u32);
    prop_oneof![
        4 => (
            task.clone(),
            queue.clone(),
            0..Priority::ALL.len(),
            0..4_u32,
            1..120_i64,
            prop::collection::vec(task.clone(), 0..3),
            any::<bool>()
        )
            .prop_map(|(task, queue, priority, retries, deadline, mut on, all_resolved)| {
                on.sort_unstable();
                on.dedup();
                Step::Create { task, queue, priority, retries, deadline, on, all_resolved }
            }),
        6 => (queue.clone(), 1..4_usize).prop_map(|(queue, count)| Step::Claim { queue, count }),
        3 => (queue, 1..4_usize).prop_map(|(queue, count)| Step::Wait { queue, count }),
        1 => (0..8_usize).prop_map(|ticket| Step::Leave { ticket }),
        1 => (0..8_usize).prop_map(|claim| Step::GiveBack { claim }),
        3 => (task.clone(), run.clone()).prop_map(|(task, run)| Step::Reclaim { task, run }),
        6 => (task.clone(), run, 0..REPORTS.len()).prop_map(|(task, run, report)| Step::Report { task, run, report }),
        1 => task.clone().prop_map(|task| Step::Cancel { task }),
        1 => task.clone().prop_map(|task| Step::Schedule { task }),
        3 => task.clone().prop_map(|task| Step::Rerun { task }),
        1 => (task, 0..Priority::ALL.len()).prop_map(|(task, priority)| Step::Prioritize { task, priority }),
        1 => (0..GROUPS).prop_map(|group| Step::Seal { group }),
        4 => (0..14_i64).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// What a test remembers of a history, to compare with.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) now: i64,
    pub(super) tickets: Vec<Ticket>,
    pub(super) claims: Vec<Claim>,
    runs: HashMap<TaskId, Vec<Run>>,
}

impl Memory {
    /// Nothing but what time it is.
    pub(super) fn at(now: i64) -> Self {
        Self { now, ..Self::default() }
    }
}

pub(super) fn take(state: &mut State, memory: &mut Memory, step: &Step) {
    let now = memory.now;
    let claims_before = memory.claims.len();
    match step {
        Step::Create { task, queue: number, priority, retries, deadline, on, all_resolved } => {
            let known = state.status(at(now), id(*task)).ok();
            let answer = create(state, now, *task, |d| {
                d.task_queue_id = queue(*number);
                d.task_group_id = id(*task % GROUPS);
                d.priority = Priority::ALL[*priority];
                d.retries = *retries;
                (d.deadline, d.expires) = (at(now + deadline), at(now + deadline + 100));
                d.dependencies = on.iter().map(|number| id(*number)).collect();
                d.requires = if *all_resolved { Requires::AllResolved } else { Requires::AllCompleted };
            });
            if let (Some(known), Ok(answer)) = (known, answer) {
                assert_eq!(known.runs, answer.runs, "creating again changed the runs");
            }
        }
        Step::Claim { queue: number, count } => {
            let (pending, _) = state.lanes.lengths(&queue(*number));
            let best = best_pending(state, *number);
            let claims = state.claim(at(now), &queue(*number), &worker("now"), *count);
            assert_eq!(claims.len(), pending.min(*count));
            assert_eq!(claims.first().map(|claim| claim.status.task_id), best, "not the most urgent and oldest");
            memory.claims.extend(claims);
        }
        Step::Wait { queue: number, count } => {
            memory.tickets.push(state.wait(at(now), &queue(*number), worker("line"), *count));
        }
        Step::Leave { ticket } => {
            if let Some(ticket) = memory.tickets.get(*ticket) {
                state.leave(*ticket);
            }
        }
        Step::GiveBack { claim } => {
            if let Some(claim) = memory.claims.get(*claim).cloned() {
                let key = claim.status.task_id;
                state.give_back(at(now), &claim);
                // The only way back from running to pending, and the run was never heard of.
                memory.runs.remove(&key);
            }
        }
        Step::Reclaim { task, run } => {
            let running = is_running(state, now, *task, *run);
            let answer = state.reclaim(at(now), id(*task), *run);
            assert_eq!(answer.is_ok(), running, "{answer:?}");
        }
        Step::Report { task, run, report } => {
            let running = is_running(state, now, *task, *run);
            let report = REPORTS[*report];
            let answer = state.report(at(now), id(*task), *run, report);
            assert!(!running || answer.is_ok(), "{answer:?}");
            if let Ok(status) = answer {
                let (state, why) = report.target();
                let run = &status.runs[*run as usize];
                assert_eq!((run.state, run.resolved.as_ref().map(|(why, _)| *why)), (state, Some(why)));
            }
        }
        Step::Cancel { task } => {
            let _ = state.cancel(at(now), id(*task));
        }
        Step::Schedule { task } => {
            let _ = state.schedule(at(now), id(*task));
        }
        Step::Rerun { task } => {
            let _ = state.rerun(at(now), id(*task));
        }
        Step::Prioritize { task, priority } => {
            let _ = state.prioritize(at(now), id(*task), Priority::ALL[*priority]);
        }
        Step::Seal { group } => {
            let _ = state.seal_group(at(now), id(*group));
        }
        Step::Pass { seconds } => {
            memory.now += seconds;
            state.advance(at(memory.now));
        }
    }
    for (ticket, claims) in granted(state) {
        assert!(memory.tickets.contains(&ticket) && !claims.is_empty());
        memory.claims.extend(claims);
    }
    for claim in &memory.claims[claims_before..] {
        assert_eq!(claim.taken_until, at(memory.now) + CLAIM);
    }
}

fn is_running(state: &mut State, now: i64, task: usize, run: u32) -> bool {
    state.status(at(now), id(task)).is_ok_and(|status| {
        run as usize + 1 == status.runs.len() && status.runs.last().is_some_and(|run| run.state == RunState::Running)
    })
}

/// Found the slow way: by looking at all tasks.
fn best_pending(state: &State, number: usize) -> Option<TaskId> {
    let pending = state.tasks.all().iter().filter(|(_, task)| {
        task.definition.task_queue_id == queue(number) && task.runs.last().is_some_and(|run| run.state == RunState::Pending)
    });
    pending.min_by_key(|(_, task)| task.place).map(|(id, _)| *id)
}

pub(super) fn audit(state: &mut State, memory: &mut Memory) {
    let now = at(memory.now);
    assert!(state.alarms.iter().all(|(when, ..)| *when > now), "something is overdue");
    for number in 0..QUEUES {
        let (pending, waiting) = state.lanes.lengths(&queue(number));
        assert!(pending == 0 || waiting == 0, "{pending} runs and {waiting} workers wait for each other");
        let really = state
            .tasks
            .all()
            .values()
            .filter(|task| task.definition.task_queue_id == queue(number))
            .filter(|task| task.runs.last().is_some_and(|run| run.state == RunState::Pending))
            .count();
        assert_eq!(pending, really, "the lane and the tasks disagree");
    }
    for (id, task) in state.tasks.all() {
        let definition = &task.definition;
        let open: Vec<_> = task.runs.iter().enumerate().filter(|(_, run)| !run.state.is_resolved()).collect();
        assert!(open.iter().all(|(at, _)| at + 1 == task.runs.len()), "an open run that is not the last: {:?}", task.runs);
        let since = task.runs.iter().rposition(|run| run.why_created == WhyCreated::Rerun).unwrap_or_default();
        let latest = &task.runs[since..];
        let retries = latest.iter().filter(|run| matches!(run.why_created, WhyCreated::Retry | WhyCreated::TaskRetry)).count();
        assert_eq!(u32::try_from(retries).expect("few") + task.retries_left, definition.retries, "retries do not add up");
        for run in &task.runs {
            assert_eq!(run.state.is_resolved(), run.resolved.is_some());
            assert!(run.state != RunState::Running || run.hold.as_ref().is_some_and(|hold| hold.taken_until > now));
            assert!(run.state != RunState::Pending || run.hold.is_none());
        }
        if let Some((WhyResolved::ClaimExpired, _)) = task.runs.last().and_then(|run| run.resolved.as_ref()) {
            assert_eq!(task.retries_left, 0, "a lost run was not retried");
        }
        let alarm = |when, kind| state.alarms.contains(&(when, *id, kind));
        let resolved = !task.runs.is_empty() && open.is_empty();
        assert_eq!(
            alarm(definition.deadline, Alarm::Deadline),
            !resolved,
            "an open task has a deadline, a resolved one has none"
        );
        assert!(alarm(definition.expires, Alarm::Expiry));
        let claims = state.alarms.iter().filter(|(_, other, kind)| other == id && *kind == Alarm::Claim).count();
        let running = open.first().and_then(|(_, run)| run.hold.as_ref());
        assert_eq!(claims, usize::from(running.is_some()));
        assert!(running.is_none_or(|hold| alarm(hold.taken_until, Alarm::Claim)));
        // A run is resolved once: what was resolved before is what it was.
        let before = memory.runs.entry(*id).or_default();
        for (old, new) in before.iter().zip(&task.runs) {
            assert!(!old.state.is_resolved() || old == new, "a resolved run changed: {old:?} → {new:?}");
        }
        assert!(before.len() <= task.runs.len());
        before.clone_from(&task.runs);
    }
    memory.runs.retain(|id, _| state.tasks.contains_key(id));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_stay_consistent(steps in prop::collection::vec(step(), 1..120)) {
        let mut state = state();
        let mut memory = Memory::default();
        for step in &steps {
            take(&mut state, &mut memory, step);
            audit(&mut state, &mut memory);
        }
    }

    #[test]
    fn after_the_last_deadline_everything_is_resolved_and_then_forgotten(steps in prop::collection::vec(step(), 1..60)) {
        let mut state = state();
        let mut memory = Memory::default();
        for step in &steps {
            take(&mut state, &mut memory, step);
        }
        memory.now += 120;
        state.advance(at(memory.now));
        for task in state.tasks.all().values() {
            prop_assert!(task.runs.last().is_some_and(|run| run.state.is_resolved()));
        }
        state.advance(at(memory.now + 100));
        prop_assert!(state.tasks.all().is_empty() && state.next_wakeup().is_none());
        prop_assert!(state.groups.is_empty() && state.needs.is_empty());
    }
}
