//! What has to be kept of the books, and how they are opened again.
//!
//! A record holds what cannot be told from anything else: [`TaskRecord`] for a task apart from its definition, [`Artifact`] and [`Indexed`] as
//! they are. They are written as JSON by the names of their fields. A field that is added later needs `#[serde(default)]`, and fields that are
//! not known are passed over, so that a directory can be used by an older and by a newer version.
//!
//! Lanes, alarms, who waits for whom and how many are missing follow from the records: [`State::restore`] makes them anew.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Alarm, Artifact, Definition, Indexed, Run, RunState, State, Task, TaskId, schedule::satisfies};

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
    /// How many of its dependencies it waits for although they are not on the books any more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// All records.
#[derive(Default)]
pub struct Records {
    /// All tasks, in any order.
    pub tasks: Vec<(TaskId, Arc<Definition>, TaskRecord)>,
    /// All artifacts by task, run and name; those of other tasks are passed over.
    pub artifacts: Vec<(TaskId, u32, String, Artifact)>,
    /// The index.
    pub index: Vec<(String, Indexed)>,
}

impl State {
    /// What has to be kept of this task; nothing if there is no such task.
    pub fn task_record(&self, id: TaskId) -> Option<TaskRecord> {
        let task = self.tasks.get(&id)?;
        Some(TaskRecord {
            retries_left: task.retries_left,
            runs: task.runs.clone(),
            age: task.place.map(|place| place.age),
            // Once it has a run, it waits for nothing.
            lost: if task.runs.is_empty() { task.blocked_by.saturating_sub(self.open_needs(&task.definition)) } else { 0 },
        })
    }

    /// How many of a task's dependencies are on the books and not what it waits for.
    fn open_needs(&self, definition: &Definition) -> usize {
        definition
            .dependencies
            .iter()
            .filter(|on| {
                self.tasks.get(on).is_some_and(|task| !satisfies(task.runs.last().map(|run| run.state), definition.requires))
            })
            .count()
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

    /// Opens empty books with these records in them. What has expired in the meantime expires at the next call.
    pub fn restore(&mut self, records: Records) {
        let Records { tasks, artifacts, index } = records;
        let ids: Vec<TaskId> = tasks.iter().map(|(id, ..)| *id).collect();
        for (id, definition, record) in tasks {
            self.restore_task(id, definition, record);
        }
        for (id, run_id, name, artifact) in artifacts {
            if let Some(task) = self.tasks.get_mut_unnoted(&id) {
                task.artifacts.insert(run_id, name, artifact);
            }
        }
        self.restore_waits(&ids);
        for (namespace, entry) in index {
            self.index.put(&namespace, entry);
        }
    }

    fn restore_task(&mut self, id: TaskId, definition: Arc<Definition>, record: TaskRecord) {
        let last = record.runs.last();
        let state = last.map(|run| run.state);
        if !state.is_some_and(RunState::is_resolved) {
            self.alarms.insert((definition.deadline, id, Alarm::Deadline));
        }
        self.alarms.insert((definition.expires, id, Alarm::Expiry));
        if let (Some(RunState::Running), Some(hold)) = (state, last.and_then(|run| run.hold.as_ref())) {
            self.alarms.insert((hold.taken_until, id, Alarm::Claim));
        }
        let place = record.age.map(|age| self.lanes.old_place(definition.priority, age));
        if let (Some(RunState::Pending), Some(place)) = (state, place) {
            self.lanes.put(&definition.task_queue_id, place, id);
        }
        let task = Task {
            retries_left: record.retries_left,
            runs: record.runs,
            place,
            blocked_by: record.lost,
            dependents: Vec::new(),
            artifacts: super::artifact::Artifacts::default(),
            definition,
        };
        self.tasks.put_unnoted(id, task);
    }

    /// Who waits for whom.
    fn restore_waits(&mut self, ids: &[TaskId]) {
        for id in ids {
            let Some(definition) = self.definition(*id).filter(|definition| !definition.dependencies.is_empty()) else {
                continue;
            };
            let definition = Arc::clone(definition);
            let mut missing = 0;
            for on in &definition.dependencies {
                let Some(task) = self.tasks.get_mut_unnoted(on) else { continue };
                if !satisfies(task.runs.last().map(|run| run.state), definition.requires) {
                    missing += 1;
                    if on != id {
                        task.dependents.push(*id);
                    }
                }
            }
            if let Some(task) = self.tasks.get_mut_unnoted(id) {
                task.blocked_by += missing;
            }
        }
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
