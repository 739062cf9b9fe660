//! Tasks that are not run, as is known before anything is: those that are invalid, and those that wait for them.

use std::collections::{HashMap, HashSet};

use super::{
    depend::Placed,
    items::Item,
    summary::{self, Outcome, Row},
};

/// Their rows, each behind that of its cause.
pub struct Lost<'a> {
    items: &'a [Item<'a>],
    rows: Vec<Row>,
    /// For each of them the invalid task that it is lost with, which may be itself.
    causes: HashMap<usize, usize>,
}

impl<'a> Lost<'a> {
    /// Among these tasks, none so far.
    pub fn new(items: &'a [Item<'a>]) -> Self {
        Self { items, rows: Vec::new(), causes: HashMap::new() }
    }

    /// Whether a task is lost.
    pub fn has(&self, number: usize) -> bool {
        self.causes.contains_key(&number)
    }

    /// A task is invalid.
    pub fn invalid(&mut self, number: usize, why: String) {
        self.add(number, number, Outcome::Invalid, why);
    }

    /// A task waits for a lost one.
    pub fn with(&mut self, number: usize, on: usize) {
        let cause = self.causes.get(&on).copied().unwrap_or(on);
        let name = |number: usize| self.items[number].called.name.as_str();
        let why = summary::because(name(on), (cause != on).then(|| name(cause)), &Outcome::Invalid);
        self.add(number, cause, Outcome::NotRun, why);
    }

    /// Everything among `left` that waits for a lost task goes with it, through any number of tasks in between.
    pub fn spread(&mut self, left: &[usize], placed: &[Placed]) {
        let mut dependents: HashMap<usize, Vec<usize>> = HashMap::new();
        for number in left {
            for on in &placed[*number].waits_for {
                dependents.entry(*on).or_default().push(*number);
            }
        }
        let begun: HashSet<usize> = dependents.keys().copied().filter(|on| self.has(*on)).collect();
        let mut open: Vec<usize> = begun.into_iter().collect();
        open.sort_unstable_by(|a, b| b.cmp(a));
        while let Some(on) = open.pop() {
            for next in dependents.get(&on).into_iter().flatten() {
                if !self.has(*next) {
                    self.with(*next, on);
                    open.push(*next);
                }
            }
        }
    }

    /// The rows.
    pub fn into_rows(self) -> Vec<Row> {
        self.rows
    }

    fn add(&mut self, number: usize, cause: usize, outcome: Outcome, why: String) {
        if self.causes.insert(number, cause).is_none() {
            let name = self.items[number].called.name.clone();
            self.rows.push(Row { name, outcome, why: Some(why), took: None, artifacts: None });
        }
    }
}
