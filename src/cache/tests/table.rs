//! The table against a model that is slow and obvious.

use std::{collections::HashSet, path::PathBuf};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::cache::table::{Entry, PurgeRequest, Table};

const NAMES: [&str; 3] = ["a", "b", "level-3-checkouts"];

#[derive(Debug, Clone)]
enum Op {
    Lease(usize),
    Release(usize, bool),
    Evict(usize),
    Purge(usize, i64),
    Trim(usize),
    EvictOldest,
    Relocate(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..NAMES.len()).prop_map(Op::Lease),
        6 => (0..24_usize, any::<bool>()).prop_map(|(at, used)| Op::Release(at, used)),
        1 => (0..24_usize).prop_map(Op::Evict),
        1 => (0..NAMES.len(), -400..100_i64).prop_map(|(name, ago)| Op::Purge(name, ago)),
        1 => (0..3_usize).prop_map(Op::Trim),
        1 => Just(Op::EvictOldest),
        1 => (0..24_usize).prop_map(Op::Relocate),
    ]
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + secs).expect("a date")
}

fn new(location: PathBuf, now: Timestamp) -> Entry {
    Entry { location, created: now, last_used: now, hits: 0, sha256: String::new(), in_use: true }
}

/// A list of rows, in the order in which they were made.
#[derive(Debug, Default)]
struct Model(Vec<(String, Entry)>);

impl Model {
    fn remove(&mut self, wanted: impl Fn(&str, &Entry) -> bool) -> HashSet<PathBuf> {
        let gone = self.0.iter().filter(|(name, entry)| wanted(name, entry)).map(|(_, entry)| entry.location.clone());
        let gone: HashSet<PathBuf> = gone.collect();
        self.0.retain(|(_, entry)| !gone.contains(&entry.location));
        gone
    }

    fn free(&self) -> Vec<&(String, Entry)> {
        self.0.iter().filter(|(_, entry)| !entry.in_use).collect()
    }
}

fn locations(rows: Vec<(String, Entry)>) -> HashSet<PathBuf> {
    rows.into_iter().map(|(_, entry)| entry.location).collect()
}

fn rows<'a>(rows: impl Iterator<Item = (&'a str, &'a Entry)>) -> Vec<String> {
    let mut rows: Vec<String> = rows.map(|(name, entry)| format!("{name} {entry:?}")).collect();
    rows.sort();
    rows
}

