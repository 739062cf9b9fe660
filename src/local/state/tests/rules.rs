use super::*;

fn state_of(state: &mut State, second: i64, number: usize) -> TaskState {
    state.status(at(second), id(number)).expect("a task").state()
}

fn last_run(state: &mut State, second: i64, number: usize) -> Run {
    state.status(at(second), id(number)).expect("a task").runs.pop().expect("a run")
}

#[test]
fn urgent_tasks_come_first_then_old_ones() {
    let mut state = state();
    for (number, priority) in [(1, Priority::Low), (2, Priority::High), (3, Priority::Low), (4, Priority::Highest)] {
        create(&mut state, 0, number, |d| d.priority = priority).expect("created");
    }
    let claims = state.claim(at(1), &queue(0), &worker("w"), 32);
    let order: Vec<_> = claims.iter().map(|claim| claim.status.task_id).collect();
    assert_eq!(order, [id(4), id(2), id(1), id(3)]);
    assert!(claims.iter().all(|claim| claim.taken_until == at(11) && claim.run_id == 0));
    assert!(state.claim(at(1), &queue(1), &worker("w"), 1).is_empty());
}

#[test]
fn creating_again_changes_nothing_and_another_definition_is_a_conflict() {
    let mut state = state();
    create(&mut state, 0, 1, |_| {}).expect("created");
    let claim = claim_one(&mut state, 1);
    let again = create(&mut state, 2, 1, |_| {}).expect("the same");
    assert_eq!(again.state(), TaskState::Running);
    assert_eq!(again.runs, claim.status.runs);
    let other = |d: &mut Definition| d.json = RawValue::from_string(r#"{"a":1}"#.to_owned()).expect("JSON");
    assert!(matches!(create(&mut state, 2, 1, other), Err(Refusal::Conflict(_))));
}

#[test]
fn definitions_are_compared_by_what_they_say() {
    let with = |json: &str| Definition { json: RawValue::from_string(json.to_owned()).expect("JSON"), ..definition() };
    assert!(with(r#"{"a":1,"b":[2]}"#).same(&with(r#"{"b":[2],"a":1}"#)));
    assert!(!with(r#"{"a":1,"b":[2]}"#).same(&with(r#"{"b":[3],"a":1}"#)));
}

#[test]
fn a_claim_that_expires_makes_a_new_run_until_no_retries_are_left() {
    let mut state = state();
    create(&mut state, 0, 1, |d| d.retries = 1).expect("created");
    claim_one(&mut state, 0);
    assert_eq!(state.next_wakeup(), Some(at(10)));
    assert_eq!(state_of(&mut state, 9, 1), TaskState::Running);
    assert_eq!(state_of(&mut state, 10, 1), TaskState::Pending);
    let status = state.status(at(10), id(1)).expect("a task");
    assert_eq!(status.retries_left, 0);
    assert_eq!(status.runs[0].resolved, Some((WhyResolved::ClaimExpired, at(10))));
    assert_eq!(status.runs[1].why_created, WhyCreated::Retry);
    assert_eq!(claim_one(&mut state, 11).run_id, 1);
    assert_eq!(state_of(&mut state, 21, 1), TaskState::Exception);
    assert!(matches!(state.report(at(21), id(1), 1, Report::Completed), Err(Refusal::Conflict(_))));
}

#[test]
fn a_reclaim_moves_the_end_of_the_claim_and_never_back() {
    let mut state = state();
    create(&mut state, 0, 1, |_| {}).expect("created");
    claim_one(&mut state, 0);
    assert_eq!(state.reclaim(at(6), id(1), 0).expect("renewed").taken_until, at(16));
    // The clock went back.
    assert_eq!(state.reclaim(at(3), id(1), 0).expect("renewed").taken_until, at(16));
    assert_eq!(state_of(&mut state, 15, 1), TaskState::Running);
    assert_eq!(state_of(&mut state, 16, 1), TaskState::Pending);
    assert!(matches!(state.reclaim(at(16), id(1), 0), Err(Refusal::Conflict(_))));
    assert!(matches!(state.reclaim(at(16), id(1), 1), Err(Refusal::Conflict(_))), "pending is not running");
    assert!(matches!(state.reclaim(at(16), id(1), 2), Err(Refusal::NotFound(_))));
    assert!(matches!(state.reclaim(at(16), id(2), 0), Err(Refusal::NotFound(_))));
}

#[test]
fn reports_may_be_repeated_but_not_contradicted() {
    for report in [Report::Completed, Report::Failed, Report::Exception(Trouble::InternalError)] {
        let mut state = state();
        create(&mut state, 0, 1, |_| {}).expect("created");
        assert!(matches!(state.report(at(0), id(1), 0, report), Err(Refusal::Conflict(_))), "it is only pending");
        claim_one(&mut state, 0);
        let first = state.report(at(1), id(1), 0, report).expect("reported");
        let second = state.report(at(5), id(1), 0, report).expect("repeated");
        assert_eq!(first.runs, second.runs);
        for other in [Report::Completed, Report::Failed, Report::Exception(Trouble::MalformedPayload)] {
            assert_eq!(state.report(at(6), id(1), 0, other).is_err(), other != report, "{report:?} {other:?}");
        }
        assert_eq!(state.next_wakeup(), Some(at(2000)), "neither claim nor deadline is left");
    }
}

#[test]
fn two_exceptions_are_retried_and_repeating_the_report_adds_no_run() {
    for (trouble, why) in [(Trouble::WorkerShutdown, WhyCreated::Retry), (Trouble::IntermittentTask, WhyCreated::TaskRetry)] {
        let mut state = state();
        create(&mut state, 0, 1, |_| {}).expect("created");
        claim_one(&mut state, 0);
        for second in [1, 2] {
            let status = state.report(at(second), id(1), 0, Report::Exception(trouble)).expect("reported");
            assert_eq!((status.state(), status.runs.len(), status.retries_left), (TaskState::Pending, 2, 1));
            assert_eq!(status.runs[1].why_created, why);
        }
        claim_one(&mut state, 3);
        state.report(at(4), id(1), 1, Report::Exception(trouble)).expect("reported");
        claim_one(&mut state, 5);
        let status = state.report(at(6), id(1), 2, Report::Exception(trouble)).expect("reported");
        assert_eq!((status.state(), status.runs.len(), status.retries_left), (TaskState::Exception, 3, 0));
        assert!(state.report(at(7), id(1), 0, Report::Exception(trouble)).is_err(), "two runs have followed");
    }
}

#[test]
fn the_deadline_resolves_whatever_is_open() {
    let mut state = state();
    for number in [1, 2, 3] {
        create(&mut state, 0, number, |d| d.deadline = at(5)).expect("created");
    }
    create(&mut state, 0, 4, |d| {
        d.deadline = at(5);
        d.dependencies = [id(3)].into();
    })
    .expect("created");
    claim_one(&mut state, 1);
    state.cancel(at(1), id(2)).expect("canceled");
    state.advance(at(5));
    assert_eq!(last_run(&mut state, 5, 1).resolved, Some((WhyResolved::DeadlineExceeded, at(5))));
    assert_eq!(last_run(&mut state, 5, 2).resolved, Some((WhyResolved::Canceled, at(1))));
    assert_eq!(last_run(&mut state, 5, 3).resolved, Some((WhyResolved::DeadlineExceeded, at(5))));
    assert_eq!(last_run(&mut state, 5, 4).why_created, WhyCreated::Exception);
    assert_eq!(state.status(at(5), id(1)).expect("a task").runs.len(), 1, "no retry after the deadline");
    assert!(state.claim(at(5), &queue(0), &worker("w"), 9).is_empty());
    assert!(matches!(state.reclaim(at(5), id(1), 0), Err(Refusal::Conflict(_))));
}

#[test]
fn cancel_ends_pending_running_and_unscheduled_tasks_once() {
    let mut state = state();
    create(&mut state, 0, 1, |_| {}).expect("created");
    create(&mut state, 0, 2, |d| d.dependencies = [id(1)].into()).expect("created");
    assert_eq!(state_of(&mut state, 0, 2), TaskState::Unscheduled);
    claim_one(&mut state, 0);
    for number in [1, 2] {
        let first = state.cancel(at(1), id(number)).expect("canceled");
        assert_eq!((first.state(), first.runs.len()), (TaskState::Exception, 1));
        assert_eq!(state.cancel(at(2), id(number)).expect("again").runs, first.runs);
    }
    assert!(matches!(state.report(at(2), id(1), 0, Report::Completed), Err(Refusal::Conflict(_))));
    assert!(matches!(state.cancel(at(1000), id(1)), Err(Refusal::Conflict(_))), "after the deadline");
    assert!(matches!(state.cancel(at(3), id(9)), Err(Refusal::NotFound(_))));
}

#[test]
fn a_task_waits_for_its_dependencies() {
    let mut state = state();
    assert!(matches!(create(&mut state, 0, 2, |d| d.dependencies = [id(1)].into()), Err(Refusal::Input(_))));
    create(&mut state, 0, 1, |_| {}).expect("created");
    create(&mut state, 0, 2, |d| d.dependencies = [id(1)].into()).expect("created");
    create(&mut state, 0, 3, |d| {
        d.dependencies = [id(1)].into();
        d.requires = Requires::AllResolved;
    })
    .expect("created");
    create(&mut state, 0, 4, |d| d.dependencies = [id(4)].into()).expect("waits for itself");
    claim_one(&mut state, 0);
    state.report(at(1), id(1), 0, Report::Failed).expect("reported");
    assert_eq!(state_of(&mut state, 1, 2), TaskState::Unscheduled);
    assert_eq!(state_of(&mut state, 1, 3), TaskState::Pending);
    assert_eq!(state_of(&mut state, 1, 4), TaskState::Unscheduled);
    create(&mut state, 2, 5, |_| {}).expect("created");
    create(&mut state, 2, 6, |d| d.dependencies = [id(5), id(3)].into()).expect("created");
    for (number, after) in [(3, TaskState::Unscheduled), (5, TaskState::Pending)] {
        assert_eq!(claim_one(&mut state, 2).status.task_id, id(number));
        state.report(at(3), id(number), 0, Report::Completed).expect("reported");
        assert_eq!(state_of(&mut state, 3, 6), after);
    }
    create(&mut state, 4, 7, |d| d.dependencies = [id(5)].into()).expect("created");
    assert_eq!(state_of(&mut state, 4, 7), TaskState::Pending, "its dependency is completed already");
}

#[test]
fn workers_in_line_are_served_in_order_as_soon_as_something_is_pending() {
    let mut state = state();
    let first = state.wait(at(0), &queue(0), worker("a"), 2);
    let second = state.wait(at(0), &queue(0), worker("b"), 2);
    let third = state.wait(at(0), &queue(0), worker("c"), 1);
    state.leave(second);
    assert!(state.claim(at(1), &queue(0), &worker("d"), 1).is_empty());
    create(&mut state, 1, 1, |_| {}).expect("created");
    let grants = granted(&mut state);
    assert_eq!(grants.len(), 1);
    assert_eq!((grants[0].0, grants[0].1.len(), &*grants[0].1[0].worker.id), (first, 1, "a"));
    create(&mut state, 1, 2, |_| {}).expect("created");
    assert_eq!(granted(&mut state)[0].0, third);
    // A retry is served, too.
    let fourth = state.wait(at(2), &queue(0), worker("e"), 1);
    state.advance(at(11));
    let grants = granted(&mut state);
    assert_eq!((grants[0].0, grants[0].1[0].run_id), (fourth, 1));
}

#[test]
fn a_claim_that_is_given_back_goes_to_the_next_in_line_and_keeps_its_age() {
    let mut state = state();
    create(&mut state, 0, 1, |_| {}).expect("created");
    create(&mut state, 0, 2, |_| {}).expect("created");
    let claim = claim_one(&mut state, 0);
    assert_eq!(claim.status.task_id, id(1));
    state.give_back(at(1), &claim);
    assert_eq!(state_of(&mut state, 1, 1), TaskState::Pending);
    let again = claim_one(&mut state, 1);
    assert_eq!((again.status.task_id, again.run_id), (id(1), 0));
    state.give_back(at(1), &claim);
    assert_eq!(state_of(&mut state, 1, 1), TaskState::Running, "that claim is not the one that holds");
    claim_one(&mut state, 1);
    let next = state.wait(at(1), &queue(0), worker("next"), 1);
    state.give_back(at(2), &again);
    assert_eq!(granted(&mut state)[0].0, next);
}

#[test]
fn one_lane_for_all_queues_when_asked_for() {
    let mut state = State::new(Rules { claim_timeout: CLAIM, any_queue: true });
    create(&mut state, 0, 1, |d| d.task_queue_id = queue(5)).expect("created");
    assert_eq!(claim_one(&mut state, 0).status.task_id, id(1));
    let ticket = state.wait(at(0), &queue(0), worker("w"), 1);
    create(&mut state, 0, 2, |d| d.task_queue_id = queue(6)).expect("created");
    assert_eq!(granted(&mut state)[0].0, ticket);
    // Whoever looks at one queue sees its own tasks.
    for number in 3..6 {
        create(&mut state, 0, number, |d| d.task_queue_id = queue(6)).expect("created");
    }
    assert_eq!([0, 5, 6].map(|number| state.counts(at(0), &queue(number))), [(0, 0), (0, 1), (3, 1)]);
    let pages = [(6, false), (6, true), (5, false), (5, true), (0, true)]
        .map(|(number, claimed)| state.lane(at(0), &queue(number), claimed, None, 2).len());
    assert_eq!(pages, [2, 1, 0, 1, 0]);
}

#[test]
fn tasks_are_forgotten_when_they_expire() {
    let mut state = state();
    create(&mut state, 0, 1, |d| (d.deadline, d.expires) = (at(7), at(7))).expect("created");
    state.advance(at(7));
    assert!(matches!(state.status(at(7), id(1)), Err(Refusal::NotFound(_))));
    assert_eq!(state.next_wakeup(), None);
}
