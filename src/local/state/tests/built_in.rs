use super::*;

fn json(payload: &str) -> Box<RawValue> {
    RawValue::from_string(format!(r#"{{"payload":{payload}}}"#)).expect("JSON")
}

fn of(queue: &'static str, payload: &'static str) -> impl Fn(&mut Definition) {
    move |definition| {
        definition.task_queue_id = queue.into();
        definition.json = json(payload);
    }
}

fn end(state: &mut State, number: usize) -> (TaskState, Option<WhyResolved>) {
    let status = state.status(at(1), id(number)).expect("a task");
    (status.state(), status.runs.last().and_then(|run| Some(run.resolved?.0)))
}

#[test]
fn the_queue_resolves_its_own_tasks() {
    let mut state = state();
    for (number, (queue, payload, expected)) in [
        ("built-in/succeed", "{}", (TaskState::Completed, WhyResolved::Completed)),
        ("built-in/fail", "{}", (TaskState::Failed, WhyResolved::Failed)),
        ("built-in/succeed", r#"{"a":1}"#, (TaskState::Exception, WhyResolved::MalformedPayload)),
    ]
    .into_iter()
    .enumerate()
    {
        let created = create(&mut state, 1, number, of(queue, payload)).expect("created");
        assert_eq!((created.state(), state.next_wakeup()), (TaskState::Pending, Some(at(1))));
        assert!(state.claim(at(1), &queue.into(), &worker("w"), 1).is_empty(), "nobody else gets it");
        assert_eq!(end(&mut state, number), (expected.0, Some(expected.1)), "{queue} {payload}");
        assert_eq!(state.counts(at(1), &queue.into()), (0, 0));
    }
    create(&mut state, 1, 7, of("built-in/other", "{}")).expect("created");
    assert_eq!(end(&mut state, 7).0, TaskState::Pending);
}

#[test]
fn one_that_is_canceled_or_run_again_is_like_others() {
    let mut state = state();
    create(&mut state, 1, 1, of("built-in/fail", "{}")).expect("created");
    assert_eq!(end(&mut state, 1).0, TaskState::Failed);
    state.rerun(at(1), id(1)).expect("again");
    state.prioritize(at(1), id(1), Priority::High).expect_err("it is resolved by then");
    assert_eq!(state.status(at(1), id(1)).expect("a task").runs.len(), 2);
    create(&mut state, 1, 2, |_| {}).expect("created");
    let waits = |definition: &mut Definition| {
        of("built-in/succeed", "{}")(definition);
        definition.dependencies = Box::new([id(2)]);
    };
    create(&mut state, 1, 3, waits).expect("created");
    assert_eq!(end(&mut state, 3).0, TaskState::Unscheduled);
    state.cancel(at(1), id(3)).expect("canceled");
    assert_eq!(end(&mut state, 3), (TaskState::Exception, Some(WhyResolved::Canceled)));
}

#[test]
fn a_long_chain_of_them_ends_in_one_call() {
    let mut state = state();
    create(&mut state, 0, 0, |_| {}).expect("created");
    for number in 1..=5_000 {
        let waits = |definition: &mut Definition| {
            of("built-in/succeed", "{}")(definition);
            definition.dependencies = Box::new([id(number - 1)]);
        };
        create(&mut state, 0, number, waits).expect("created");
    }
    claim_one(&mut state, 1);
    state.report(at(1), id(0), 0, Report::Completed).expect("reported");
    assert_eq!(end(&mut state, 5_000).0, TaskState::Completed);
}

#[test]
fn one_that_was_pending_over_a_restart_is_resolved_after_it() {
    let mut before = state();
    create(&mut before, 1, 1, of("built-in/succeed", "{}")).expect("created");
    let mut books = State::reopen(Rules { claim_timeout: CLAIM, any_queue: false });
    let record = before.task_record(id(1)).expect("a record");
    books.task(id(1), before.definition(id(1)).expect("defined").clone(), record);
    assert_eq!(end(&mut books.finish(), 1).0, TaskState::Completed);
}
