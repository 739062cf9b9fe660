//! From bytes to something that can be checked.
//!
//! ```text
//! bytes ─text─▶ JSON object? ─members─▶ graph: its text and where its tasks are, whatever its size
//!                    │ no, or no graph
//!                    ▼
//!                Document (10 MiB, 100 levels) ─▶ task, payload, template, graph in YAML
//!                    └─ settings ─▶ Sheet
//! ```

use serde::Deserialize;
use serde_json::value::RawValue;
use tc_payload::{Document, Member, Problem, Repeats, members, text};

use super::{
    Input, Unread,
    finding::Findings,
    kind::{self, Kind},
    rule::{self, Rule},
};
use crate::{
    config::{self, CANNOT_LOAD, Config},
    graph::rendered::Batch,
};

/// The largest file that is read, in bytes. Only graphs in JSON may be so large; what else is, is refused as a document.
pub const MAX_FILE_BYTES: usize = 256 << 20;

/// A file that was opened.
pub(super) struct Opened {
    pub(super) name: String,
    /// What it is, if that could be told.
    pub(super) kind: Option<Kind>,
    pub(super) body: Body,
    /// What was found so far.
    pub(super) findings: Findings,
    /// What it has made, if it is a template that was rendered.
    pub(super) batch: Option<Batch>,
    /// It was not read at all.
    pub(super) unread: bool,
    text: String,
}

/// What a file says.
pub(super) enum Body {
    /// Nothing; a finding says why.
    Nothing,
    /// A value with places.
    Document(Document),
    /// A graph in JSON, of which each task is a document of its own.
    Graph(Vec<Member>),
    /// The configuration of a worker.
    Config(Option<Box<Config>>),
}

impl Opened {
    /// Its text, for showing lines of it. Configurations hold secrets, so nothing of them is shown.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.body {
            Body::Document(document) => Some(document.source()),
            Body::Config(_) => None,
            Body::Nothing | Body::Graph(_) => Some(&self.text),
        }
    }
}

/// Opens a file. `told` is the kind that somebody says it is.
pub(super) fn open(input: Input, told: Option<Kind>) -> Opened {
    let Input { name, bytes } = input;
    let mut file = Opened {
        name,
        kind: told,
        body: Body::Nothing,
        findings: Findings::default(),
        batch: None,
        unread: false,
        text: String::new(),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(unread) => {
            let (rule, message) = match unread {
                Unread::Failed(why) => (&rule::FILE_UNREADABLE, format!("cannot be read: {why}")),
                Unread::TooLarge => (&rule::FILE_TOO_LARGE, format!("has more than {MAX_FILE_BYTES} bytes")),
            };
            file.unread = true;
            file.findings.of_file(rule, Problem::of_file(&file.name, message));
            return file;
        }
    };
    match text(&file.name, &bytes, MAX_FILE_BYTES) {
        Ok(text) => text.len(),
        Err(problem) => {
            file.text = String::from_utf8_lossy(&bytes[..bytes.len().min(tc_payload::MAX_DOCUMENT_BYTES)]).into_owned();
            file.findings.of_file(&rule::FILE_ENCODING, problem);
            return file;
        }
    };
    // It was just found to be text.
    file.text = String::from_utf8(bytes).unwrap_or_default();
    if file.text.starts_with('\u{feff}') {
        file.text.drain(..'\u{feff}'.len_utf8());
    }
    read(&mut file, told);
    file
}

