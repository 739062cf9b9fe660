//! Tests of the state machine: rules one by one, then random histories.

mod artifacts;
mod beside;
mod built_in;
mod chains;
mod histories;
mod model;
mod orders;
mod restarts;
mod rules;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::value::RawValue;

use super::*;

/// Claims hold this long in these tests.
pub(super) const CLAIM: SignedDuration = SignedDuration::from_secs(10);

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).expect("a date")
}

pub(super) fn id(number: usize) -> TaskId {
    TaskId::parse(&format!("Task{number:04}TPSVFNUvaOlinQ")).expect("an id")
}

pub(super) fn queue(number: usize) -> Arc<str> {
    format!("p/w{number}").into()
}

pub(super) fn worker(name: &str) -> Arc<Worker> {
    Arc::new(Worker { group: "g".into(), id: name.into() })
}

pub(super) fn state() -> State {
    State::new(Rules { claim_timeout: CLAIM, any_queue: false })
}

pub(super) fn definition() -> Definition {
    Definition {
        json: RawValue::from_string("{}".to_owned()).expect("JSON"),
        task_queue_id: queue(0),
        scheduler_id: "-".into(),
        project_id: "none".into(),
        task_group_id: id(0),
        dependencies: Box::default(),
        requires: Requires::AllCompleted,
        priority: Priority::Lowest,
        retries: 2,
        deadline: at(1000),
        expires: at(2000),
        scopes: Box::default(),
        routes: Box::default(),
        indexing: None,
    }
}

pub(super) fn create(
    state: &mut State,
    second: i64,
    number: usize,
    change: impl FnOnce(&mut Definition),
) -> Result<Status, Refusal> {
    let mut definition = definition();
    change(&mut definition);
    state.create(at(second), id(number), Arc::new(definition))
}

/// The one run that was claimed.
pub(super) fn claim_one(state: &mut State, second: i64) -> Claim {
    state.claim(at(second), &queue(0), &worker("w"), 1).pop().expect("a claim")
}

/// What was granted to workers in line since the last look.
pub(super) fn granted(state: &mut State) -> Vec<(Ticket, Vec<Claim>)> {
    let grants = state.take_effects().into_iter().filter_map(|effect| match effect {
        Effect::Granted(ticket, claims) => Some((ticket, claims)),
        Effect::Unstored(_) => None,
    });
    grants.collect()
}
