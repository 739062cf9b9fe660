//! What people ask of tasks, groups and workers, one by one.

use super::*;

fn state_of(state: &mut State, number: usize) -> TaskState {
    state.status(at(1), id(number)).expect("a task").state()
}

fn resolve(state: &mut State, number: usize, report: Report) {
    resolve_at(state, 1, number, report);
}

fn resolve_at(state: &mut State, second: i64, number: usize, report: Report) {
    let claim = claim_one(state, second);
    assert_eq!(claim.status.task_id, id(number));
    state.report(at(second), id(number), claim.run_id, report).expect("reported");
}

fn quarantine(state: &mut State, second: i64, name: &str, until: i64) -> Result<Seen, Refusal> {
    let change = Quarantined { until: at(until), at: at(second), client_id: "somebody".into(), info: "why".into() };
    state.quarantine(at(second), &queue(0), &worker(name), change)
}

#[test]
fn a_task_that_waits_for_itself_runs_when_somebody_schedules_it() {
    let mut state = state();
    create(&mut state, 0, 1, |d| d.dependencies = [id(1)].into()).expect("created");
    assert_eq!(state_of(&mut state, 1), TaskState::Unscheduled);
    let first = state.schedule(at(1), id(1)).expect("scheduled");
    assert_eq!(first.runs[0].why_created, WhyCreated::Scheduled);
    assert_eq!(state.schedule(at(1), id(1)).expect("again").runs, first.runs);
    resolve(&mut state, 1, Report::Completed);
    assert_eq!(state.schedule(at(1), id(1)).expect("resolved").runs.len(), 1);
    assert!(matches!(state.schedule(at(1000), id(1)), Err(Refusal::Conflict(_))), "after the deadline");
    assert!(matches!(state.schedule(at(1), id(2)), Err(Refusal::NotFound(_))));
}

#[test]
fn a_rerun_has_all_retries_again_and_tells_who_waits() {
    let mut state = state();
    create(&mut state, 0, 1, |d| d.retries = 1).expect("created");
    create(&mut state, 0, 2, |d| d.dependencies = [id(1)].into()).expect("created");
    resolve(&mut state, 1, Report::Exception(Trouble::WorkerShutdown));
    resolve(&mut state, 1, Report::Failed);
    assert_eq!(state_of(&mut state, 2), TaskState::Unscheduled);
    let status = state.rerun(at(1), id(1)).expect("again");
    assert_eq!((status.state(), status.runs.len(), status.retries_left), (TaskState::Pending, 3, 1));
    assert_eq!(status.runs[2].why_created, WhyCreated::Rerun);
    assert_eq!(state.rerun(at(1), id(1)).expect("pending").runs.len(), 3);
    let claim = claim_one(&mut state, 1);
    assert_eq!(state.rerun(at(1), id(1)).expect("running").runs.len(), 3);
    state.report(at(1), id(1), claim.run_id, Report::Completed).expect("reported");
    assert_eq!(state_of(&mut state, 2), TaskState::Pending);
    // The deadline counts for a rerun, too.
    state.rerun(at(2), id(1)).expect("again");
    state.advance(at(1000));
    let status = state.status(at(1000), id(1)).expect("a task");
    assert_eq!(status.runs[3].resolved, Some((WhyResolved::DeadlineExceeded, at(1000))));
    assert!(matches!(state.rerun(at(1000), id(1)), Err(Refusal::Conflict(_))));
}

#[test]
fn a_rerun_schedules_what_was_never_scheduled_and_what_was_canceled() {
    let mut state = state();
    create(&mut state, 0, 1, |d| d.dependencies = [id(1)].into()).expect("created");
    assert_eq!(state.rerun(at(1), id(1)).expect("scheduled").state(), TaskState::Pending);
    state.cancel(at(1), id(1)).expect("canceled");
    let status = state.rerun(at(1), id(1)).expect("again");
    assert_eq!((status.state(), status.runs.len()), (TaskState::Pending, 2));
}

#[test]
fn a_task_has_no_more_than_fifty_runs() {
    let mut state = state();
    create(&mut state, 0, 1, |d| d.retries = 5).expect("created");
    for run in 1..50 {
        state.cancel(at(1), id(1)).expect("canceled");
        let status = state.rerun(at(1), id(1)).expect("again");
        assert_eq!(status.retries_left, 5.min(49 - run));
    }
    state.cancel(at(1), id(1)).expect("canceled");
    assert!(matches!(state.rerun(at(1), id(1)), Err(Refusal::Conflict(_))));
}