fn read(file: &mut Opened, told: Option<Kind>) {
    if file.text.trim_start().starts_with('{') && matches!(told, None | Some(Kind::Graph)) {
        match members(&file.name, &file.text) {
            Ok(Some(members)) => {
                let keys = members.iter().map(|member| &*member.key);
                let is_graph = || looks_like_graph(&file.text, &members);
                if told.is_some() || kind::of_keys(keys, is_graph) == Kind::Graph {
                    file.kind = Some(Kind::Graph);
                    file.body = Body::Graph(members);
                    return;
                }
            }
            // A configuration may have keys twice, and small files say more about what is wrong with them.
            Err(problem) if file.text.len() > tc_payload::MAX_DOCUMENT_BYTES => return refuse(file, problem),
            Ok(None) | Err(_) => {}
        }
    }
    let parsed = match Document::parse(&file.name, file.text.as_bytes()) {
        Err(problem) => {
            let merged = Document::parse_with(&file.name, file.text.as_bytes(), Repeats::Merge);
            let is_config = |document: &Document| kind::of_value(document.value()) == Kind::Config;
            if told == Some(Kind::Config) || (told.is_none() && merged.as_ref().is_ok_and(is_config)) {
                merged
            } else {
                Err(problem)
            }
        }
        parsed => parsed,
    };
    let document = match parsed {
        Ok(document) => document,
        Err(problem) => {
            if told == Some(Kind::Config) {
                file.body = Body::Config(None);
            }
            return refuse(file, problem);
        }
    };
    let kind = told.unwrap_or_else(|| kind::of_value(document.value()));
    file.kind = Some(kind);
    if kind == Kind::Config {
        let text = std::mem::take(&mut file.text);
        file.body = Body::Config(configuration(file, &text));
    } else {
        file.text = String::new();
        file.body = Body::Document(document);
    }
}

/// Whether most of the members look like tasks of a graph.
fn looks_like_graph(text: &str, members: &[Member]) -> bool {
    #[derive(Deserialize)]
    struct Peek<'t> {
        #[serde(borrow)]
        task: Option<&'t RawValue>,
    }
    let looked_at = members.iter().take(kind::LOOKED_AT);
    let nodes = looked_at.filter(|member| {
        let peek = text.get(member.begin..member.end).and_then(|piece| serde_json::from_str::<Peek<'_>>(piece).ok());
        peek.and_then(|peek| peek.task).is_some_and(|task| task.get().starts_with('{'))
    });
    kind::most(nodes.count(), members.len().min(kind::LOOKED_AT))
}

fn refuse(file: &mut Opened, problem: Problem) {
    let (rule, problem) = classify(problem, &file.text);
    file.unread = rule == &rule::FILE_TOO_LARGE;
    file.findings.of_file(rule, problem);
}

/// The rule that a text breaks which is no document, or no task of a graph.
pub(super) fn classify(problem: Problem, text: &str) -> (&'static Rule, Problem) {
    let says = |part: &str| problem.message.contains(part);
    if says("bytes; at most") {
        return (&rule::FILE_TOO_LARGE, problem.with_hint("only graphs of tasks may be larger, if they are written as JSON"));
    }
    if says("members; at most") {
        return (&rule::FILE_TOO_LARGE, problem);
    }
    if says("is empty") {
        return (&rule::FILE_EMPTY, problem);
    }
    if says("stands twice in the same") {
        return (&rule::FILE_KEY_TWICE, problem.with_hint("one of the two values would be lost"));
    }
    if says("is nested deeper") || says("too large or too complex") || says("alias") {
        return (&rule::FILE_DEPTH, problem);
    }
    if says("invalid JSON") {
        let hint = "a file whose first character is { or [ is read as JSON, and not as YAML";
        return (&rule::FILE_SYNTAX, problem.with_hint(hint));
    }
    let line = problem.place.and_then(|place| text.lines().nth(usize::try_from(place.line).ok()?.checked_sub(1)?));
    let indentation = line.map(|line| &line[..line.len() - line.trim_start().len()]);
    if indentation.is_some_and(|indentation| indentation.contains('\t')) {
        return (&rule::FILE_TAB, problem.with_hint("replace the tab at the beginning of the line with spaces"));
    }
    (&rule::FILE_SYNTAX, problem)
}

fn configuration(file: &mut Opened, text: &str) -> Option<Box<Config>> {
    match config::sheet(&file.name, text.as_bytes()) {
        Ok(sheet) => {
            for (rule, problems) in [
                (&rule::CONFIG_RETIRED, sheet.retired),
                (&rule::CONFIG_LATER, sheet.later),
                (&rule::CONFIG_CONSEQUENCE, sheet.consequences),
            ] {
                for problem in problems {
                    file.findings.of_file(rule, problem);
                }
            }
            Some(Box::new(sheet.config))
        }
        Err(error) => {
            let rule = if error.exit_code == CANNOT_LOAD { &rule::CONFIG_SETTING } else { &rule::CONFIG_VALUE };
            error.problems.into_iter().for_each(|problem| file.findings.of_file(rule, problem));
            None
        }
    }
}
