//! Books that were closed and opened again from their records, at any moment of random histories.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use proptest::prelude::*;

use super::{histories::*, *};

/// What a ledger would have: the last record of everything that was noted.
#[derive(Default)]
struct Kept {
    definitions: HashMap<TaskId, Arc<Definition>>,
    tasks: HashMap<TaskId, String>,
    artifacts: HashMap<(TaskId, u32, Box<str>), String>,
    index: HashMap<Arc<str>, String>,
    seals: HashMap<TaskId, String>,
    queues: HashMap<Arc<str>, String>,
    workers: HashMap<(Arc<str>, Arc<Worker>), String>,
    quarantines: HashMap<(Arc<str>, Arc<Worker>), String>,
}

fn set<K: std::hash::Hash + Eq>(map: &mut HashMap<K, String>, key: K, record: Option<impl serde::Serialize>) {
    match record {
        Some(record) => map.insert(key, serde_json::to_string(&record).expect("JSON")),
        None => map.remove(&key),
    };
}

impl Kept {
    fn note(&mut self, state: &mut State) {
        for change in state.take_changes() {
            match change {
                Change::New(id) => {
                    self.definitions.extend(state.definition(id).map(|definition| (id, definition.clone())));
                    set(&mut self.tasks, id, state.task_record(id));
                }
                Change::Task(id) => set(&mut self.tasks, id, state.task_record(id)),
                Change::Artifact(id, run, name) => {
                    let record = state.artifact_record(id, run, &name);
                    set(&mut self.artifacts, (id, run, name), record);
                }
                Change::Seal(group) => set(&mut self.seals, group, state.seal_record(group)),
                Change::Queue(queue) => set(&mut self.queues, queue.clone(), state.queue_record(&queue)),
                Change::Worker(queue, worker) => {
                    let record = state.worker_record(&queue, &worker);
                    set(&mut self.workers, (queue, worker), record);
                }
                Change::Quarantine(queue, worker) => {
                    let record = state.quarantine_record(&queue, &worker).map(<[_]>::to_vec);
                    set(&mut self.quarantines, (queue, worker), record);
                }
                Change::Indexed(name) => set(&mut self.index, name.clone(), state.index_record(&name)),
            }
        }
    }

    fn reopen(&self) -> State {
        fn parse<T: serde::de::DeserializeOwned>(text: &str) -> T {
            serde_json::from_str(text).expect("a record")
        }
        let mut reopening = State::reopen(Rules { claim_timeout: CLAIM, any_queue: false });
        for (id, text) in &self.tasks {
            reopening.task(*id, self.definitions[id].clone(), parse(text));
        }
        for ((id, run, name), text) in &self.artifacts {
            reopening.artifact(*id, *run, name, parse(text));
        }
        for (name, text) in &self.index {
            reopening.indexed(name, parse(text));
        }
        for (group, text) in &self.seals {
            reopening.seal(*group, parse(text));
        }
        for (queue, text) in &self.queues {
            reopening.queue(queue, parse(text));
        }
        for ((queue, worker), text) in &self.workers {
            reopening.worker(queue, worker, parse(text));
        }
        for ((queue, worker), text) in &self.quarantines {
            reopening.quarantine(queue, worker, parse(text));
        }
        reopening.finish()
    }
}

