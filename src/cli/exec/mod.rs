//! `exec`: task files run here, by the ordinary worker, from an embedded queue.
//!
//! ```text
//! files ─read, checked─▶ define ─▶ session: queue on loopback ◀─HTTP─▶ worker
//!            │                        │ tasks created, logs followed, artifacts saved
//!            └─ wrong ─▶ problems     └─ all resolved, or told to go ─▶ summary, exit code
//! ```
//!
//! Standard output gets the tasks' logs, byte for byte if there is one task and no terminal.

mod artifacts;
mod colour;
mod define;
mod depend;
mod files;
mod follow;
mod label;
mod session;
mod settings;
mod summary;

use std::{collections::HashSet, path::PathBuf};

use jiff::Timestamp;
use tc_payload::{Problem, apply_places};

use self::{
    define::Defined,
    depend::{Named, Placed},
    files::TaskFile,
    label::Called,
    session::{Closed, Session},
    summary::{EXCEPTION, Outcome, Row, USAGE},
};
use super::{
    args::{EngineName, ExecArgs},
    log::{self, Amount},
    problems::{self, Failure, say},
};
use crate::seam::{SystemRandom, slugid};

/// Runs the files and returns the exit code.
pub async fn run(arguments: ExecArgs) -> Result<u8, Failure> {
    log::start(if arguments.verbose { Amount::Everything } else { Amount::Trouble });
    if arguments.engine == EngineName::Multiuser {
        return Err(Failure::new(USAGE, "the engine multiuser is not there yet")
            .with_hint("leave --engine out: tasks then run as the current user"));
    }
    let Some(files) = read(&arguments.files) else { return Ok(USAGE) };
    let (tasks, mut rows) = prepare(&files);
    if tasks.is_empty() {
        return Ok(EXCEPTION);
    }
    let mut session = Session::open(&arguments, tasks).await?;
    session.work().await;
    let Closed { rows: more, trouble, told } = session.close().await;
    // The order of the files, whether they were run or not.
    rows.extend(more);
    rows.sort_by_key(|(file, _)| *file);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    say(&summary::text(&rows, colour::wanted(&std::io::stderr())));
    let code = summary::exit_code(rows.iter().map(|row| &row.outcome));
    Ok(match told {
        Some(asked) => asked.shell_code(),
        None if trouble => code.max(EXCEPTION),
        None => code,
    })
}

/// Reads all files, or says what is wrong with each that cannot be read or parsed.
fn read(paths: &[PathBuf]) -> Option<Vec<TaskFile>> {
    let mut files = Vec::new();
    let mut wrong = false;
    for path in paths {
        match files::read(path) {
            Ok(file) => files.push(file),
            Err(problem) => {
                wrong = true;
                let content = problem.place.and_then(|place| Some((place, source_line(path, place.line)?)));
                say(&problems::with_line(&problem, content.as_ref().map(|(place, line)| (*place, line.as_str()))));
            }
        }
    }
    (!wrong).then_some(files)
}

/// A line of a file that could not be parsed, so that there is no document that has it.
fn source_line(path: &std::path::Path, line: u32) -> Option<String> {
    let text = std::fs::read(path).ok()?;
    let line = text.split(|byte| *byte == b'\n').nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    Some(String::from_utf8_lossy(line).into_owned())
}

/// A task that is ready for the queue.
struct Ready {
    /// The number of its file.
    file: usize,
    /// The id of its task.
    id: String,
    /// The numbers of the files whose tasks it waits for.
    waits_for: Vec<usize>,
    called: Called,
    defined: Defined,
}

/// Definitions of the valid files, each after those that it waits for; the others are explained and become rows of the summary.
fn prepare(files: &[TaskFile]) -> (Vec<Ready>, Vec<(usize, Row)>) {
    let called = label::call(files);
    let named: Vec<Named<'_>> = files
        .iter()
        .zip(&called)
        .map(|(file, called)| Named { value: file.document.value(), label: called.folder.as_deref().unwrap_or(&called.name) })
        .collect();
    let placed = depend::place(&named, || slugid(&SystemRandom));
    let (order, circular) = depend::order(&placed);
    let mut invalid: Vec<(usize, Row)> = Vec::new();
    let mut lost = HashSet::new();
    for (number, file) in files.iter().enumerate() {
        let problems = problems_of(file, &placed, number);
        if !problems.is_empty() {
            explain(&problems, file);
            let count = format!("{} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" });
            invalid.push((number, not_run(&called[number], file, Outcome::Invalid, format!("{count} in it"))));
            lost.insert(number);
        }
    }
    for number in circular.into_iter().filter(|number| !lost.contains(number)).collect::<Vec<_>>() {
        let file = &files[number];
        say(&format!(
            "error: {}: the task waits for itself, directly or through others, so it is not run",
            file.document.name()
        ));
        let why = "it waits for itself".to_owned();
        invalid.push((number, not_run(&called[number], file, Outcome::Invalid, why)));
        lost.insert(number);
    }
    let mut ready = Vec::new();
    for number in order.into_iter().filter(|number| !lost.contains(number)).collect::<Vec<_>>() {
        let (file, placed_here) = (&files[number], &placed[number]);
        if let Some(on) = placed_here.waits_for.iter().find(|on| lost.contains(on)) {
            let why = format!("it waits for {}, which is not run", called[*on].name);
            invalid.push((number, not_run(&called[number], file, Outcome::NotRun, why)));
            lost.insert(number);
            continue;
        }
        let dependencies: Vec<&str> = placed_here.waits_for.iter().map(|on| placed[*on].id.as_str()).collect();
        let value = file.document.value();
        let defined = define::define(value, &file.stem, &dependencies, &placed_here.unknown, Timestamp::now());
        let called = called[number].clone();
        for note in defined.notes.iter().chain(&called.note) {
            say(&format!("warning: {}: {note}", file.document.name()));
        }
        let waits_for = placed_here.waits_for.clone();
        ready.push(Ready { file: number, id: placed_here.id.clone(), waits_for, called, defined });
    }
    (ready, invalid)
}

/// Everything that is wrong with one file, with places.
fn problems_of(file: &TaskFile, placed: &[Placed], number: usize) -> Vec<Problem> {
    let mut problems = files::problems(&file.document);
    let mut id = match depend::declared_id(file.document.value()) {
        Err(problem) => vec![problem],
        Ok(Some(id)) if placed[..number].iter().any(|other| other.id == id) => {
            vec![Problem::new("/taskId", "is the id of another file's task, too")]
        }
        Ok(_) => Vec::new(),
    };
    apply_places(&mut id, &file.document, "");
    problems.extend(id);
    problems
}

fn not_run(called: &Called, file: &TaskFile, outcome: Outcome, why: String) -> Row {
    // People look for the file, not for what it would have been called.
    let name = if outcome == Outcome::Invalid { file.document.name() } else { &called.name };
    Row { name: name.to_owned(), outcome, why: Some(why), took: None, artifacts: None }
}

fn explain(problems: &[Problem], file: &TaskFile) {
    let text: String = problems.iter().map(|problem| problems::problem(problem, Some(&file.document))).collect();
    let kind = if files::is_definition(file.document.value()) { "payload of the task" } else { "payload" };
    say(&format!("{text}error: {}: the {kind} is invalid, so it is not run", file.document.name()));
}
