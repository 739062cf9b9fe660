//! What can be said against task files, graphs, templates and configurations before anything runs.
//!
//! Owns: telling what a file is, the table of rules, and holding files against them. Does no input and no output: texts come in,
//! diagnostics go out, and what a task may say is decided where queue and worker decide it (`local::definition`, `run::admit`,
//! `feature`, `tc_payload`, `config`), so that the answer here is theirs.
//!
//! ```text
//! Input ─open─▶ Opened ─┬─ tasks, each alone ─task─▶ Card ──┐            (definition, payload, scope, artifact, cache, date)
//!                       ├─ template ─rendered─▶ tasks, too  ├─ all tasks together: depend, name, cache
//!                       └─ config                           ▼
//!                                     Finding {rule, task, pointer} ─place─▶ Diagnostic {line, column, the line itself}
//! ```
//!
//! Rules look at one task at a time, on several threads, and leave behind a small `card` of it; what holds between tasks is
//! decided over the cards. Places are looked up at the end, for the problems that are shown, and only in the tasks that have
//! some. So memory is bounded by the texts (at most [`MAX_TOTAL_BYTES`]), the cards, and one task per thread.

mod across;
mod artifact;
mod cache;
mod card;
mod date;
mod definition;
mod depend;
mod finding;
mod hint;
mod kind;
mod name;
mod open;
mod payload;
mod place;
mod rendered;
pub mod rule;
mod scope;
mod task;
mod template;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::Value;
use tc_payload::{Document, Problem};

pub use finding::MOST_SHOWN;
pub use kind::Kind;
pub use open::MAX_FILE_BYTES;
pub use place::{Diagnostic, Excerpt};
pub use rendered::Render;

use self::{
    card::Card,
    finding::Findings,
    open::{Body, Opened},
    rule::Rule,
    task::Role,
};
use crate::{config::Config, graph::rendered::Batch};

/// The most that all files together may have, in bytes.
pub const MAX_TOTAL_BYTES: usize = 512 << 20;

/// Threads that a graph is worth at most.
const MOST_THREADS: usize = 8;
/// Tasks that are worth a thread.
const WORTH_A_THREAD: usize = 64;
/// The root URL of the deployment that tasks are checked for, which nobody has named.
pub const ROOT_URL: &str = "https://tc.example.com";

/// One file.
#[derive(Debug)]
pub struct Input {
    /// As the user named it.
    pub name: String,
    /// What is in it.
    pub bytes: Result<Vec<u8>, Unread>,
}

/// Why a file was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// It cannot be.
    Failed(String),
    /// It is a directory without files for tasks; the text says so.
    Unfit(String),
    /// It is larger than [`MAX_FILE_BYTES`], or all files together are larger than [`MAX_TOTAL_BYTES`].
    TooLarge,
}

/// How to check.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// What time it is.
    pub now: Timestamp,
    /// What all files are, if they are not to be looked at.
    pub kind: Option<Kind>,
    /// The worker that is to run the tasks of its queue.
    pub worker: Option<&'a Config>,
    /// How many threads may be used; at least 1.
    pub threads: usize,
    /// Renders templates. Without it, only their shape is looked at.
    pub render: Option<&'a dyn Render>,
}

/// What was found in one file.
#[derive(Debug)]
pub struct FileReport {
    /// As the user named it.
    pub name: String,
    /// What it is, if that could be told.
    pub kind: Option<Kind>,
    /// How many tasks are in it.
    pub tasks: usize,
    /// The problems to be shown, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// How many errors there are, shown or not.
    pub errors: usize,
    /// How many warnings there are, shown or not.
    pub warnings: usize,
    /// It was not read at all.
    pub unread: bool,
}

/// Checks files, each alone and all of them together.
pub fn check(inputs: Vec<Input>, options: &Options<'_>) -> Vec<FileReport> {
    let opened: Vec<Vec<Opened>> = inputs.into_iter().map(|input| open::open(input, options.kind)).collect();
    let parts: Vec<usize> = opened.iter().map(Vec::len).collect();
    let mut files: Vec<Opened> = opened.into_iter().flatten().collect();
    let mut cards: Vec<Vec<Card>> = Vec::with_capacity(files.len());
    for file in &mut files {
        let Looked { findings, cards: of_file, batch } = look(file, options);
        file.findings.extend(findings);
        file.batch = batch;
        cards.push(of_file);
    }
    for (file, findings) in across::check(&files, &cards, options) {
        files[file].findings.extend(findings);
    }
    let mut reports = files.into_iter().zip(cards).map(|(file, cards)| place::report(file, &cards));
    parts.into_iter().filter_map(|parts| place::together(reports.by_ref().take(parts))).collect()
}

/// Reads the configuration of the worker that is to run tasks, or says what is wrong with it.
pub fn worker(input: Input) -> Result<Config, FileReport> {
    let mut file = open::open_one(input, Kind::Config);
    match std::mem::replace(&mut file.body, Body::Config(None)) {
        Body::Config(Some(config)) => Ok(*config),
        _ => Err(place::report(file, &[])),
    }
}

