//! The queue's books in the ledger: which records they are, noting what has changed, and opening the books again.
//!
//! | kind | key | bytes |
//! |---|---|---|
//! | `definition` | task id | the task's definition as `task` shows it; written once |
//! | `task` | task id | [`TaskRecord`](crate::local::state::TaskRecord) |
//! | `artifact` | `<task id>/<run>/<name>` | [`Artifact`], with the name of its file in the store |
//! | `indexed` | namespace | [`Indexed`](crate::local::state::Indexed) |
//! | `seal` | task group id | when the group was sealed |
//! | `queue-seen` | task queue id | when it was last used |
//! | `worker-seen` | `<task queue id>/<worker group>/<worker id>` | [`WorkerRecord`] |
//! | `quarantine` | `<task queue id>/<worker group>/<worker id>` | a list of [`Quarantined`] |

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    sync::{Arc, mpsc::sync_channel},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{Batch, Damage, Kind, Ledger, OpenError, definition};
use crate::local::{
    state::{
        Artifact, Change, Definition, Quarantined, Reopening, Rules, State, Storage, TaskId, TaskRecord, Worker, WorkerRecord,
    },
    store::Store,
};

const DEFINITION: Kind = "definition";
const TASK: Kind = "task";
const ARTIFACT: Kind = "artifact";
const INDEXED: Kind = "indexed";
const SEAL: Kind = "seal";
const QUEUE_SEEN: Kind = "queue-seen";
const WORKER_SEEN: Kind = "worker-seen";
const QUARANTINE: Kind = "quarantine";

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
        Change::Task(id) => {
            if let Some(record) = state.task_record(id) {
                batch.put_later(TASK, id.as_str(), move || json(&record));
            } else {
                batch.remove(TASK, id.as_str());
                batch.remove(DEFINITION, id.as_str());
            }
        }
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
        Change::Seal(group) => match state.seal_record(group) {
            Some(sealed) => batch.put(SEAL, group.as_str(), json(&sealed)),
            None => batch.remove(SEAL, group.as_str()),
        },
        Change::Queue(queue) => match state.queue_record(&queue) {
            Some(last_active) => batch.put(QUEUE_SEEN, &*queue, json(&last_active)),
            None => batch.remove(QUEUE_SEEN, &*queue),
        },
        Change::Worker(queue, worker) => {
            let key = worker_name(&queue, &worker);
            match state.worker_record(&queue, &worker) {
                Some(record) => batch.put_later(WORKER_SEEN, key, move || json(&record)),
                None => batch.remove(WORKER_SEEN, key),
            }
        }
        Change::Quarantine(queue, worker) => {
            let key = worker_name(&queue, &worker);
            match state.quarantine_record(&queue, &worker) {
                Some(changes) => batch.put(QUARANTINE, key, json(&changes)),
                None => batch.remove(QUARANTINE, key),
            }
        }
    }
}

/// Records have string keys and finite numbers only, which serialize always.
fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}

/// Opens the books again as they were kept, and from now on keeps what changes. An upload whose file is not whole counts as none.
pub(crate) fn reopen(ledger: &Ledger, rules: Rules, store: &Store) -> Result<State, OpenError> {
    if !ledger.keeps() {
        return Ok(State::new(rules));
    }
    let mut damage = Damage::default();
    let mut books = State::reopen(rules);
    tasks(ledger, &mut damage, &mut books)?;
    let files = store.files();
    let mut used: HashSet<OsString> = HashSet::new();
    ledger.each(ARTIFACT, |key, bytes| {
        let read = artifact_key(key).zip(parse::<Artifact>(bytes));
        let Some(((id, run_id, name), mut artifact)) = damage.unless(ARTIFACT, key, read) else { return };
        if let Storage::S3 { stored, .. } = &mut artifact.storage
            && let Some(upload) = stored
        {
            let file = upload.path.file_name().map(OsStr::to_owned).unwrap_or_default();
            if files.get(&file) == Some(&upload.bytes) {
                upload.path = store.dir().join(&file);
                used.insert(file);
            } else {
                *stored = None;
            }
        }
        books.artifact(id, run_id, name, artifact);
    })?;
    ledger.each(INDEXED, |key, bytes| {
        if let Some(entry) = damage.unless(INDEXED, key, parse(bytes)) {
            books.indexed(key, entry);
        }
    })?;
    ledger.each(SEAL, |key, bytes| {
        if let Some((group, sealed)) = damage.unless(SEAL, key, TaskId::parse(key).zip(parse(bytes))) {
            books.seal(group, sealed);
        }
    })?;
    ledger.each(QUEUE_SEEN, |key, bytes| {
        if let Some(last_active) = damage.unless(QUEUE_SEEN, key, parse(bytes)) {
            books.queue(&key.into(), last_active);
        }
    })?;
    ledger.each(WORKER_SEEN, |key, bytes| {
        let read = worker_of_name(key).zip(parse::<WorkerRecord>(bytes));
        if let Some(((queue, worker), record)) = damage.unless(WORKER_SEEN, key, read) {
            books.worker(&queue, &worker, record);
        }
    })?;
    ledger.each(QUARANTINE, |key, bytes| {
        let read = worker_of_name(key).zip(parse::<Vec<Quarantined>>(bytes));
        if let Some(((queue, worker), changes)) = damage.unless(QUARANTINE, key, read) {
            books.quarantine(&queue, &worker, changes);
        }
    })?;
    damage.tell();
    // Whose a file is may be what could not be read.
    if damage.is_none() {
        store.sweep(files.into_keys().filter(|name| !used.contains(name)));
    }
    let mut state = books.finish();
    state.note_changes();
    Ok(state)
}

