//! The index on the books: names that lead to tasks, until they expire.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::{Definition, Refusal, State, TaskId, names::Names, shared};

/// Routes that begin with this put a completed task into the index, under the name that follows.
const ROUTE: &str = "index.";
/// Most characters of a name.
const MOST_NAME: usize = 255;

/// Whether this can be a name in the index.
pub fn is_namespace(text: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_!~*'()%-".contains(&b));
    text.len() <= MOST_NAME && text.split('.').all(part)
}

/// What stands in the index under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Indexed {
    /// The task.
    pub task_id: TaskId,
    /// A task of a lower rank does not replace one of a higher rank.
    pub rank: Number,
    /// Whatever its author wants to say.
    #[serde(with = "shared")]
    pub data: Arc<Value>,
    /// When it is forgotten.
    pub expires: Timestamp,
}

/// How a task wants to be indexed: `extra.index`, with its defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Indexing {
    /// `rank`, or 0.
    pub rank: Number,
    /// `data`, or nothing.
    pub data: Arc<Value>,
    /// `expires`, or when the task is forgotten.
    pub expires: Timestamp,
}

/// All names.
#[derive(Debug, Default)]
pub(super) struct Index {
    tasks: Names<Indexed>,
    /// What is before the dots of names: until the last task below it expires.
    namespaces: Names<()>,
    /// Nothing is noted while nobody wants to know.
    changes: Option<Vec<Arc<str>>>,
}

impl Index {
    /// From now on changes are noted.
    pub(super) fn note_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// Which names have changed since the last call of this.
    pub(super) fn take_changes(&mut self) -> Vec<Arc<str>> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (String, &Indexed)> {
        self.tasks.all()
    }

    pub(super) fn get(&self, namespace: &str) -> Option<&Indexed> {
        self.tasks.get(namespace).map(|(_, entry)| entry)
    }

    /// Puts an entry there, whatever was there.
    pub(super) fn put(&mut self, name: &str, new: Indexed) {
        let expires = new.expires;
        self.tasks.insert(name, expires, new);
        for (end, _) in name.match_indices('.') {
            let parent = &name[..end];
            if self.namespaces.get(parent).is_none_or(|(until, ())| *until < expires) {
                self.namespaces.insert(parent, expires, ());
            }
        }
    }

    fn note(&mut self, name: &str) {
        if let Some(changes) = &mut self.changes {
            changes.push(name.into());
        }
    }

    pub(super) fn forget_expired(&mut self, now: Timestamp) {
        for name in self.tasks.forget_expired(now) {
            self.note(&name);
        }
        self.namespaces.forget_expired(now);
    }

    fn insert(&mut self, now: Timestamp, namespace: &str, new: Indexed) {
        self.forget_expired(now);
        if self.tasks.get(namespace).is_some_and(|(_, known)| new.rank.as_f64() < known.rank.as_f64()) {
            return;
        }
        self.note(namespace);
        self.put(namespace, new);
    }
}

impl State {
    /// Puts a task into the index, unless one of a higher rank has the name.
    pub fn index_task(&mut self, now: Timestamp, namespace: &str, new: Indexed) {
        self.advance(now);
        self.index.insert(now, namespace, new);
    }

    /// What stands in the index under this name.
    pub fn indexed(&mut self, now: Timestamp, namespace: &str) -> Result<Indexed, Refusal> {
        self.index.forget_expired(now);
        let found = self.index.tasks.get(namespace).map(|(_, found)| found.clone());
        found.ok_or_else(|| Refusal::NotFound(format!("nothing is indexed under \"{namespace}\"")))
    }

    /// Takes a name out of the index. One of a lower rank that it replaced does not come back.
    pub fn unindex(&mut self, now: Timestamp, namespace: &str) -> Result<(), Refusal> {
        self.index.forget_expired(now);
        self.index.note(namespace);
        let found = self.index.tasks.remove(namespace).map(drop);
        found.ok_or_else(|| Refusal::NotFound(format!("nothing is indexed under \"{namespace}\"")))
    }

    /// Tasks whose names are one word longer than this one, at most `limit` of those that come after `after`.
    pub fn indexed_under(&mut self, now: Timestamp, parent: &str, after: Option<&str>, limit: usize) -> Vec<(String, Indexed)> {
        self.index.forget_expired(now);
        self.index.tasks.children(parent, after, limit).map(|(name, (_, found))| (name, found.clone())).collect()
    }

    /// Names one word longer than this one that have tasks below them, and when these have expired.
    pub fn namespaces_under(
        &mut self,
        now: Timestamp,
        parent: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(String, Timestamp)> {
        self.index.forget_expired(now);
        self.index.namespaces.children(parent, after, limit).map(|(name, (until, ()))| (name, *until)).collect()
    }

    /// A task has completed: its routes may put it into the index. Names that cannot be any are left out.
    pub(super) fn index_completed(&mut self, now: Timestamp, id: TaskId, definition: &Definition) {
        let Some(Indexing { rank, data, expires }) = definition.indexing.as_deref() else { return };
        for namespace in definition.routes.iter().filter_map(|route| route.strip_prefix(ROUTE)).filter(|n| is_namespace(n)) {
            let new = Indexed { task_id: id, rank: rank.clone(), data: Arc::clone(data), expires: *expires };
            self.index.insert(now, namespace, new);
        }
    }
}

/// How a task with these routes and this `extra` wants to be indexed; nothing if it does not.
pub fn indexing(routes: &[String], extra: Option<&Value>, task_expires: Timestamp) -> Option<Box<Indexing>> {
    if !routes.iter().any(|route| route.starts_with(ROUTE)) {
        return None;
    }
    let given = |name: &str| extra?.get("index")?.get(name);
    let rank = given("rank").and_then(Value::as_number).cloned().unwrap_or_else(|| 0.into());
    let data = given("data").filter(|data| data.is_object()).cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let expires = given("expires").and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(task_expires);
    Some(Box::new(Indexing { rank, data: Arc::new(data), expires }))
}
