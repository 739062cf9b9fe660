//! Large graphs: long chains and wide stars, resolved from one end to the other.

use super::*;

const MANY: usize = 9_999;

/// Tasks that wait for each other one after the other, all in one group.
fn chain(requires: Requires) -> State {
    let mut state = state();
    for number in 0..MANY {
        create(&mut state, 0, number, |d| {
            d.requires = requires;
            d.dependencies = number.checked_sub(1).map(id).into_iter().collect();
        })
        .expect("created");
    }
    state
}

fn counts(state: &mut State, second: i64) -> (usize, usize) {
    state.counts(at(second), &queue(0))
}

#[test]
fn a_long_chain_runs_from_its_first_task_to_its_last() {
    let mut state = chain(Requires::AllCompleted);
    for number in 0..MANY {
        assert_eq!(counts(&mut state, 1), (1, 0));
        assert_eq!(claim_one(&mut state, 1).status.task_id, id(number));
        state.report(at(1), id(number), 0, Report::Completed).expect("reported");
    }
    assert_eq!(counts(&mut state, 1), (0, 0));
}

#[test]
fn canceling_the_first_of_a_chain_goes_one_step_and_its_deadline_goes_all_the_way() {
    let mut state = chain(Requires::AllResolved);
    state.cancel(at(1), id(0)).expect("canceled");
    assert_eq!(state.status(at(1), id(1)).expect("a task").state(), TaskState::Pending);
    assert_eq!(state.status(at(1), id(2)).expect("a task").state(), TaskState::Unscheduled);
    let ticket = state.wait(at(1), &queue(1), worker("w"), 1);
    state.advance(at(1000));
    for number in 0..MANY {
        let status = state.status(at(1000), id(number)).expect("a task");
        assert_eq!(status.state(), TaskState::Exception, "{number}");
    }
    state.leave(ticket);
    state.advance(at(2000));
    assert!(state.tasks.all().is_empty() && state.needs.is_empty() && state.groups.is_empty() && state.lanes.is_empty());
}

#[test]
fn a_chain_is_canceled_as_a_group_and_nothing_of_it_ever_starts() {
    let mut state = chain(Requires::AllResolved);
    let first = state.claim(at(1), &queue(0), &worker("w"), 1);
    assert_eq!(first.len(), 1);
    state.wait(at(1), &queue(0), worker("in line"), 32);
    state.seal_group(at(1), id(0)).expect("sealed");
    let batch = state.cancel_group(at(1), id(0), None, MANY + 1).expect("canceled");
    assert_eq!((batch.looked_at, batch.changed.len(), batch.next), (MANY, MANY, None));
    assert!(granted(&mut state).is_empty(), "a canceled task was given to a worker");
    assert_eq!(counts(&mut state, 1), (0, 0));
}

#[test]
fn many_that_wait_for_one_task_are_told_once_and_in_the_order_of_their_priorities() {
    let mut state = state();
    create(&mut state, 0, 0, |_| {}).expect("created");
    for number in 1..MANY {
        create(&mut state, 0, number, |d| {
            d.dependencies = [id(0)].into();
            d.priority = if number == MANY - 1 { Priority::Highest } else { Priority::Low };
        })
        .expect("created");
    }
    let mut last = None;
    for run in 0..20 {
        claim_one(&mut state, 1);
        last = Some(state.report(at(1), id(0), run, Report::Failed).expect("reported"));
        state.rerun(at(1), id(0)).expect("again");
    }
    assert_eq!(last.expect("runs").runs.len(), 20);
    claim_one(&mut state, 1);
    let ticket = state.wait(at(1), &queue(0), worker("w"), 2);
    state.report(at(1), id(0), 20, Report::Completed).expect("reported");
    let grants = granted(&mut state);
    let given: Vec<_> = grants[0].1.iter().map(|claim| claim.status.task_id).collect();
    assert_eq!((grants[0].0, given), (ticket, vec![id(MANY - 1), id(1)]));
    assert_eq!(counts(&mut state, 1), (MANY - 3, 2));
}
