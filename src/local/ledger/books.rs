//! The queue's books in the ledger: which records they are, noting what has changed, and opening the books again.
//!
//! | kind | key | bytes |
//! |---|---|---|
//! | `definition` | task id | the task's definition as `task` shows it; written once |
//! | `task` | task id | [`TaskRecord`](crate::local::state::TaskRecord) |
//! | `artifact` | `<task id>/<run>/<name>` | [`Artifact`], with the name of its file in the store |
//! | `indexed` | namespace | [`Indexed`](crate::local::state::Indexed) |

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{Batch, Kind, Ledger, OpenError, definition};
use crate::local::{
    state::{Artifact, Change, Records, State, Storage, TaskId},
    store::Store,
};

const DEFINITION: Kind = "definition";
const TASK: Kind = "task";
const ARTIFACT: Kind = "artifact";
const INDEXED: Kind = "indexed";

/// Notes everything that has changed on the books since the last call of this. Meant to be called while nobody else can change them.
pub(crate) fn note_changes(ledger: &Ledger, state: &mut State) {
    let changes = state.take_changes();
    if changes.is_empty() {
        return;
    }
    ledger.write(|batch| {
        // The last change of a thing shows it as it is now, like all others.
        let mut seen = HashSet::new();
        for change in changes {
            if seen.insert(change.clone()) {
                note(batch, state, change);
            }
        }
    });
}

fn note(batch: &mut Batch<'_>, state: &State, change: Change) {
    match change {
        Change::New(id) => {
            if let Some(definition) = state.definition(id).cloned() {
                batch.put_later(DEFINITION, id.as_str(), move || definition.json.get().as_bytes().to_vec());
            }
            note(batch, state, Change::Task(id));
        }
        Change::Task(id) => match state.task_record(id) {
            Some(record) => batch.put_later(TASK, id.as_str(), move || json(&record)),
            None => {
                batch.remove(TASK, id.as_str());
                batch.remove(DEFINITION, id.as_str());
            }
        },
        Change::Artifact(id, run_id, name) => {
            let key = format!("{id}/{run_id}/{name}");
            match state.artifact_record(id, run_id, &name) {
                Some(record) => batch.put_later(ARTIFACT, key, move || json(&record)),
                None => batch.remove(ARTIFACT, key),
            }
        }
        Change::Indexed(namespace) => match state.index_record(&namespace).cloned() {
            Some(record) => batch.put_later(INDEXED, &*namespace, move || json(&record)),
            None => batch.remove(INDEXED, &*namespace),
        },
    }
}

/// Records have string keys and finite numbers only, which serialize always.
fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}

/// Opens the books again as they were kept, and from now on keeps what changes. An upload whose file is not whole counts as none.
pub(crate) fn restore(ledger: &Ledger, state: &mut State, store: &Store) -> Result<(), OpenError> {
    if !ledger.keeps() {
        return Ok(());
    }
    let mut damage = Damage::default();
    let mut records = Records::default();
    let mut definitions = Vec::new();
    ledger.each(DEFINITION, |key, bytes| {
        let definition = std::str::from_utf8(bytes).ok().and_then(|text| RawValue::from_string(text.to_owned()).ok());
        let read = TaskId::parse(key).zip(definition.and_then(|json| definition::reread(json).ok()));
        definitions.extend(damage.unless(DEFINITION, key, read));
    })?;
    // Both kinds are in the order of their keys.
    let mut definitions = definitions.into_iter().peekable();
    ledger.each(TASK, |key, bytes| {
        let read = TaskId::parse(key).zip(parse(bytes));
        let Some((id, record)) = damage.unless(TASK, key, read) else { return };
        while definitions.next_if(|(other, _)| *other < id).is_some() {}
        let definition = definitions.next_if(|(other, _)| *other == id);
        if let Some((_, definition)) = damage.unless(DEFINITION, key, definition) {
            records.tasks.push((id, Arc::new(definition), record));
        }
    })?;
    let files = store.files();
    let mut used: HashSet<OsString> = HashSet::new();
    ledger.each(ARTIFACT, |key, bytes| {
        let read = artifact_key(key).zip(parse::<Artifact>(bytes));
        let Some(((id, run_id, name), mut artifact)) = damage.unless(ARTIFACT, key, read) else { return };
        if let Storage::S3 { stored, .. } = &mut artifact.storage
            && let Some(upload) = stored
        {
            let name = upload.path.file_name().map(OsStr::to_owned).unwrap_or_default();
            if files.get(&name) == Some(&upload.bytes) {
                upload.path = store.dir().join(&name);
                used.insert(name);
            } else {
                *stored = None;
            }
        }
        records.artifacts.push((id, run_id, name.to_owned(), artifact));
    })?;
    ledger.each(INDEXED, |key, bytes| {
        records.index.extend(damage.unless(INDEXED, key, parse(bytes)).map(|entry| (key.to_owned(), entry)));
    })?;
    damage.tell();
    store.sweep(files.into_keys().filter(|name| !used.contains(name)));
    state.restore(records);
    state.note_changes();
    Ok(())
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

fn artifact_key(key: &str) -> Option<(TaskId, u32, &str)> {
    let (id, rest) = key.split_once('/')?;
    let (run_id, name) = rest.split_once('/')?;
    Some((TaskId::parse(id)?, run_id.parse().ok()?, name))
}

/// Records that make no sense. They are passed over and stay where they are: a queue that does not start helps nobody.
#[derive(Default)]
struct Damage {
    records: u64,
    first: Option<String>,
}

impl Damage {
    fn unless<T>(&mut self, kind: Kind, key: &str, read: Option<T>) -> Option<T> {
        if read.is_none() {
            self.records += 1;
            self.first.get_or_insert_with(|| format!("{kind} \"{key}\""));
        }
        read
    }

    fn tell(&self) {
        if let Some(first) = &self.first {
            tracing::warn!(
                "{} records of the data directory make no sense and are passed over, the first is {first}",
                self.records
            );
        }
    }
}
