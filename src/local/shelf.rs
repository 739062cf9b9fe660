//! A shelf: values of one kind by their names, in the order of the names, as the smaller services keep them.
//!
//! What is put on it or taken off it is what has to survive a restart; everything else about a value is found again from it.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Values by their names.
pub(crate) struct Shelf<V> {
    #[expect(dead_code, reason = "the name under which the values will be kept over restarts")]
    kind: &'static str,
    values: Mutex<BTreeMap<String, V>>,
}

impl<V: Clone> Shelf<V> {
    /// An empty shelf for values of that kind.
    pub(crate) fn new(kind: &'static str) -> Self {
        Self { kind, values: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, V>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of that name.
    pub(crate) fn get(&self, name: &str) -> Option<V> {
        self.lock().get(name).cloned()
    }

    /// Puts a value there.
    pub(crate) fn put(&self, name: &str, value: V) {
        let _ = self.change(name, |place| {
            *place = Some(value);
            Ok::<_, std::convert::Infallible>(())
        });
    }

    /// Changes what is there under that name, or takes it off by leaving nothing. Nothing happens to the shelf after an error.
    pub(crate) fn change<R, E>(&self, name: &str, change: impl FnOnce(&mut Option<V>) -> Result<R, E>) -> Result<R, E> {
        let mut values = self.lock();
        let mut place = values.get(name).cloned();
        let result = change(&mut place)?;
        match place {
            Some(value) => {
                values.insert(name.to_owned(), value);
            }
            None => {
                values.remove(name);
            }
        }
        Ok(result)
    }

    /// Takes a value off.
    pub(crate) fn remove(&self, name: &str) -> Option<V> {
        self.lock().remove(name)
    }

    /// Takes off all that `wanted` does not want, and returns it.
    pub(crate) fn retain(&self, wanted: impl Fn(&str, &V) -> bool) -> Vec<(String, V)> {
        let mut values = self.lock();
        let unwanted: Vec<String> =
            values.iter().filter(|(name, value)| !wanted(name, value)).map(|(name, _)| name.clone()).collect();
        unwanted.into_iter().filter_map(|name| values.remove_entry(&name)).collect()
    }

    /// Everything.
    pub(crate) fn all(&self) -> Vec<(String, V)> {
        self.lock().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// At most `limit` of those that `wanted` says and whose names come after `after`.
    pub(crate) fn page(&self, after: Option<&str>, limit: usize, wanted: impl Fn(&str, &V) -> bool) -> Vec<(String, V)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let values = self.lock();
        let page = values.range::<str, _>((from, Bound::Unbounded)).filter(|(name, value)| wanted(name, value)).take(limit);
        page.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}
