//! Random histories on a real directory: whatever happens, a task finds what a finished task left, or nothing.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone)]
enum Op {
    Lease(usize),
    Return(usize, Verdict),
    Drop(usize),
    /// The process that has it dies.
    Die(usize),
    Restart,
    Purge(usize),
    Trim(usize),
    Room,
    /// Somebody deletes something of the directory.
    Delete(usize),
    DeleteTable,
    DeleteAll,
}

fn op() -> impl Strategy<Value = Op> {
    let verdict = prop_oneof![6 => Just(Verdict::Keep), 1 => Just(Verdict::Unused), 1 => Just(Verdict::Discard)];
    prop_oneof![
        10 => (0..NAMES.len()).prop_map(Op::Lease),
        10 => (0..8_usize, verdict).prop_map(|(at, verdict)| Op::Return(at, verdict)),
        1 => (0..8_usize).prop_map(Op::Drop),
        1 => (0..8_usize).prop_map(Op::Die),
        2 => Just(Op::Restart),
        1 => (0..NAMES.len()).prop_map(Op::Purge),
        1 => (0..3_usize).prop_map(Op::Trim),
        1 => Just(Op::Room),
        1 => (0..8_usize).prop_map(Op::Delete),
        1 => Just(Op::DeleteTable),
        1 => Just(Op::DeleteAll),
    ]
}

/// A lease, and what its task has written into it.
struct Task {
    lease: Lease,
    wrote: Option<String>,
}

fn play(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let rig = Rig::new();
    let mut store = rig.open();
    let mut tasks: Vec<Task> = Vec::new();
    // What finished tasks have left, by name. A cache shows one of these, or nothing.
    let mut finished: HashMap<String, HashSet<String>> = HashMap::new();
    for (step, op) in ops.into_iter().enumerate() {
        rig.later();
        let some = |at: usize| (!tasks.is_empty()).then(|| at % tasks.len());
        match op {
            Op::Lease(name) => {
                let lease = one(&store, NAMES[name]);
                let found = content(&lease);
                prop_assert_eq!(found.is_some(), lease.was_there());
                if let Some(found) = &found {
                    let known = finished.get(NAMES[name]).is_some_and(|known| known.contains(found));
                    prop_assert!(known, "{found:?} is half-written");
                }
                let shared = tasks.iter().any(|other| other.lease.directory() == lease.directory());
                prop_assert!(!shared, "two tasks have {}", lease.directory().display());
                tasks.push(Task { lease, wrote: None });
                let task = tasks.last_mut().expect("one");
                let text = format!("{step}");
                put(&task.lease, &text);
                task.wrote = Some(text);
            }
            Op::Return(at, verdict) => {
                let Some(at) = some(at) else { continue };
                let task = tasks.swap_remove(at);
                let name = task.lease.name().to_owned();
                // A task that was never started has written nothing.
                let verdict = if verdict == Verdict::Unused && task.wrote.is_some() { Verdict::Keep } else { verdict };
                if verdict == Verdict::Keep {
                    finished.entry(name).or_default().extend(task.wrote);
                }
                prop_assert!(task.lease.give_back(verdict).is_ok());
            }
            Op::Drop(at) => {
                if let Some(at) = some(at) {
                    drop(tasks.swap_remove(at));
                }
            }
            Op::Die(at) => {
                if let Some(at) = some(at) {
                    drop(tasks.swap_remove(at).lease.lock.take());
                }
            }
            Op::Restart => store = rig.open(),
            Op::Purge(name) => {
                let before = rig.clock.wall() + SignedDuration::from_hours(1);
                store.purge(&[PurgeRequest { cache_name: NAMES[name].to_owned(), before }]);
                finished.remove(NAMES[name]);
                // Those in use are older than the request, too.
                for task in tasks.iter_mut().filter(|task| task.lease.name() == NAMES[name]) {
                    task.wrote = None;
                }
            }
            Op::Trim(most) => drop(store.trim(most)),
            Op::Room => drop(store.make_room(1)),
            Op::Delete(at) => {
                let units = rig.units();
                if let Some(name) = units.get(at % units.len().max(1)) {
                    drop(fs::remove_dir_all(rig.dir.join(name)));
                }
            }
            Op::DeleteTable => drop(fs::remove_file(rig.dir.join(TABLE))),
            Op::DeleteAll => drop(fs::remove_dir_all(&rig.dir)),
        }
        // Who deletes the content of a cache in use ends what its task wrote.
        tasks.retain(|task| task.lease.directory().exists() || task.wrote.is_none());
    }
    drop(tasks);
    store = rig.open();
    // A store that was closed ends the deletion that it was at, so another one passes that by.
    let deadline = Instant::now() + PATIENCE;
    while rig.units().len() != store.count() {
        prop_assert!(Instant::now() < deadline, "{:?} for {} entries", rig.units(), store.count());
        store.settle(Duration::from_millis(5));
        std::thread::yield_now();
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_cache_is_what_a_finished_task_left_or_gone(ops in proptest::collection::vec(op(), 0..40)) {
        play(ops)?;
    }
}
