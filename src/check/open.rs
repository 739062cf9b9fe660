//! From bytes to something that can be checked.
//!
//! ```text
//! bytes ─text─▶ JSON object? ─members─▶ graph: its text and where its tasks are, whatever its size
//!                    │ no, or no graph
//!                    ▼
//!                Document (10 MiB, 100 levels) ─▶ task, payload, template, graph in YAML
//!                    └─ settings ─▶ Sheet
//! ```

use tc_payload::{Document, Member, Place, Problem, Repeats, members, text};

use super::{
    Input, Unread,
    finding::Findings,
    kind::{self, Kind},
    rule::{self, Rule},
};
use crate::{
    config::{self, CANNOT_LOAD, Config},
    graph::{documents, node::Share, rendered::Batch},
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
    /// By which others may name its task.
    pub(super) stem: String,
    /// How many lines of the file come before, if this is a part of one.
    pub(super) lines_before: u32,
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
    fn new(name: &str, told: Option<Kind>) -> Self {
        Self {
            name: name.to_owned(),
            kind: told,
            body: Body::Nothing,
            findings: Findings::default(),
            batch: None,
            unread: false,
            stem: stem(name).to_owned(),
            lines_before: 0,
            text: String::new(),
        }
    }

    /// Its text, for showing lines of it. Configurations hold secrets, so nothing of them is shown.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.body {
            Body::Document(document) => Some(document.source()),
            Body::Config(_) => None,
            Body::Nothing | Body::Graph(_) => Some(&self.text),
        }
    }
}

/// The name of a file without folders and extension, by which others may name its task.
fn stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').map(|(stem, _)| stem).filter(|stem| !stem.is_empty()).unwrap_or(file)
}

/// Opens a file. `told` is the kind that somebody says it is. YAML may have several documents, and each of them is opened as a file
/// then, as `exec` does it.
pub(super) fn open(input: Input, told: Option<Kind>) -> Vec<Opened> {
    let mut file = match with_text(input, told) {
        Ok(file) => file,
        Err(refused) => return vec![*refused],
    };
    let may_be_several = told != Some(Kind::Config) && file.text.len() <= tc_payload::MAX_DOCUMENT_BYTES;
    let parts = if may_be_several { documents::split(&file.text) } else { Vec::new() };
    if parts.len() > documents::MOST {
        let message = format!("has {} documents; at most {} are read", parts.len(), documents::MOST);
        let problem = Problem::of_file(&file.name, message);
        refuse(&mut file, problem);
        return vec![file];
    }
    if parts.len() < 2 {
        whole(&mut file, told);
        return vec![file];
    }
    let each = parts.iter().enumerate().map(|(number, part)| {
        let mut opened = Opened::new(&file.name, told);
        opened.stem = format!("{}-{}", file.stem, number + 1);
        opened.lines_before = part.lines_before();
        opened.text = part.text();
        let parsed = Document::parse_part(&opened.name, &opened.text, opened.lines_before);
        take(&mut opened, parsed, told);
        opened
    });
    each.collect()
}

/// Opens a file that is one value, whatever it looks like.
pub(super) fn open_one(input: Input, told: Kind) -> Opened {
    let told = Some(told);
    with_text(input, told).map_or_else(
        |refused| *refused,
        |mut file| {
            whole(&mut file, told);
            file
        },
    )
}

/// A file with its text, or what is said against it.
fn with_text(input: Input, told: Option<Kind>) -> Result<Opened, Box<Opened>> {
    let Input { name, bytes } = input;
    let mut file = Opened::new(&name, told);
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(unread) => {
            let (rule, message) = match unread {
                Unread::Failed(why) => (&rule::FILE_UNREADABLE, format!("cannot be read: {why}")),
                Unread::Unfit(why) => (&rule::FILE_UNREADABLE, why),
                Unread::TooLarge => (&rule::FILE_TOO_LARGE, format!("has more than {MAX_FILE_BYTES} bytes")),
            };
            file.unread = true;
            file.findings.of_file(rule, Problem::of_file(&file.name, message));
            return Err(Box::new(file));
        }
    };
    if let Err(problem) = text(&file.name, &bytes, MAX_FILE_BYTES) {
        file.text = String::from_utf8_lossy(&bytes[..bytes.len().min(tc_payload::MAX_DOCUMENT_BYTES)]).into_owned();
        file.findings.of_file(&rule::FILE_ENCODING, problem);
        return Err(Box::new(file));
    }
    // It was just found to be text.
    file.text = String::from_utf8(bytes).unwrap_or_default();
    if file.text.starts_with('\u{feff}') {
        file.text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(file)
}

/// A file that is one document, or a graph.
fn whole(file: &mut Opened, told: Option<Kind>) {
    if file.text.trim_start().starts_with('{') && matches!(told, None | Some(Kind::Graph)) {
        match members(&file.name, &file.text) {
            Ok(Some(members)) => {
                let keys = members.iter().map(|member| &*member.key);
                let share = || Share::of_members(&file.text, &members);
                if told.is_some() || kind::of_keys(keys, share) == Kind::Graph {
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
    take(file, parsed, told);
}

/// Takes what was parsed for what the file says.
fn take(file: &mut Opened, parsed: Result<Document, Problem>, told: Option<Kind>) {
    let document = match parsed {
        Ok(document) => document,
        Err(problem) => {
            if told == Some(Kind::Config) {
                file.body = Body::Config(None);
            }
            return refuse(file, problem);
        }
    };
    if document.value().is_null() && told != Some(Kind::Config) {
        return refuse(file, Problem::of_file(&file.name, "is empty: there is no value in it"));
    }
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

fn refuse(file: &mut Opened, problem: Problem) {
    let (rule, problem) = classify(problem, &file.text, file.lines_before);
    file.unread = rule == &rule::FILE_TOO_LARGE;
    file.findings.of_file(rule, problem);
}

/// The rule that a text breaks which is no document, or no task of a graph.
pub(super) fn classify(problem: Problem, text: &str, lines_before: u32) -> (&'static Rule, Problem) {
    let says = |part: &str| problem.message.contains(part);
    if says("bytes; at most") {
        return (&rule::FILE_TOO_LARGE, problem.with_hint("only graphs of tasks may be larger, if they are written as JSON"));
    }
    if says("members; at most") || says("documents; at most") {
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
        return (&rule::FILE_SYNTAX, tc_payload::taken_for_json(problem));
    }
    let index = |place: Place| usize::try_from(place.line.checked_sub(lines_before)?).ok()?.checked_sub(1);
    let line = problem.place.and_then(|place| text.lines().nth(index(place)?));
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

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn files_are_called_by_their_stems() {
        assert_eq!(
            (stem("a/b.c.yml"), stem(".taskcluster.yml"), stem(".x"), stem("<stdin>")),
            ("b.c", ".taskcluster", ".x", "<stdin>")
        );
    }
}
