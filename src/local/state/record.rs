//! What has to be kept of the books, and how they are opened again.
//!
//! A record holds what cannot be told from anything else: [`TaskRecord`] for a task apart from its definition, [`Artifact`] and [`Indexed`] as
//! they are, the date of a group's seal, when a task queue was last used, [`WorkerRecord`] for a worker that was seen at one, and the changes of its
//! quarantine. They are written as JSON by the names of their fields. A field that is added later needs `#[serde(default)]`, and fields that are
//! not known are passed over, so that a directory can be used by an older and by a newer version.
//!
//! Lanes, alarms, groups, who waits for whom and how many are missing follow from the records: [`Reopening`] makes them anew.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Alarm, Artifact, BuiltIn, Definition, Indexed, Place, Priority, Quarantined, Rules, Run, RunState, State, Task, TaskId,
    Worker, group::Groups, need::Needs,
};

/// A task apart from its definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskRecord {
    /// How many runs may still follow a lost one.
    pub retries_left: u32,
    /// All runs.
    pub runs: Vec<Run>,
    /// Its place among runs of the same priority, while it is pending or running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u64>,
    /// Its priority, if that is not the one of its definition any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Dependencies that it does not wait for any more although they run again, while it is not scheduled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub released_by: Vec<TaskId>,
}

/// A worker that was seen at a task queue, apart from its quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerRecord {
    /// When it was first seen.
    pub first_claim: Timestamp,
    /// When it was last seen, to the minute.
    pub last_active: Timestamp,
    /// When it is forgotten unless it is seen before.
    pub expires: Timestamp,
    /// Its latest runs, the latest last.
    pub recent: Vec<(TaskId, u32)>,
}

impl State {
    /// What has to be kept of this task; nothing if there is no such task.
    pub fn task_record(&self, id: TaskId) -> Option<TaskRecord> {
        let task = self.tasks.get(&id)?;
        Some(TaskRecord {
            retries_left: task.retries_left,
            runs: task.runs.clone(),
            age: task.place.map(|place| place.age),
            priority: Some(task.priority).filter(|priority| *priority != task.definition.priority),
            // Once it has a run, it waits for nothing.
            released_by: if task.runs.is_empty() { self.released_by(id, &task.definition) } else { Vec::new() },
        })
    }

    fn released_by(&self, id: TaskId, definition: &Definition) -> Vec<TaskId> {
        let runs_again = |on: &TaskId| self.needs.is_satisfied(*on, id) && !self.is_satisfied(*on, definition.requires);
        definition.dependencies.iter().copied().filter(runs_again).collect()
    }

    /// The definition of this task.
    pub fn definition(&self, id: TaskId) -> Option<&Arc<Definition>> {
        self.tasks.get(&id).map(|task| &task.definition)
    }

    /// What has to be kept of this artifact; nothing if there is none.
    pub fn artifact_record(&self, id: TaskId, run_id: u32, name: &str) -> Option<Artifact> {
        self.tasks.get(&id)?.artifacts.get(run_id, name).cloned()
    }

    /// What has to be kept of this name in the index; nothing if it leads nowhere.
    pub fn index_record(&self, namespace: &str) -> Option<&Indexed> {
        self.index.get(namespace)
    }

    /// Empty books, to be opened again.
    pub fn reopen(rules: Rules) -> Reopening {
        Reopening { state: Self::new(rules), alarms: Vec::new(), places: Vec::new(), dependents: Vec::new(), seals: Vec::new() }
    }
}

/// Books that are being opened again: every record is put in, tasks before their artifacts.
pub struct Reopening {
    state: State,
    /// These are far faster to put in once they are in order.
    alarms: Vec<(Timestamp, TaskId, Alarm)>,
    places: Vec<(Place, TaskId, Arc<str>, RunState)>,
    /// Tasks that depend on others, and which of those do not count.
    dependents: Vec<(TaskId, Vec<TaskId>)>,
    seals: Vec<(TaskId, Timestamp)>,
}