/// A task's key, its record, and its definition.
type RawTask = (String, Vec<u8>, Vec<u8>);
/// Tasks are handed from thread to thread by so many.
const TOGETHER: usize = 256;
/// So many of those parcels are on their way at most, so no send ever waits.
const PARCELS: usize = 8;

/// All tasks. Two threads share the work: this one reads the file and fills the books, the other understands what was read; with too much for
/// that on its way, this one helps.
fn tasks(ledger: &Ledger, damage: &mut Damage, books: &mut Reopening) -> Result<(), OpenError> {
    std::thread::scope(|scope| {
        let (raw, to_parse) = sync_channel::<Vec<RawTask>>(PARCELS);
        let (parsed, to_file) = sync_channel(PARCELS);
        // Either side may only be gone when the other has failed, which ends both; so a send that fails needs no answer.
        scope.spawn(move || {
            for parcel in to_parse {
                drop(parsed.send(understand_all(parcel)));
            }
        });
        let mut file = |tasks: Understood| {
            for (task, key) in tasks {
                if let Some((id, definition, record)) = damage.unless(TASK, &key, task) {
                    books.task(id, definition, record);
                }
            }
        };
        let mut parcel = Vec::with_capacity(TOGETHER);
        let mut on_their_way = 0;
        ledger.each_with(TASK, DEFINITION, |key, record, definition| {
            parcel.push((key.to_owned(), record.to_owned(), definition.unwrap_or_default().to_owned()));
            if parcel.len() < TOGETHER {
                return;
            }
            for understood in to_file.try_iter() {
                on_their_way -= 1;
                file(understood);
            }
            let full = std::mem::replace(&mut parcel, Vec::with_capacity(TOGETHER));
            if on_their_way < PARCELS {
                drop(raw.send(full));
                on_their_way += 1;
            } else {
                file(understand_all(full));
            }
        })?;
        drop(raw);
        file(understand_all(parcel));
        to_file.into_iter().for_each(file);
        Ok(())
    })
}

/// What there is to know of each task, if its records make sense, and its key.
type Understood = Vec<(Option<(TaskId, Arc<Definition>, TaskRecord)>, String)>;

fn understand_all(parcel: Vec<RawTask>) -> Understood {
    let understood = parcel.into_iter().map(|(key, record, definition)| (understand(&key, &record, definition), key));
    understood.collect()
}

fn understand(key: &str, record: &[u8], definition: Vec<u8>) -> Option<(TaskId, Arc<Definition>, TaskRecord)> {
    let definition = RawValue::from_string(String::from_utf8(definition).ok()?).ok()?;
    Some((TaskId::parse(key)?, Arc::new(definition::reread(definition).ok()?), parse(record)?))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

fn artifact_key(key: &str) -> Option<(TaskId, u32, &str)> {
    let (id, rest) = key.split_once('/')?;
    let (run_id, name) = rest.split_once('/')?;
    Some((TaskId::parse(id)?, run_id.parse().ok()?, name))
}

fn worker_name(queue: &str, worker: &Worker) -> String {
    format!("{queue}/{}/{}", worker.group, worker.id)
}

fn worker_of_name(key: &str) -> Option<(Arc<str>, Arc<Worker>)> {
    let mut parts = key.rsplitn(3, '/');
    let (id, group, queue) = (parts.next()?, parts.next()?, parts.next()?);
    Some((queue.into(), Arc::new(Worker { group: group.into(), id: id.into() })))
}