/// Plays a history on both and compares after each step.
fn play(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let (mut table, mut model) = (Table::default(), Model::default());
    let mut made: Vec<PathBuf> = Vec::new();
    for (step, op) in ops.into_iter().enumerate() {
        let now = at(i64::try_from(step).expect("short") * 10);
        let some = |at: usize| made.get(at % made.len().max(1)).cloned();
        match op {
            Op::Lease(name) => {
                let name = NAMES[name];
                let newest = model.0.iter_mut().filter(|(n, e)| n == name && !e.in_use).max_by_key(|(_, e)| e.last_used);
                let got = table.acquire(name);
                if let Some((_, entry)) = newest {
                    entry.in_use = true;
                    entry.hits += 1;
                    prop_assert_eq!(got.as_ref(), Some(&*entry));
                } else {
                    prop_assert_eq!(got, None);
                    let location = PathBuf::from(format!("/caches/tc-{step}/data"));
                    made.push(location.clone());
                    prop_assert!(table.insert(name, new(location.clone(), now)));
                    prop_assert!(!table.insert("b", new(location.clone(), now)), "one directory, one entry");
                    model.0.push((name.to_owned(), new(location, now)));
                }
            }
            Op::Release(at, used) => {
                let Some(location) = some(at) else { continue };
                let entry = model.0.iter_mut().find(|(_, e)| e.location == location && e.in_use);
                prop_assert_eq!(table.release(&location, used.then_some(now)), entry.is_some());
                if let Some((_, entry)) = entry {
                    entry.in_use = false;
                    if used { entry.last_used = now } else { entry.hits = entry.hits.saturating_sub(1) }
                }
            }
            Op::Evict(at) => {
                let Some(location) = some(at) else { continue };
                prop_assert_eq!(table.evict(&location), !model.remove(|_, e| e.location == location).is_empty());
            }
            Op::Purge(name, ago) => {
                let before = now + SignedDuration::from_secs(ago);
                let request = PurgeRequest { cache_name: NAMES[name].to_owned(), before };
                let gone = model.remove(|n, e| n == NAMES[name] && e.created - SignedDuration::from_secs(300) < before);
                prop_assert_eq!(locations(table.purge(&[request])), gone);
            }
            Op::Trim(most) => {
                let mut extra = HashSet::new();
                for name in NAMES {
                    let mut free: Vec<_> = model.free().into_iter().filter(|(n, _)| n == name).collect();
                    free.sort_by_key(|(_, e)| e.last_used);
                    extra.extend(free.iter().rev().skip(most).map(|(_, e)| e.location.clone()));
                }
                model.remove(|_, e| extra.contains(&e.location));
                prop_assert_eq!(locations(table.trim(most)), extra);
            }
            Op::EvictOldest => {
                let oldest = model.free().into_iter().min_by_key(|(_, e)| e.last_used).map(|(_, e)| e.last_used);
                let evicted = table.evict_oldest();
                prop_assert_eq!(evicted.as_ref().map(|(_, e)| e.last_used), oldest);
                if let Some((_, evicted)) = evicted {
                    model.remove(|_, e| e.location == evicted.location);
                }
            }
            Op::Relocate(at) => {
                let Some(location) = some(at) else { continue };
                let to = PathBuf::from(format!("/caches/tc-moved-{step}/data"));
                table.relocate(&location, to.clone());
                if let Some((_, entry)) = model.0.iter_mut().find(|(_, e)| e.location == location) {
                    entry.location.clone_from(&to);
                    made.push(to);
                }
            }
        }
        let expected = rows(model.0.iter().map(|(name, entry)| (name.as_str(), entry)));
        prop_assert_eq!(rows(table.entries()), expected);
        prop_assert!(table.pools().all(|(_, pool)| !pool.is_empty()));
        for (_, entry) in table.entries() {
            prop_assert!(table.contains(&entry.location));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_table_does_what_the_slow_model_does(ops in proptest::collection::vec(op(), 0..80)) {
        play(ops)?;
    }

    #[test]
    fn no_cache_is_in_use_twice(ops in proptest::collection::vec(op(), 0..80)) {
        let mut table = Table::default();
        let mut held: HashSet<PathBuf> = HashSet::new();
        for (step, op) in ops.into_iter().enumerate() {
            let now = at(i64::try_from(step).expect("short"));
            match op {
                Op::Lease(name) => {
                    let location = if let Some(entry) = table.acquire(NAMES[name]) { entry.location } else {
                        let location = PathBuf::from(format!("/caches/tc-{step}/data"));
                        table.insert(NAMES[name], new(location.clone(), now));
                        location
                    };
                    prop_assert!(held.insert(location), "handed out twice");
                }
                Op::Release(at, used) => {
                    let Some(location) = held.iter().nth(at % held.len().max(1)).cloned() else { continue };
                    table.release(&location, used.then_some(now));
                    held.remove(&location);
                }
                Op::Purge(name, ago) => {
                    let before = now + SignedDuration::from_secs(ago);
                    table.purge(&[PurgeRequest { cache_name: NAMES[name].to_owned(), before }]);
                }
                Op::Trim(most) => drop(table.trim(most)),
                Op::EvictOldest => {
                    if let Some((_, entry)) = table.evict_oldest() {
                        prop_assert!(!held.contains(&entry.location), "evicted while in use");
                    }
                }
                Op::Evict(_) | Op::Relocate(_) => {}
            }
        }
    }
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    let mut table = Table::default();
    for (secs, name) in [(299, "newer"), (300, "older")] {
        let request = PurgeRequest { cache_name: "x".to_owned(), before: at(1000 - secs) };
        table = Table::default();
        table.insert("x", Entry { in_use: false, ..new(PathBuf::from("/c/tc-1/data"), at(1000)) });
        assert_eq!(table.purge(&[request]).len(), usize::from(name == "newer"), "{secs}");
    }
    assert_eq!(table.entries().count(), 1);
}