#[test]
fn another_priority_moves_a_pending_run_and_stays_for_the_next() {
    let mut state = state();
    for number in [1, 2, 3] {
        create(&mut state, 0, number, |d| d.priority = Priority::Low).expect("created");
    }
    state.prioritize(at(1), id(3), Priority::High).expect("moved");
    state.prioritize(at(1), id(1), Priority::Lowest).expect("moved");
    let order: Vec<_> = state.lane(at(1), &queue(0), false, None, 9).into_iter().map(|(_, s)| s.task_id).collect();
    assert_eq!(order, [id(3), id(2), id(1)]);
    let claim = claim_one(&mut state, 1);
    assert_eq!((claim.status.task_id, claim.status.priority), (id(3), Priority::High));
    assert!(claim.status.definition_json().get().contains(r#""priority":"high""#));
    // While it runs, only its next run is about to have it.
    state.prioritize(at(1), id(3), Priority::VeryLow).expect("noted");
    assert_eq!(state.counts(at(1), &queue(0)), (2, 1));
    state.report(at(1), id(3), 0, Report::Exception(Trouble::WorkerShutdown)).expect("reported");
    let order: Vec<_> = state.lane(at(1), &queue(0), false, None, 9).into_iter().map(|(_, s)| s.task_id).collect();
    assert_eq!(order, [id(2), id(3), id(1)]);
    state.cancel(at(1), id(2)).expect("canceled");
    assert!(matches!(state.prioritize(at(1), id(2), Priority::High), Err(Refusal::Conflict(_))), "it is resolved");
    let created_again = create(&mut state, 1, 1, |d| d.priority = Priority::Low).expect("the same definition");
    assert_eq!(created_again.priority, Priority::Lowest);
}

#[test]
fn a_group_has_one_scheduler_and_takes_nothing_once_it_is_sealed() {
    let mut state = state();
    create(&mut state, 0, 1, |d| d.scheduler_id = "one".into()).expect("created");
    let other = |d: &mut Definition| d.scheduler_id = "two".into();
    assert!(matches!(create(&mut state, 0, 2, other), Err(Refusal::Conflict(_))));
    assert!(matches!(state.status(at(0), id(2)), Err(Refusal::NotFound(_))));
    create(&mut state, 0, 2, |d| (d.scheduler_id, d.task_group_id) = ("two".into(), id(2))).expect("another group");
    assert!(matches!(state.cancel_group(at(0), id(0), None, 9), Err(Refusal::Conflict(_))), "not sealed");
    assert_eq!(state.seal_group(at(1), id(0)).expect("sealed").sealed, Some(at(1)));
    assert_eq!(state.seal_group(at(2), id(0)).expect("again").sealed, Some(at(1)));
    create(&mut state, 3, 1, |d| d.scheduler_id = "one".into()).expect("it is in the group");
    assert!(matches!(create(&mut state, 3, 3, |d| d.scheduler_id = "one".into()), Err(Refusal::Conflict(_))));
    assert!(matches!(state.seal_group(at(1), id(9)), Err(Refusal::NotFound(_))));
    // With its last task the group is gone, and its id is free.
    state.advance(at(2000));
    assert!(matches!(state.group(at(2000), id(0)), Err(Refusal::NotFound(_))));
    create(&mut state, 2000, 3, |d| (d.deadline, d.expires) = (at(3000), at(3000))).expect("a new group");
    assert_eq!(state.group(at(2000), id(0)).expect("a group").sealed, None);
}

#[test]
fn a_dependency_has_to_outlive_the_deadline_of_whoever_waits_for_it() {
    let mut state = state();
    create(&mut state, 0, 1, |d| (d.deadline, d.expires) = (at(10), at(99))).expect("created");
    let with_deadline = |deadline| move |d: &mut Definition| (d.deadline, d.dependencies) = (at(deadline), [id(1)].into());
    assert!(matches!(create(&mut state, 0, 2, with_deadline(100)), Err(Refusal::Input(_))));
    create(&mut state, 0, 2, with_deadline(99)).expect("created");
    // Both at the same moment, and then again under the same ids the other way round: nobody waits for the past.
    state.advance(at(99));
    create(&mut state, 99, 1, |d| d.dependencies = [id(2)].into()).expect("created");
    assert_eq!(state.dependents(at(99), id(2), None, 9).expect("dependents").len(), 1);
    assert_eq!(state.dependents(at(99), id(1), None, 9).expect("dependents").len(), 1, "it still says so");
    state.rerun(at(99), id(1)).expect("scheduled");
    resolve_at(&mut state, 99, 1, Report::Completed);
    assert_eq!(state.status(at(99), id(2)).expect("a task").runs.len(), 1, "it is resolved, and stays so");
}

#[test]
fn a_worker_in_quarantine_gets_nothing_until_its_date() {
    let mut state = state();
    assert!(matches!(quarantine(&mut state, 0, "w", 50), Err(Refusal::NotFound(_))), "never seen");
    create(&mut state, 0, 1, |_| {}).expect("created");
    create(&mut state, 0, 2, |_| {}).expect("created");
    claim_one(&mut state, 0);
    let seen = quarantine(&mut state, 0, "w", 50).expect("in quarantine");
    assert_eq!(seen.recent, [(id(1), 0)]);
    assert!(state.claim(at(1), &queue(0), &worker("w"), 1).is_empty());
    state.wait(at(1), &queue(0), worker("w"), 1);
    assert!(granted(&mut state).is_empty());
    assert_eq!(state.counts(at(1), &queue(0)), (1, 1));
    assert_eq!(state.claim(at(1), &queue(0), &worker("other"), 1).len(), 1);
    // A worker that is in line already is passed over.
    state.wait(at(2), &queue(0), worker("other"), 1);
    quarantine(&mut state, 2, "other", 50).expect("in quarantine");
    let healthy = state.wait(at(2), &queue(0), worker("third"), 1);
    create(&mut state, 2, 3, |_| {}).expect("created");
    assert_eq!(granted(&mut state)[0].0, healthy);
    let found = state.workers(at(2), "p/w0", Some(true), None, 9);
    assert_eq!(found.iter().map(|(worker, _)| &*worker.id).collect::<Vec<_>>(), ["other", "w"]);
    quarantine(&mut state, 3, "w", 3).expect("out again");
    create(&mut state, 3, 4, |_| {}).expect("created");
    assert_eq!(state.claim(at(3), &queue(0), &worker("w"), 1).len(), 1);
    create(&mut state, 3, 5, |_| {}).expect("created");
    assert_eq!(state.claim(at(50), &queue(0), &worker("other"), 1).len(), 1, "its date has come");
}

#[test]
fn queues_and_workers_are_forgotten_a_while_after_they_were_seen() {
    let hours = |hours: i64| at(hours * 3600);
    let mut state = state();
    state.claim(hours(0), &queue(0), &worker("a"), 1);
    state.claim(hours(0), &queue(0), &worker("b"), 1);
    state.claim(hours(20), &queue(0), &worker("a"), 1);
    let change = Quarantined { until: hours(30), at: hours(1), client_id: "c".into(), info: "".into() };
    state.quarantine(hours(1), &queue(0), &worker("b"), change).expect("in quarantine");
    let names = |state: &mut State, when| -> Vec<String> {
        state.workers(hours(when), "p/w0", None, None, 9).iter().map(|(worker, _)| worker.id.to_string()).collect()
    };
    assert_eq!(names(&mut state, 29), ["a", "b"], "nobody is forgotten while in quarantine");
    assert_eq!(names(&mut state, 30), ["a"]);
    assert_eq!(names(&mut state, 44), [""; 0]);
    assert_eq!(state.task_queues(hours(139), None, 9).len(), 1);
    assert!(state.task_queues(hours(140), None, 9).is_empty());
    assert!(state.fleet.is_empty());
}

#[test]
fn a_jump_of_the_clock_gives_no_run_to_a_worker_that_its_deadline_ends_at_once() {
    let mut state = state();
    create(&mut state, 0, 1, |d| d.deadline = at(20)).expect("created");
    claim_one(&mut state, 0);
    state.wait(at(1), &queue(0), worker("w"), 1);
    state.advance(at(500));
    assert!(granted(&mut state).is_empty());
    assert_eq!(state.status(at(500), id(1)).expect("a task").state(), TaskState::Exception);
}
