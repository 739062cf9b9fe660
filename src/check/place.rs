//! From findings to diagnostics: where in the file a problem is, and the line itself.

use tc_payload::{Cursor, Document, Member, Place, Problem, apply_places, escape_pointer_segment};

use super::{
    FileReport,
    card::Card,
    finding::{Finding, MOST_SHOWN},
    hint,
    kind::Kind,
    open::{Body, Opened},
    rule::{self, Rule, Severity},
};
use crate::graph::rendered::Batch;

/// Characters of a line that are shown before the place, and from it on.
const BEFORE: usize = 60;
const AFTER: usize = 40;

/// One problem, with everything that is to be said about it.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// The rule that is broken.
    pub rule: &'static Rule,
    /// How bad it is: as bad as the rule says, but for what stands for several.
    pub severity: Severity,
    /// What and where.
    pub problem: Problem,
    /// The label of the task, in a graph.
    pub task: Option<String>,
    /// The line.
    pub excerpt: Option<Excerpt>,
}

/// A part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Printable characters.
    pub text: String,
    /// How many of them are before the place.
    pub caret: usize,
}

/// Turns everything that was found in a file into what is told about it.
pub(super) fn report(mut file: Opened, cards: &[Card]) -> FileReport {
    let (mut findings, errors, warnings) = std::mem::take(&mut file.findings).shown();
    match &file.body {
        Body::Graph(members) => in_members(file.text().unwrap_or_default(), members, &mut findings),
        Body::Document(document) => match &file.batch {
            Some(batch) => in_template(document, batch, &mut findings),
            None => in_document(document, file.kind == Some(Kind::Graph), &mut findings),
        },
        Body::Nothing | Body::Config(_) => {}
    }
    let label = |finding: &Finding| {
        let card = cards.get(finding.task?)?;
        (card.key.is_some() || card.title.is_some()).then(|| card.called().map(printable)).flatten()
    };
    findings.sort_by(|a, b| {
        (a.problem.place, a.rule.id, &a.problem.message).cmp(&(b.problem.place, b.rule.id, &b.problem.message))
    });
    let mut walker = file.text().map(|text| Walker::new(text, file.lines_before));
    let diagnostics: Vec<Diagnostic> = findings
        .into_iter()
        .map(|finding| {
            let task = label(&finding);
            let mut problem = finding.problem;
            problem.file = Some(file.name.clone());
            problem.hint = problem.hint.or_else(|| hint::of(finding.rule).map(str::to_owned));
            let excerpt = problem.place.and_then(|place| walker.as_mut()?.excerpt(place));
            Diagnostic { rule: finding.rule, severity: finding.rule.severity, problem, task, excerpt }
        })
        .collect();
    let mut report =
        FileReport { name: file.name, kind: file.kind, tasks: cards.len(), diagnostics, errors, warnings, unread: file.unread };
    report.diagnostics.extend(more(&report));
    report
}

/// The reports of the parts of one file as one.
pub(super) fn together(mut parts: impl Iterator<Item = FileReport>) -> Option<FileReport> {
    let mut whole = parts.next()?;
    let mut rest = parts.peekable();
    if rest.peek().is_none() {
        return Some(whole);
    }
    for part in rest {
        whole.tasks += part.tasks;
        whole.errors += part.errors;
        whole.warnings += part.warnings;
        whole.unread |= part.unread;
        let room = (2 * MOST_SHOWN).saturating_sub(whole.diagnostics.len());
        whole.diagnostics.extend(part.diagnostics.into_iter().take(room));
    }
    whole.diagnostics.retain(|diagnostic| diagnostic.rule != &rule::FILE_MORE);
    whole.diagnostics.truncate(MOST_SHOWN);
    whole.diagnostics.extend(more(&whole));
    Some(whole)
}

/// What stands for the problems that are not shown.
fn more(report: &FileReport) -> Option<Diagnostic> {
    let FileReport { name, diagnostics, errors, warnings, .. } = report;
    let hidden = (errors + warnings).saturating_sub(diagnostics.len());
    if hidden == 0 {
        return None;
    }
    let shown = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    let severity = if *errors > shown { Severity::Error } else { Severity::Warning };
    let message = format!("and {hidden} more problem{} ({MOST_SHOWN} of a file are shown)", if hidden == 1 { "" } else { "s" });
    let mut problem = Problem::of_file(name, message);
    problem.hint = hint::of(&rule::FILE_MORE).map(str::to_owned);
    Some(Diagnostic { rule: &rule::FILE_MORE, severity, problem, task: None, excerpt: None })
}

/// A document is read once more for all of them.
fn in_document(document: &Document, is_graph: bool, findings: &mut [Finding]) {
    let keys: Vec<&String> = match document.value().as_object() {
        Some(nodes) if is_graph => nodes.keys().collect(),
        _ => Vec::new(),
    };
    let problems: Vec<Problem> = findings
        .iter()
        .map(|finding| {
            let key = finding.task.and_then(|task| keys.get(task));
            let problem = finding.problem.clone();
            match key {
                Some(key) => problem.below(&format!("/{}", escape_pointer_segment(key))),
                None => problem,
            }
        })
        .collect();
    set_places(findings, problems, document);
}