/// Everything that decides what the books will ever answer, except for workers in line, who have to come again.
fn shown(state: &State) -> String {
    let tasks: BTreeMap<_, _> = state.tasks.all().iter().collect();
    let mut text = String::new();
    // Only the order of places counts.
    let mut places: Vec<_> = tasks.values().filter_map(|task| task.place).collect();
    places.sort_unstable();
    for (id, task) in tasks {
        let dependents = state.needs.waiting(*id);
        let unscheduled = task.runs.is_empty();
        let blocked_by = unscheduled.then_some(task.blocked_by);
        let dependents: Vec<_> =
            dependents.into_iter().filter(|other| state.tasks.get(other).is_some_and(|other| other.runs.is_empty())).collect();
        writeln!(
            text,
            "{id} {:?} {} {:?} {:?} {blocked_by:?} {dependents:?} {:?}",
            task.priority,
            task.retries_left,
            task.runs,
            task.place.map(|place| places.binary_search(&place)),
            task.artifacts
        )
        .expect("written");
    }
    writeln!(text, "{:?}", state.alarms).expect("written");
    for number in 0..QUEUES {
        writeln!(text, "{:?}", state.lanes.counts(&queue(number), |_| true)).expect("written");
    }
    for number in 0..GROUPS {
        let group = state.seal_record(id(number));
        writeln!(text, "{group:?}").expect("written");
    }
    let names: BTreeMap<_, _> = state.index.all().collect();
    writeln!(text, "{names:?}").expect("written");
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_can_tell_that_the_books_were_closed(
        before in prop::collection::vec(step(), 1..80),
        after in prop::collection::vec(step(), 1..40),
    ) {
        let mut state = state();
        state.note_changes();
        let mut kept = Kept::default();
        let mut memory = Memory::default();
        for step in &before {
            take(&mut state, &mut memory, step);
            publish(&mut state, &memory);
            kept.note(&mut state);
        }
        // Workers in line do not survive.
        for ticket in memory.tickets.drain(..) {
            state.leave(ticket);
        }
        state.note_fleet();
        kept.note(&mut state);
        let mut restored = kept.reopen();
        prop_assert_eq!(shown(&restored), shown(&state));
        let queues = state.task_queues(at(memory.now), None, 99);
        prop_assert_eq!(&restored.task_queues(at(memory.now), None, 99), &queues);
        for queue in queues.iter().map(|queue| &queue.task_queue_id) {
            let workers = state.workers(at(memory.now), queue, None, None, 99);
            prop_assert_eq!(restored.workers(at(memory.now), queue, None, None, 99), workers);
        }
        let mut ours = Memory::at(memory.now);
        let mut theirs = Memory::at(memory.now);
        for step in &after {
            take(&mut state, &mut ours, step);
            take(&mut restored, &mut theirs, step);
            audit(&mut restored, &mut theirs);
            prop_assert_eq!(shown(&restored), shown(&state));
        }
    }
}

/// The runs that run have artifacts, and are indexed.
fn publish(state: &mut State, memory: &Memory) {
    let now = at(memory.now);
    let Some(claim) = memory.claims.last() else { return };
    let (id, run) = (claim.status.task_id, claim.run_id);
    let new = |storage| NewArtifact { content_type: "text/plain".into(), expires: at(memory.now + 1), storage };
    let _ = state.create_artifact(now, id, run, "public/s3", new(Storage::S3 { content_length: Some(3), stored: None }));
    let upload = Stored { path: "one".into(), bytes: 3, content_encoding: Some("gzip".into()) };
    let _ = state.stored(now, id, run, "public/s3", upload);
    let link = Storage::Link { artifact: "public/s3".into() };
    let _ = state.create_artifact(now, id, run, "public/link/with spaces", new(link));
    let data = Arc::new(serde_json::json!({ "a": [1.5, "b"] }));
    let entry = Indexed { task_id: id, rank: memory.now.into(), data, expires: at(memory.now + 5) };
    state.index_task(now, "a.b", entry);
}

