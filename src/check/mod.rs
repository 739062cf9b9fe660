//! What can be said against task files, graphs, templates and configurations before anything runs.
//!
//! Owns: telling what a file is, the table of rules, and holding files against them. Does no input and no output: texts come in,
//! diagnostics go out, and what a task may say is decided where queue and worker decide it (`local::definition`, `run::admit`,
//! `feature`, `tc_payload`, `config`), so that the answer here is theirs.
//!
//! ```text
//! Input ─open─▶ Opened ─┬─ tasks, each alone ─task─▶ Card ──┐            (definition, payload, scope, artifact, cache, date)
//!                       ├─ template                         ├─ all tasks together: depend, name, cache
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

use self::{
    card::Card,
    finding::Findings,
    open::{Body, Opened},
    rule::Rule,
    task::Role,
};
use crate::config::Config;

/// The most that all files together may have, in bytes.
pub const MAX_TOTAL_BYTES: usize = 512 << 20;

/// Threads that a graph is worth at most.
const MOST_THREADS: usize = 8;
/// Tasks that are worth a thread.
const WORTH_A_THREAD: usize = 64;

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
        let (findings, of_file) = tasks(file, options);
        file.findings.extend(findings);
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
    let mut file = open::open_config(input);
    match std::mem::replace(&mut file.body, Body::Config(None)) {
        Body::Config(Some(config)) => Ok(*config),
        _ => Err(place::report(file, &[])),
    }
}

/// Looks at each task of a file alone.
fn tasks(file: &Opened, options: &Options<'_>) -> (Findings, Vec<Card>) {
    let mut findings = Findings::default();
    match (&file.body, file.kind) {
        (Body::Document(document), Some(Kind::Graph)) => return yaml_graph(document, options),
        (Body::Document(document), Some(Kind::Template)) => template::check(document.value(), &mut findings),
        (Body::Document(document), _) => {
            let value = document.value();
            let role = if value.get("payload").is_some() { Role::Task } else { Role::Payload };
            let card = task::check(value, role, 0, options, &mut findings);
            return (findings, vec![card]);
        }
        (Body::Graph(members), _) => {
            let threads = options.threads.clamp(1, MOST_THREADS).min(members.len() / WORTH_A_THREAD + 1);
            let share = members.len().div_ceil(threads).max(1);
            let text = file.text().unwrap_or_default();
            let part = |(number, members): (usize, &[tc_payload::Member])| {
                let mut findings = Findings::default();
                let tasks = members.iter().zip(number * share..);
                let cards = tasks.map(|(member, number)| node(text, member, number, options, &mut findings)).collect();
                (findings, cards)
            };
            let parts: Vec<(Findings, Vec<Card>)> = std::thread::scope(|scope| {
                let part = &part;
                let begun: Vec<_> =
                    members.chunks(share).enumerate().map(|members| scope.spawn(move || part(members))).collect();
                // A thread that panics takes the check with it: half an answer would look like a clean one.
                begun.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
            });
            let mut cards = Vec::with_capacity(members.len());
            for (found, more) in parts {
                findings.extend(found);
                cards.extend(more);
            }
            return (findings, cards);
        }
        (Body::Nothing | Body::Config(_), _) => {}
    }
    (findings, Vec::new())
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
