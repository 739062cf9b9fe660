//! Problems for people, as compilers show them.

use std::fmt::Write as _;

use crate::{
    check::{
        Diagnostic, FileReport,
        rule::{Rule, Severity},
    },
    cli::{
        exec::colour::{GREEN, RED, YELLOW, paint},
        problems,
    },
};

/// All problems, and a line that counts them.
pub(super) fn reports(reports: &[FileReport], colours: bool) -> String {
    // What a template gives many tasks, it gives all of them in one place.
    let groups = reports.iter().flat_map(|report| report.diagnostics.chunk_by(is_same));
    let mut text: String = groups.map(|group| one(group, colours)).collect();
    let sum = |of: fn(&FileReport) -> usize| reports.iter().map(of).sum::<usize>();
    let (errors, warnings) = (sum(|report| report.errors), sum(|report| report.warnings));
    let files = count(reports.len(), "file");
    let line = if errors + warnings == 0 {
        paint(colours, GREEN, &format!("no problems in {files}"))
    } else {
        let counts = [(errors, "error", RED), (warnings, "warning", YELLOW)];
        let counts = counts.into_iter().filter(|(number, ..)| *number > 0);
        let counts: Vec<String> = counts.map(|(number, what, colour)| paint(colours, colour, &count(number, what))).collect();
        format!("{} in {files}", counts.join(", "))
    };
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
    text
}

/// Whether two problems differ in their tasks only.
fn is_same(a: &Diagnostic, b: &Diagnostic) -> bool {
    let what = |diagnostic: &Diagnostic| (diagnostic.rule.id, diagnostic.problem.place, diagnostic.task.is_some());
    what(a) == what(b) && a.task.is_some() && a.problem == b.problem
}

/// A problem of one task or several.
fn one(group: &[Diagnostic], colours: bool) -> String {
    let Some(Diagnostic { rule, severity, problem, task, excerpt }) = group.first() else { return String::new() };
    let colour = match severity {
        Severity::Error => RED,
        Severity::Warning => YELLOW,
    };
    let word = paint(colours, colour, &format!("{severity}[{}]", rule.id));
    let line = problem.place.zip(excerpt.as_ref()).map(|(place, excerpt)| (place.line, excerpt.text.as_str(), excerpt.caret));
    let mut plain = problem.clone();
    plain.message = printable(&plain.message);
    plain.field = printable(&plain.field);
    plain.hint = plain.hint.map(|hint| printable(&hint));
    let mut text = problems::marked(&word, &plain, line);
    if let Some(task) = task {
        let others: Vec<&str> = group[1..].iter().filter_map(|other| other.task.as_deref()).collect();
        // Writing to a string does not fail.
        let _ = match others.as_slice() {
            [] => writeln!(text, "  task: {task}"),
            [other] => writeln!(text, "  tasks: {task} and {other}"),
            [second, more @ ..] => writeln!(text, "  tasks: {task}, {second} and {} more", more.len()),
        };
    }
    text
}

/// Terminals obey control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The table of all rules.
pub(super) fn rules(rules: &[&Rule]) -> String {
    let width = rules.iter().map(|rule| rule.id.len()).max().unwrap_or(0);
    rules.iter().fold(String::new(), |mut text, rule| {
        let _ = writeln!(text, "{:width$}  {:7}  {}", rule.id, rule.severity.to_string(), rule.says);
        text
    })
}
