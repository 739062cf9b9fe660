//! `check`: what is wrong with files, for people and for programs. What that is, is decided in [`crate::check`].

mod input;
mod json;
mod template;
mod text;

use std::{collections::HashSet, path::PathBuf};

use jiff::Timestamp;

use super::{
    args::{CheckArgs, CheckOutput, KindName},
    exec::{colour, files},
    print,
    problems::{Failure, say},
};
use crate::check::{self, FileReport, Input, Kind, Options, Render, Unread, rule};

/// Exit code: there are problems.
const PROBLEMS: u8 = 1;
/// Exit code: something that was named cannot be read.
const USAGE: u8 = 2;

/// Checks the files and returns the exit code.
pub fn run(arguments: &CheckArgs) -> Result<u8, Failure> {
    if arguments.rules {
        return Ok(print(&text::rules(rule::RULES)));
    }
    let worker = match &arguments.config {
        None => None,
        Some(path) => {
            let mut budget = input::Budget::default();
            let config = check::worker(budget.read(path));
            match config {
                Ok(config) => Some(config),
                Err(report) => return Ok(show(&[report], arguments).max(USAGE)),
            }
        }
    };
    let kitchen = match template::kitchen(&arguments.occasion, &arguments.files)? {
        Ok(kitchen) => kitchen,
        Err(report) => return Ok(show(&[report], arguments).max(USAGE)),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let kind = arguments.kind.map(|kind| match kind {
        KindName::Task => Kind::Task,
        KindName::Graph => Kind::Graph,
        KindName::Template => Kind::Template,
        KindName::Config => Kind::Config,
    });
    let render = kitchen.as_ref().map(|kitchen| kitchen as &dyn Render);
    let options = Options { now: Timestamp::now(), kind, worker: worker.as_ref(), threads, render };
    let reports = check::check(inputs(&arguments.files), &options);
    if arguments.output == CheckOutput::Text {
        for note in template::notes(&reports, kitchen.as_ref()).into_iter().chain(empty(&reports)) {
            say(&note);
        }
    }
    Ok(show(&reports, arguments))
}

/// All files that the arguments stand for, each of them once.
fn inputs(paths: &[PathBuf]) -> Vec<Input> {
    let mut budget = input::Budget::default();
    let mut inputs = Vec::new();
    let mut seen = HashSet::new();
    // What has no path of its own, such as a pipe, is told apart by the name that it was given.
    let mut is_new = |path: &PathBuf| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone()));
    for path in paths {
        match files::expand(path) {
            Ok(paths) => inputs.extend(paths.iter().filter(|path| is_new(path)).map(|path| budget.read(path))),
            Err(problem) => {
                let bytes = Err(Unread::Unfit(problem.message));
                inputs.push(Input { name: path.display().to_string(), bytes });
            }
        }
    }
    inputs
}

/// Graphs in which nothing is: nothing is wrong with them, and nothing was looked at either.
fn empty(reports: &[FileReport]) -> impl Iterator<Item = String> {
    let is_empty = |report: &&FileReport| report.kind == Some(Kind::Graph) && report.tasks == 0 && report.errors == 0;
    reports.iter().filter(is_empty).map(|report| format!("note: {}: there are no tasks in this graph", report.name))
}

/// Writes everything, and returns the exit code.
fn show(reports: &[FileReport], arguments: &CheckArgs) -> u8 {
    let text = match arguments.output {
        CheckOutput::Text => text::reports(reports, colour::wanted(&std::io::stdout())),
        CheckOutput::Json => json::reports(reports),
    };
    let written = if text.is_empty() { 0 } else { print(&text) };
    exit_code(reports, arguments.strict).max(written)
}

fn exit_code(reports: &[FileReport], strict: bool) -> u8 {
    if reports.iter().any(|report| report.unread) {
        return USAGE;
    }
    let counts = |report: &FileReport| report.errors > 0 || (strict && report.warnings > 0);
    if reports.iter().any(counts) { PROBLEMS } else { 0 }
}

#[cfg(test)]
mod tests;
