//! A shelf: values of one kind by their names, in the order of the names, as the smaller services keep them.
//!
//! What is put on it or taken off it is noted in the ledger, under the lock of the shelf, so that the ledger hears of changes in their order.
//! Calls are answered when the ledger is settled; no service has to see to that.

use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};

use super::ledger::{Damage, Kind, Ledger};

/// Values by their names.
pub(crate) struct Shelf<V> {
    kind: Kind,
    ledger: Arc<Ledger>,
    values: Mutex<BTreeMap<String, V>>,
    is_whole: bool,
}

impl<V: Clone + Serialize + DeserializeOwned> Shelf<V> {
    /// The values of that kind that the ledger has kept.
    pub(crate) fn open(kind: Kind, ledger: &Arc<Ledger>) -> io::Result<Self> {
        let (mut values, mut damage) = (BTreeMap::new(), Damage::default());
        for (name, bytes) in ledger.load(kind)? {
            if let Some(value) = damage.unless(kind, &name, serde_json::from_slice(&bytes).ok()) {
                values.insert(name, value);
            }
        }
        damage.tell();
        Ok(Self { kind, ledger: Arc::clone(ledger), values: Mutex::new(values), is_whole: damage.is_none() })
    }

    /// Whether all that the ledger has kept was understood.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// An empty shelf that is kept nowhere.
    pub(crate) fn memory(kind: Kind) -> Self {
        Self { kind, ledger: Arc::new(Ledger::memory()), values: Mutex::default(), is_whole: true }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, V>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a value; meant to be called under the lock. Records have string keys and finite numbers only, which serialize always.
    fn note(&self, name: &str, value: &V) {
        if self.ledger.keeps() {
            self.ledger.put(self.kind, name, serde_json::to_vec(value).unwrap_or_default());
        }
    }

    /// The value of that name.
    pub(crate) fn get(&self, name: &str) -> Option<V> {
        self.lock().get(name).cloned()
    }

    /// Puts a value there.
    pub(crate) fn put(&self, name: &str, value: V) {
        let mut values = self.lock();
        self.note(name, &value);
        values.insert(name.to_owned(), value);
    }

    /// Changes what is there under that name, or takes it off by leaving nothing. Nothing happens to the shelf after an error.
    pub(crate) fn change<R, E>(&self, name: &str, change: impl FnOnce(&mut Option<V>) -> Result<R, E>) -> Result<R, E> {
        let mut values = self.lock();
        let mut place = values.get(name).cloned();
        let result = change(&mut place)?;
        if let Some(value) = place {
            self.note(name, &value);
            values.insert(name.to_owned(), value);
        } else if values.remove(name).is_some() {
            self.ledger.remove(self.kind, name);
        }
        Ok(result)
    }

    /// Takes a value off.
    pub(crate) fn remove(&self, name: &str) -> Option<V> {
        let mut values = self.lock();
        let removed = values.remove(name)?;
        self.ledger.remove(self.kind, name);
        Some(removed)
    }

    /// Takes off all that `wanted` does not want, and returns it.
    pub(crate) fn retain(&self, wanted: impl Fn(&str, &V) -> bool) -> Vec<(String, V)> {
        let mut values = self.lock();
        let unwanted: Vec<String> =
            values.iter().filter(|(name, value)| !wanted(name, value)).map(|(name, _)| name.clone()).collect();
        for name in &unwanted {
            self.ledger.remove(self.kind, name);
        }
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
