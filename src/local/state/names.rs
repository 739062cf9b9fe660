//! Values under names with dots, each until it expires, in a form in which the children of a name stand together.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use jiff::Timestamp;

/// A tree of names.
#[derive(Debug)]
pub(super) struct Names<V> {
    by_key: BTreeMap<Arc<str>, (Timestamp, V)>,
    expiries: BTreeSet<(Timestamp, Arc<str>)>,
}

impl<V> Default for Names<V> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), expiries: BTreeSet::new() }
    }
}

/// The parent, a character that no name has and that is smaller than all that do, and the last part.
fn key(name: &str) -> String {
    let (parent, last) = name.rsplit_once('.').unwrap_or(("", name));
    format!("{parent}\0{last}")
}

fn name(key: &str) -> String {
    match key.split_once('\0') {
        Some(("", last)) => last.to_owned(),
        _ => key.replace('\0', "."),
    }
}

impl<V> Names<V> {
    /// Takes out what has expired, and says what that was.
    pub(super) fn forget_expired(&mut self, now: Timestamp) -> Vec<String> {
        let mut forgotten = Vec::new();
        while self.expiries.first().is_some_and(|(when, _)| *when <= now) {
            if let Some((_, key)) = self.expiries.pop_first() {
                self.by_key.remove(&key);
                forgotten.push(name(&key));
            }
        }
        forgotten
    }

    /// When it expires, and the value.
    pub(super) fn get(&self, name: &str) -> Option<&(Timestamp, V)> {
        self.by_key.get(&*key(name))
    }

    /// Puts a value there, in the place of another one.
    pub(super) fn insert(&mut self, name: &str, expires: Timestamp, value: V) {
        self.remove(name);
        let key: Arc<str> = key(name).into();
        self.expiries.insert((expires, Arc::clone(&key)));
        self.by_key.insert(key, (expires, value));
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, name: &str) -> Option<V> {
        let (key, (expires, value)) = self.by_key.remove_entry(&*key(name))?;
        self.expiries.remove(&(expires, key));
        Some(value)
    }

    /// At most `limit` names directly under `parent`, after that one, in their order. The root's name is empty.
    pub(super) fn children(
        &self,
        parent: &str,
        after: Option<&str>,
        limit: usize,
    ) -> impl Iterator<Item = (String, &(Timestamp, V))> {
        let first = format!("{parent}\0");
        // A token that names something else must not lead out of the parent.
        let after = after.map(key).filter(|after| *after > first);
        let from = after.map_or(Bound::Included(first), Bound::Excluded);
        let begin = format!("{parent}\0");
        let range = self.by_key.range::<str, _>((from.as_ref().map(String::as_str), Bound::Unbounded));
        let entries: Vec<_> = range.take_while(|(key, _)| key.starts_with(&begin)).take(limit).collect();
        entries.into_iter().map(|(key, value)| (name(key), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a date")
    }

    #[test]
    fn children_stand_together_whatever_their_siblings_are_called() {
        let mut names = Names::default();
        for name in ["a.c", "a", "a.b.x", "a-b", "a.b", "a!c", "b", "a.b-c", "ab.c"] {
            names.insert(name, at(10), ());
        }
        let children = |parent: &str, after: Option<&str>, limit| {
            names.children(parent, after, limit).map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(children("", None, 9), ["a", "a!c", "a-b", "b"]);
        assert_eq!(children("a", None, 9), ["a.b", "a.b-c", "a.c"]);
        assert_eq!(children("a", Some("a.b"), 1), ["a.b-c"]);
        assert_eq!(children("a.b", None, 9), ["a.b.x"]);
        // A token from elsewhere leads nowhere else.
        assert_eq!(children("a.b", Some("z.z"), 9), [""; 0]);
        assert_eq!(children("a.b", Some("a"), 9), ["a.b.x"]);
        assert_eq!(children("nothing", None, 9), [""; 0]);
    }

    #[test]
    fn what_expires_is_gone_and_what_was_renewed_is_not() {
        let mut names = Names::default();
        names.insert("a", at(10), 1);
        names.insert("b", at(10), 2);
        names.insert("a", at(20), 3);
        names.forget_expired(at(10));
        assert_eq!(names.get("a"), Some(&(at(20), 3)));
        assert_eq!(names.get("b"), None);
        assert_eq!(names.remove("a"), Some(3));
        assert!(names.expiries.is_empty());
    }
}
