//! From files to tasks that are ready for the queue: what is wanted, what is wrong, in which order.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use tc_payload::{Problem, apply_places_below};

use super::{
    define::{self, Defined},
    depend::{self, Placed},
    files::{self, TaskFile},
    items::{self, Finder, Item},
    select::{self, Wanted},
    summary::{Outcome, Row},
};
use crate::{
    cli::problems::{self, say},
    graph::label::Called,
    seam::{SystemRandom, slugid},
};

/// How many tasks are explained that are invalid. Whoever wrote more of them knows by then.
const EXPLAINED: usize = 100;

/// A task that is ready for the queue.
pub struct Ready {
    /// Its number among all tasks of the files.
    pub number: usize,
    /// Its id.
    pub id: String,
    /// The numbers of the tasks that it waits for.
    pub waits_for: Vec<usize>,
    /// What it is called.
    pub called: Called,
    /// Its definition.
    pub defined: Defined,
}

/// Definitions of the valid tasks, each after those that it waits for; the others are explained and become rows of the summary.
pub fn prepare(files: &[TaskFile], root_url: &str, wanted: Wanted<'_>) -> (Vec<Ready>, Vec<(usize, Row)>) {
    let now = Timestamp::now();
    let items = items::items(files);
    let mut placed = items::place(&items, || slugid(&SystemRandom));
    let labels: Vec<&str> = items.iter().map(Item::label).collect();
    let selected = select::select(&labels, &placed, wanted);
    for task in &mut placed {
        // What is not run is not waited for; that was asked for.
        task.waits_for.retain(|on| selected.contains(on));
    }
    let (order, circular) = depend::order(&placed);
    let finder = Finder::new(&items, &placed);
    let mut values: BTreeMap<usize, Value> = BTreeMap::new();
    let mut invalid: Vec<(usize, Vec<Problem>)> = Vec::new();
    for number in &selected {
        match finder.checked(*number, root_url, now) {
            (value, problems) if problems.is_empty() => drop(values.insert(*number, value)),
            (_, problems) => invalid.push((*number, problems)),
        }
    }
    let mut rows: BTreeMap<usize, Row> = BTreeMap::new();
    for (number, problems) in &invalid {
        let count = format!("{} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" });
        rows.insert(*number, not_run(&items[*number], Outcome::Invalid, format!("{count} in it")));
    }
    explain(&items, invalid);
    for number in circular.into_iter().filter(|number| selected.contains(number)) {
        rows.entry(number).or_insert_with(|| {
            let shown = items[number].shown();
            say(&format!("error: {shown}: the task waits for itself, directly or through others, so it is not run"));
            not_run(&items[number], Outcome::Invalid, "it waits for itself".to_owned())
        });
    }
    let mut ready = Vec::new();
    for number in order {
        if rows.contains_key(&number) {
            continue;
        }
        let Some(value) = values.get(&number) else { continue };
        let (item, Placed { id, waits_for, unknown }) = (&items[number], &placed[number]);
        if let Some(on) = waits_for.iter().find(|on| rows.contains_key(on)) {
            let why = format!("it waits for {}, which is not run", items[*on].called.name);
            rows.insert(number, not_run(item, Outcome::NotRun, why));
            continue;
        }
        let dependencies: Vec<&str> = waits_for.iter().map(|on| placed[*on].id.as_str()).collect();
        let defined = define::define(value, item.stem(), &dependencies, unknown, now);
        for note in defined.notes.iter().chain(&item.called.note) {
            say(&format!("warning: {}: {note}", item.shown()));
        }
        let (id, waits_for, called) = (id.clone(), waits_for.clone(), item.called.clone());
        ready.push(Ready { number, id, waits_for, called, defined });
    }
    (ready, rows.into_iter().collect())
}

fn not_run(item: &Item<'_>, outcome: Outcome, why: String) -> Row {
    // People look for the file, not for what it would have been called.
    let name = if outcome == Outcome::Invalid { item.shown() } else { item.called.name.clone() };
    Row { name, outcome, why: Some(why), took: None, artifacts: None }
}

/// Shows what is wrong with tasks, each problem with its place.
fn explain(items: &[Item<'_>], mut invalid: Vec<(usize, Vec<Problem>)>) {
    let more = invalid.len().saturating_sub(EXPLAINED);
    invalid.truncate(EXPLAINED);
    // One pass over each file, however many of its tasks are invalid.
    for of_file in invalid.chunk_by_mut(|(a, _), (b, _)| items[*a].file_number == items[*b].file_number) {
        let Some((first, _)) = of_file.first() else { continue };
        let document = &items[*first].file.document;
        let groups = of_file.iter_mut().map(|(number, problems)| {
            let Some(task) = items[*number].rendered else {
                return (items[*number].pointer.as_str(), problems.as_mut_slice());
            };
            for problem in problems.iter_mut() {
                problem.pointer = task.origin(document.value(), &problem.pointer);
            }
            ("", problems.as_mut_slice())
        });
        let mut groups: Vec<(&str, &mut [Problem])> = groups.collect();
        apply_places_below(&mut groups, document);
    }
    for (number, problems) in &invalid {
        let item = &items[*number];
        let text: String = problems.iter().map(|problem| problems::problem(problem, Some(&item.file.document))).collect();
        let kind = if files::is_definition(item.value) { "task" } else { "payload" };
        say(&format!("{text}error: {}: the {kind} is invalid, so it is not run", item.shown()));
    }
    if more > 0 {
        say(&format!("error: {more} more tasks are invalid, so they are not run"));
    }
}