impl Reopening {
    /// A task that was kept.
    pub fn task(&mut self, id: TaskId, definition: Arc<Definition>, mut record: TaskRecord) {
        record.runs.shrink_to_fit();
        let last = record.runs.last();
        let state = last.map(|run| run.state);
        if !state.is_some_and(RunState::is_resolved) {
            self.alarms.push((definition.deadline, id, Alarm::Deadline));
        }
        self.alarms.push((definition.expires, id, Alarm::Expiry));
        if let (Some(RunState::Running), Some(hold)) = (state, last.and_then(|run| run.hold.as_ref())) {
            self.alarms.push((hold.taken_until, id, Alarm::Claim));
        }
        let pending = last.filter(|run| run.state == RunState::Pending);
        if let (Some(run), Some(_)) = (pending, BuiltIn::of(&definition.task_queue_id)) {
            self.alarms.push((run.scheduled, id, Alarm::BuiltIn));
        }
        let priority = record.priority.unwrap_or(definition.priority);
        let place = record.age.map(|age| self.state.lanes.old_place(priority, age));
        if let (Some(state), Some(place)) = (state, place) {
            self.places.push((place, id, definition.task_queue_id.clone(), state));
        }
        if !definition.dependencies.is_empty() {
            self.dependents.push((id, record.released_by));
        }
        let task = Task {
            priority,
            retries_left: record.retries_left,
            runs: record.runs,
            place,
            blocked_by: 0,
            artifacts: super::artifact::Artifacts::default(),
            definition,
        };
        self.state.tasks.put_unnoted(id, task);
    }

    /// An artifact that was kept. Those of tasks that are not there are passed over.
    pub fn artifact(&mut self, id: TaskId, run_id: u32, name: &str, artifact: Artifact) {
        if let Some(task) = self.state.tasks.get_mut_unnoted(&id) {
            if artifact.expires < task.definition.expires {
                self.alarms.push((artifact.expires, id, Alarm::Artifacts));
            }
            task.artifacts.insert(run_id, name.to_owned(), artifact);
        }
    }

    /// A name in the index that was kept.
    pub fn indexed(&mut self, namespace: &str, entry: Indexed) {
        self.state.index.put(namespace, entry);
    }

    /// A task group that was sealed.
    pub fn seal(&mut self, group: TaskId, sealed: Timestamp) {
        self.seals.push((group, sealed));
    }

    /// A task queue that was used.
    pub fn queue(&mut self, queue: &Arc<str>, last_active: Timestamp) {
        self.state.keep_queue(queue, last_active);
    }

    /// A worker that was seen. It comes before its quarantine.
    pub fn worker(&mut self, queue: &Arc<str>, worker: &Arc<Worker>, record: WorkerRecord) {
        self.state.keep_worker(queue, worker, record);
    }

    /// A worker that was in quarantine.
    pub fn quarantine(&mut self, queue: &Arc<str>, worker: &Arc<Worker>, changes: Vec<Quarantined>) {
        if let Some(last) = changes.last() {
            self.state.keep_quarantine(last.at, queue, worker, changes);
        }
    }

    /// The books as they were. What has expired in the meantime expires at the next call.
    pub fn finish(self) -> State {
        let Self { mut state, mut alarms, mut places, dependents, seals } = self;
        alarms.sort_unstable();
        state.alarms = alarms.into_iter().collect();
        places.sort_unstable_by_key(|(place, ..)| *place);
        for (place, id, queue, run) in places {
            if run == RunState::Running {
                state.lanes.put_claimed(&queue, place, id);
            } else {
                state.lanes.put(&queue, place, id);
            }
        }
        state.restore_needs(dependents);
        state.groups = Groups::restore(&state.tasks);
        for (group, sealed) in seals {
            state.keep_seal(group, sealed);
        }
        state
    }
}

impl State {
    /// Who waits for whom. Nobody is released by a task that is not there, which only happens if records are lost.
    fn restore_needs(&mut self, dependents: Vec<(TaskId, Vec<TaskId>)>) {
        let mut needs = Vec::new();
        for (id, released_by) in dependents {
            let Some(definition) = self.definition(id).cloned() else { continue };
            let mut missing = 0;
            for on in &definition.dependencies {
                let satisfied = released_by.contains(on) || self.is_satisfied(*on, definition.requires);
                missing += usize::from(!satisfied);
                needs.push(((*on, id), satisfied));
            }
            if let Some(task) = self.tasks.get_mut_unnoted(&id) {
                task.blocked_by = missing;
            }
        }
        self.needs = Needs::of(needs);
    }
}

/// Values that several share are kept by each of them.
pub(super) mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(value, serializer)
    }

    pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}
