//! From files to tasks that are ready for the queue: what is wanted, what is wrong, in which order.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tc_payload::{Problem, apply_places, apply_places_below};

use super::{
    define::Defined,
    depend::{self, Placed},
    files::{self, TaskFile},
    items::{self, Finder, Item},
    lost::Lost,
    names::names,
    select::{self, Wanted},
    summary::Row,
};
use crate::{
    cli::problems::{self, say},
    graph::{
        circle::{self, Knot},
        label::Called,
    },
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
pub fn prepare(files: &[TaskFile], root_url: &str, wanted: Wanted<'_>) -> (Vec<Ready>, Vec<Row>) {
    let now = Timestamp::now();
    let items = items::items(files);
    let mut placed = items::place(&items, || slugid(&SystemRandom));
    let labels: Vec<&str> = items.iter().map(Item::label).collect();
    let selected = select::select(&labels, &placed, wanted);
    for task in &mut placed {
        // What is not run is not waited for; that was asked for.
        task.waits_for.retain(|on| selected.contains(on));
    }
    let (order, without) = depend::order(&placed);
    let finder = Finder::new(&items, &placed);
    let mut all_defined: BTreeMap<usize, Defined> = BTreeMap::new();
    let mut invalid: Vec<(usize, Vec<Problem>)> = Vec::new();
    for number in &selected {
        match finder.checked(*number, root_url, now) {
            Ok(defined) => drop(all_defined.insert(*number, defined)),
            Err(problems) => invalid.push((*number, problems)),
        }
    }
    let mut lost = Lost::new(&items);
    for (number, problems) in &invalid {
        let count = format!("{} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" });
        lost.invalid(*number, format!("{count} in it"));
    }
    explain(&items, invalid);
    circles(&items, &placed, &without, &mut lost);
    let mut ready = Vec::new();
    for number in order {
        if lost.has(number) || !all_defined.contains_key(&number) {
            continue;
        }
        let (item, Placed { id, waits_for, .. }) = (&items[number], &placed[number]);
        if let Some(on) = waits_for.iter().find(|on| lost.has(**on)) {
            lost.with(number, *on);
            continue;
        }
        let Some(defined) = all_defined.remove(&number) else { continue };
        let names = names(&defined.definition["payload"]);
        for note in defined.notes.iter().chain(&item.called.note).chain(&names.notes) {
            say(&format!("warning: {}: {note}", item.shown()));
        }
        let (id, waits_for, called) = (id.clone(), waits_for.clone(), item.called.clone());
        ready.push(Ready { number, id, waits_for, called, defined });
    }
    (ready, lost.into_rows())
}

/// Tells of each circle, and loses its tasks and of those that wait for them: `without` are all that have no order.
fn circles(items: &[Item<'_>], placed: &[Placed], without: &[usize], lost: &mut Lost<'_>) {
    if without.is_empty() {
        return;
    }
    let edges: Vec<Vec<usize>> = placed.iter().map(|placed| placed.waits_for.clone()).collect();
    for Knot { members, circle } in circle::knots(&edges) {
        let (first, next) = (circle[0], circle.get(1).copied().unwrap_or(circle[0]));
        let names: Vec<&str> = circle.iter().map(|at| items[*at].called.name.as_str()).collect();
        let mut problem = [Problem::new(items[first].pointer_to(&placed[first], next), circle::told(&names))];
        let document = &items[first].file.document;
        apply_places(&mut problem, document, &items[first].pointer);
        let text = problems::problem(&problem[0], Some(document));
        let number = if members.len() == 1 { "it is".to_owned() } else { format!("its {} tasks are", members.len()) };
        say(&format!("{text}error: {}: {number} not run", items[first].shown()));
        for member in members {
            if !lost.has(member) {
                lost.invalid(member, "it waits for itself".to_owned());
            }
        }
    }
    lost.spread(without, placed);
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
        let kind = if item.has_references || files::is_definition(item.value) { "task" } else { "payload" };
        say(&format!("{text}error: {}: the {kind} is invalid, so it is not run", item.shown()));
    }
    if more > 0 {
        say(&format!("error: {more} more tasks are invalid, so they are not run"));
    }
}
