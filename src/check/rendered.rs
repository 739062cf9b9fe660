//! What templates make: tasks of a deployment, each looked at like one that somebody wrote.
//!
//! What a template has at its top is looked at elsewhere; what it gives is only known for an event. Rendering takes a process and
//! time, so that whoever asks for it brings it along.

use std::{collections::HashMap, fmt};

use serde_json::Value;
use tc_payload::{Document, Problem, nearest};

use super::{
    Looked, Options,
    card::{At, Card},
    each,
    finding::Findings,
    rule,
    task::{self, Role},
};
use crate::graph::rendered::{Batch, Rendered};

/// Somebody who renders templates for an event.
pub trait Render: fmt::Debug + Sync {
    /// The tasks that a template gives, or what is wrong, with a pointer into the template.
    fn render(&self, template: &Document) -> Result<Batch, Box<Problem>>;
}

/// Renders a template and looks at its tasks.
pub(super) fn check(document: &Document, render: &dyn Render, options: &Options<'_>, looked: &mut Looked) {
    match render.render(document) {
        // What is wrong with its shape was said, and says more.
        Err(_) if looked.findings.errors() > 0 => {}
        Err(problem) => looked.findings.of_file(&rule::TEMPLATE_RENDER, advised(*problem)),
        Ok(batch) => {
            let one = |number, task: &Rendered, findings: &mut Findings| {
                task::check(&task.value, Role::Rendered, number, options, findings)
            };
            let (findings, mut cards) = each(&batch.tasks, options.threads, one);
            looked.findings.extend(findings);
            name(&batch.tasks, &mut cards);
            ids_of_nobody(&batch, &cards, &mut looked.findings);
            looked.cards = cards;
            looked.batch = Some(batch);
        }
    }
}

/// A template that has run into a bound is not helped by what it may use.
fn advised(problem: Problem) -> Problem {
    let says = |part: &str| problem.message.contains(part);
    if says("to render") {
        return problem.with_hint("let it loop over less, and nest less: rendering has bounds for time, memory and depth");
    }
    if says("MiB of tasks") {
        return problem.with_hint("let it make fewer or smaller tasks; a decision task can make the others");
    }
    problem
}

/// Calls each task by the name that people see; its number stands beside a name that is not its alone.
fn name(tasks: &[Rendered], cards: &mut [Card]) {
    let name = |task: &'_ Rendered| task.value.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
    let mut uses: HashMap<String, usize> = HashMap::new();
    for name in tasks.iter().filter_map(name) {
        *uses.entry(name).or_default() += 1;
    }
    for (number, (task, card)) in tasks.iter().zip(cards).enumerate() {
        let place = format!("task {} of {}", number + 1, tasks.len());
        let title = match name(task).filter(|name| !name.trim().is_empty()) {
            Some(name) if uses.get(&name) == Some(&1) => name,
            Some(name) => format!("{name}, {place}"),
            None => place,
        };
        card.title = Some(title.into());
    }
}

/// An id that `as_slugid` has made up is nobody's, unless one of these tasks has it.
fn ids_of_nobody(batch: &Batch, cards: &[Card], findings: &mut Findings) {
    let labels: HashMap<&str, &str> = batch.ids.iter().map(|(label, id)| (id.as_str(), label.as_str())).collect();
    let ids = batch.tasks.iter().filter_map(|task| task.value.get("taskId")?.as_str());
    let own: HashMap<&str, Option<&str>> = ids.map(|id| (id, labels.get(id).copied())).collect();
    for (number, card) in cards.iter().enumerate() {
        for name in card.waits_for.iter().filter(|name| !own.contains_key(&*name.text)) {
            let (Some(label), At::Entry(position)) = (labels.get(&*name.text), &name.at) else { continue };
            let message = format!("no task of this template has the id as_slugid({})", Value::from(*label));
            let mut problem = Problem::new(format!("/dependencies/{position}"), message);
            if let Some(meant) = nearest(label, own.values().copied().flatten()) {
                problem = problem.with_hint(format!("did you mean as_slugid({})?", Value::from(meant)));
            }
            findings.of_task(number, &rule::DEPENDENCY_DANGLING, problem);
        }
    }
}