#[test]
fn what_was_satisfied_once_stays_so_while_it_runs_again() {
    for restarted in [false, true] {
        let mut state = state();
        state.note_changes();
        let mut kept = Kept::default();
        create(&mut state, 0, 1, |d| d.priority = Priority::Highest).expect("created");
        create(&mut state, 0, 2, |_| {}).expect("created");
        create(&mut state, 0, 3, |d| d.dependencies = [id(1), id(2)].into()).expect("created");
        let complete = |state: &mut State, number: usize| {
            let claim = claim_one(state, 1);
            assert_eq!(claim.status.task_id, id(number));
            state.report(at(1), id(number), claim.run_id, Report::Completed).expect("reported");
        };
        complete(&mut state, 1);
        kept.note(&mut state);
        state.rerun(at(1), id(1)).expect("again");
        complete(&mut state, 1);
        assert_eq!(state.status(at(1), id(3)).expect("a task").state(), TaskState::Unscheduled, "one counts once");
        state.rerun(at(1), id(1)).expect("again");
        kept.note(&mut state);
        if restarted {
            state = kept.reopen();
        }
        let claims = state.claim(at(1), &queue(0), &worker("w"), 2);
        assert_eq!(claims.len(), 2);
        state.report(at(1), id(2), 0, Report::Completed).expect("reported");
        assert_eq!(state.status(at(1), id(3)).expect("a task").state(), TaskState::Pending, "restarted: {restarted}");
    }
}

#[test]
fn a_quarantine_is_kept_until_its_worker_is_forgotten() {
    let mut state = state();
    state.note_changes();
    let mut kept = Kept::default();
    state.claim(at(0), &queue(0), &worker("w"), 1);
    let change = |until| Quarantined { until: at(until), at: at(0), client_id: "c".into(), info: "i".into() };
    state.quarantine(at(0), &queue(0), &worker("w"), change(100)).expect("in quarantine");
    kept.note(&mut state);
    let mut restored = kept.reopen();
    create(&mut restored, 50, 1, |_| {}).expect("created");
    assert!(restored.claim(at(99), &queue(0), &worker("w"), 1).is_empty());
    assert_eq!(restored.worker(at(99), "p/w0", &worker("w")).expect("a worker").quarantine, [change(100)]);
    assert_eq!(restored.claim(at(100), &queue(0), &worker("w"), 1).len(), 1);
    state.advance(at(200_000));
    assert!(state.task_queues(at(1_000_000), None, 9).is_empty());
    kept.note(&mut state);
    assert!(kept.quarantines.is_empty() && kept.workers.is_empty() && kept.queues.is_empty());
}

#[test]
fn that_a_worker_was_seen_once_more_is_noted_once_a_minute_and_when_the_books_are_closed() {
    let mut state = state();
    state.note_changes();
    let poll = |state: &mut State, now| {
        state.claim(at(now), &queue(0), &worker("w"), 1);
        state.take_changes()
    };
    let both = [Change::Worker(queue(0), worker("w")), Change::Queue(queue(0))];
    let first = poll(&mut state, 0);
    assert!(both.iter().all(|change| first.contains(change)), "{first:?}");
    assert_eq!(poll(&mut state, 30), []);
    assert_eq!(poll(&mut state, 60), both);
    assert_eq!(poll(&mut state, 119), []);
    state.note_fleet();
    let last = state.take_changes();
    assert!(last.len() == 2 && both.iter().all(|change| last.contains(change)), "{last:?}");
    assert_eq!(state.worker_record("p/w0", &worker("w")).map(|record| record.last_active), Some(at(119)));
    // A run is noted with its worker.
    create(&mut state, 120, 1, |_| {}).expect("created");
    state.take_changes();
    assert!(poll(&mut state, 121).contains(&both[0]));
}

#[test]
fn nobody_waits_for_a_task_that_is_forgotten_first() {
    let mut state = state();
    create(&mut state, 0, 0, |d| (d.deadline, d.expires) = (at(5), at(10))).expect("created");
    let refused = create(&mut state, 0, 1, |d| d.dependencies = [id(0)].into()).expect_err("refused");
    assert!(matches!(&refused, Refusal::Input(why) if why.contains("expire before its deadline")), "{refused}");
    create(&mut state, 0, 1, |d| (d.deadline, d.dependencies) = (at(10), [id(0)].into())).expect("created");
}