/// What is wrong with a task that a template has made stands in the template, where that part of it comes from.
fn in_template(document: &Document, batch: &Batch, findings: &mut [Finding]) {
    let problems = findings.iter().map(|finding| match finding.task.and_then(|task| batch.tasks.get(task)) {
        Some(task) => Problem::new(task.origin(document.value(), &finding.problem.pointer), ""),
        None => finding.problem.clone(),
    });
    let problems = problems.collect();
    set_places(findings, problems, document);
}

/// Gives findings the places of problems that stand for them.
fn set_places(findings: &mut [Finding], mut problems: Vec<Problem>, document: &Document) {
    apply_places(&mut problems, document, "");
    for (finding, problem) in findings.iter_mut().zip(problems) {
        finding.problem.place = problem.place;
    }
}

/// Of a graph in JSON, only the tasks are read once more in which something was found.
fn in_members(text: &str, members: &[Member], findings: &mut [Finding]) {
    findings.sort_by_key(|finding| finding.task);
    let mut cursor = Cursor::new(text);
    for of_task in findings.chunk_by_mut(|a, b| a.task == b.task) {
        let Some(member) = of_task[0].task.and_then(|task| members.get(task)) else { continue };
        let begin = cursor.place(member.begin);
        // What could not be read has a place from there.
        if let Ok(document) = Document::parse("", text.get(member.begin..member.end).unwrap_or_default().as_bytes()) {
            let mut problems: Vec<Problem> = of_task.iter().map(|finding| finding.problem.clone()).collect();
            apply_places(&mut problems, &document, "");
            for (finding, problem) in of_task.iter_mut().zip(problems) {
                finding.problem.place = problem.place;
            }
        }
        for finding in of_task {
            let place = finding.problem.place.unwrap_or(Place { line: 1, column: 1 });
            finding.problem.place = Some(below(begin, place));
        }
    }
}

/// A place in a text that begins at another one.
fn below(begin: Place, place: Place) -> Place {
    let line = begin.line.saturating_add(place.line - 1);
    let column = if place.line == 1 { begin.column.saturating_add(place.column - 1) } else { place.column };
    Place { line, column }
}

fn printable(text: &str) -> String {
    text.chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Finds places in a text, one behind the other, so that no byte is looked at twice: a graph may be one line of many megabytes.
struct Walker<'t> {
    text: &'t str,
    at: usize,
    place: Place,
}

impl<'t> Walker<'t> {
    fn new(text: &'t str, lines_before: u32) -> Self {
        Self { text, at: 0, place: Place { line: lines_before.saturating_add(1), column: 1 } }
    }

    /// The line around a place, which must not be before the one asked last.
    fn excerpt(&mut self, place: Place) -> Option<Excerpt> {
        while self.place.line < place.line {
            self.at += self.text.get(self.at..)?.find('\n')? + 1;
            self.place = Place { line: self.place.line + 1, column: 1 };
        }
        let rest = self.text.get(self.at..)?;
        let wanted = usize::try_from(place.column.saturating_sub(self.place.column)).unwrap_or(usize::MAX);
        let (mut passed, mut bytes) = (0, 0);
        for c in rest.chars().take_while(|c| *c != '\n').take(wanted) {
            passed += 1;
            bytes += c.len_utf8();
        }
        self.at += bytes;
        self.place.column = self.place.column.saturating_add(passed);
        Some(self.around())
    }

    /// What is on the same line around the present place.
    fn around(&self) -> Excerpt {
        let (before, after) = self.text.split_at(self.at);
        let mut left: Vec<char> = before.chars().rev().take_while(|c| *c != '\n').take(BEFORE + 1).collect();
        left.reverse();
        let mut right: Vec<char> = after.chars().take_while(|c| *c != '\n').take(BEFORE + AFTER + 1).collect();
        if right.last() == Some(&'\r') {
            right.pop();
        }
        let room = (BEFORE + AFTER).saturating_sub(left.len()).max(AFTER);
        let cut_left = left.len() > BEFORE;
        let cut_right = right.len() > room;
        let mut text = String::new();
        if cut_left {
            left[0] = '…';
        }
        let caret = left.len();
        text.extend(left.into_iter().chain(right.into_iter().take(room)).map(|c| if c.is_control() { ' ' } else { c }));
        if cut_right {
            text.push('…');
        }
        Excerpt { text, caret }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_and_cut_around_the_place() {
        let text = format!("ab\n{}X{}\r\n\tc\n", "é".repeat(500), "ü".repeat(500));
        let mut walker = Walker::new(&text, 0);
        let mut at = |line, column| walker.excerpt(Place { line, column });
        assert_eq!(at(1, 2), Some(Excerpt { text: "ab".to_owned(), caret: 1 }));
        let cut = at(2, 501).expect("a line");
        assert_eq!(cut.text.chars().nth(cut.caret), Some('X'));
        assert!(cut.text.starts_with('…') && cut.text.ends_with('…') && cut.text.chars().count() < 110, "{}", cut.text);
        let again = at(2, 501).expect("the same");
        assert_eq!(again, cut);
        assert_eq!(at(3, 2), Some(Excerpt { text: " c".to_owned(), caret: 1 }));
        assert_eq!(at(9, 1), None);
    }

    #[test]
    fn places_in_a_piece_are_places_in_the_whole() {
        let begin = Place { line: 7, column: 9 };
        assert_eq!(below(begin, Place { line: 1, column: 3 }), Place { line: 7, column: 11 });
        assert_eq!(below(begin, Place { line: 2, column: 3 }), Place { line: 8, column: 3 });
    }
}