/// Reads the event that templates are rendered with, or says what is wrong with it.
pub fn event(input: Input) -> Result<Value, FileReport> {
    let mut file = open::open_one(input, Kind::Task);
    file.kind = None;
    match std::mem::replace(&mut file.body, Body::Nothing) {
        Body::Document(document) => Ok(document.into_value()),
        _ => Err(place::report(file, &[])),
    }
}

/// What was seen of one file alone.
#[derive(Default)]
struct Looked {
    findings: Findings,
    cards: Vec<Card>,
    /// What a template has made.
    batch: Option<Batch>,
}

/// Looks at a file, and at each of its tasks alone.
fn look(file: &Opened, options: &Options<'_>) -> Looked {
    let mut looked = Looked::default();
    match (&file.body, file.kind) {
        (Body::Document(document), Some(Kind::Graph)) => (looked.findings, looked.cards) = yaml_graph(document, options),
        (Body::Document(document), Some(Kind::Template)) => {
            template::check(document.value(), &mut looked.findings);
            if let Some(render) = options.render {
                rendered::check(document, render, options, &mut looked);
            }
        }
        (Body::Document(document), _) => {
            let value = document.value();
            let role = if value.get("payload").is_some() { Role::Task } else { Role::Payload };
            looked.cards.push(task::check(value, role, 0, options, &mut looked.findings));
        }
        (Body::Graph(members), _) => {
            let text = file.text().unwrap_or_default();
            let node = |number, member: &_, findings: &mut _| node(text, member, number, options, findings);
            (looked.findings, looked.cards) = each(members, options.threads, node);
        }
        (Body::Nothing | Body::Config(_), _) => {}
    }
    looked
}

/// Looks at each task of many, on several threads. `one` gets a task with its number.
fn each<T: Sync>(tasks: &[T], threads: usize, one: impl Fn(usize, &T, &mut Findings) -> Card + Sync) -> (Findings, Vec<Card>) {
    let threads = threads.clamp(1, MOST_THREADS).min(tasks.len() / WORTH_A_THREAD + 1);
    let share = tasks.len().div_ceil(threads).max(1);
    let part = |(number, tasks): (usize, &[T])| {
        let mut findings = Findings::default();
        let tasks = tasks.iter().zip(number * share..);
        let cards: Vec<Card> = tasks.map(|(task, number)| one(number, task, &mut findings)).collect();
        (findings, cards)
    };
    let parts: Vec<(Findings, Vec<Card>)> = std::thread::scope(|scope| {
        let part = &part;
        let begun: Vec<_> = tasks.chunks(share).enumerate().map(|tasks| scope.spawn(move || part(tasks))).collect();
        // A thread that panics takes the check with it: half an answer would look like a clean one.
        begun.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let (mut findings, mut cards) = (Findings::default(), Vec::with_capacity(tasks.len()));
    for (found, more) in parts {
        findings.extend(found);
        cards.extend(more);
    }
    (findings, cards)
}

/// One task of a graph in JSON.
fn node(text: &str, member: &tc_payload::Member, number: usize, options: &Options<'_>, findings: &mut Findings) -> Card {
    let piece = text.get(member.begin..member.end).unwrap_or_default();
    match Document::parse("", piece.as_bytes()) {
        Ok(document) => {
            let may_refer = piece.contains("-reference") || piece.contains("relative-datestamp");
            task::check(document.value(), Role::Node { key: &member.key, may_refer }, number, options, findings)
        }
        Err(problem) => {
            let (rule, problem) = open::classify(problem, piece, 0);
            findings.of_task(number, rule, problem);
            Card::of_key(&member.key)
        }
    }
}

fn yaml_graph(document: &Document, options: &Options<'_>) -> (Findings, Vec<Card>) {
    let mut findings = Findings::default();
    let Value::Object(nodes) = document.value() else {
        findings.of_file(&rule::GRAPH_NODE, Problem::wrong_type("", "object", document.value()));
        return (findings, Vec::new());
    };
    let nodes = nodes.iter().enumerate();
    let cards = nodes
        .map(|(number, (key, value))| task::check(value, Role::Node { key, may_refer: true }, number, options, &mut findings));
    let cards = cards.collect();
    (findings, cards)
}

/// Where rules put what they find about one task.
struct Notes<'a> {
    findings: &'a mut Findings,
    /// The task's number in its file.
    task: usize,
    /// Values about which enough has been said.
    muted: Vec<String>,
}

impl Notes<'_> {
    fn add(&mut self, rule: &'static Rule, problem: Problem) {
        let about = |muted: &String| {
            problem.pointer.strip_prefix(muted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !self.muted.iter().any(about) {
            self.findings.of_task(self.task, rule, problem);
        }
    }
}
