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
mod board;
mod colour;
mod create;
mod define;
mod depend;
mod files;
mod follow;
mod graph;
mod items;
mod label;
mod output;
mod reference;
mod reporter;
mod select;
mod session;
mod setting;
mod settings;
mod show;
mod stage;
mod summary;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use tc_payload::Problem;

use self::{
    define::Defined,
    depend::Placed,
    files::TaskFile,
    items::Item,
    label::Called,
    output::Output,
    select::Wanted,
    session::{Closed, Session},
    show::Text,
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
    let listener = setting::listen().await?;
    let wanted = Wanted { only: arguments.only.as_ref(), with_deps: arguments.with_deps.as_ref() };
    let (tasks, mut rows) = prepare(&files, &listener.root_url(), wanted);
    if tasks.is_empty() && rows.is_empty() {
        return Err(Failure::new(USAGE, "no task of these files is wanted").with_hint("--only and --with-deps look at labels"));
    }
    if tasks.is_empty() {
        return Ok(EXCEPTION);
    }
    let output = Output::start().map_err(|error| setting::unable("start a thread for standard output", &error))?;
    let show = Box::new(Text::new(tasks.len() > 1, colour::wanted(&std::io::stdout())));
    let mut session = Session::open(&arguments, tasks, listener, show, output).await?;
    session.work().await;
    let Closed { rows: more, trouble, told } = session.close().await;
    // The order in the files, whether they were run or not.
    rows.extend(more);
    rows.sort_by_key(|(number, _)| *number);
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
    let mut explain = |path: &Path, problem: &Problem| {
        wrong = true;
        let content = problem.place.and_then(|place| Some((place, source_line(path, place.line)?)));
        say(&problems::with_line(problem, content.as_ref().map(|(place, line)| (*place, line.as_str()))));
    };
    for path in paths {
        let paths = files::expand(path).unwrap_or_else(|problem| {
            explain(path, &problem);
            Vec::new()
        });
        for path in paths {
            match files::read(&path) {
                Ok(file) => files.push(file),
                Err(problem) => explain(&path, &problem),
            }
        }
    }
    (!wrong).then_some(files)
}

/// A line of a file that could not be parsed, so that there is no document that has it.
fn source_line(path: &Path, line: u32) -> Option<String> {
    let text = std::fs::read(path).ok()?;
    let line = text.split(|byte| *byte == b'\n').nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    Some(String::from_utf8_lossy(line).into_owned())
}

/// A task that is ready for the queue.
struct Ready {
    /// Its number among all tasks of the files.
    number: usize,
    /// Its id.
    id: String,
    /// The numbers of the tasks that it waits for.
    waits_for: Vec<usize>,
    called: Called,
    defined: Defined,
}

/// Definitions of the valid tasks, each after those that it waits for; the others are explained and become rows of the summary.
fn prepare(files: &[TaskFile], root_url: &str, wanted: Wanted<'_>) -> (Vec<Ready>, Vec<(usize, Row)>) {
    let items = items::items(files);
    let mut placed = items::place(&items, || slugid(&SystemRandom));
    let labels: Vec<&str> = items.iter().map(Item::label).collect();
    let selected = select::select(&labels, &placed, wanted);
    for task in &mut placed {
        // What is not run is not waited for; that was asked for.
        task.waits_for.retain(|on| selected.contains(on));
    }
    let (order, circular) = depend::order(&placed);
    let mut values = Vec::with_capacity(items.len());
    let mut rows: BTreeMap<usize, Row> = BTreeMap::new();
    for (number, item) in items.iter().enumerate() {
        let (value, problems) = items::checked(&items, &placed, number, root_url);
        values.push(value);
        if selected.contains(&number) && !problems.is_empty() {
            explain(&problems, item);
            let count = format!("{} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" });
            rows.insert(number, not_run(item, Outcome::Invalid, format!("{count} in it")));
        }
    }
    for number in circular.into_iter().filter(|number| selected.contains(number)) {
        rows.entry(number).or_insert_with(|| {
            let shown = items[number].shown();
            say(&format!("error: {shown}: the task waits for itself, directly or through others, so it is not run"));
            not_run(&items[number], Outcome::Invalid, "it waits for itself".to_owned())
        });
    }
    let mut ready = Vec::new();
    for number in order {
        if !selected.contains(&number) || rows.contains_key(&number) {
            continue;
        }
        let (item, Placed { id, waits_for, unknown }) = (&items[number], &placed[number]);
        if let Some(on) = waits_for.iter().find(|on| rows.contains_key(on)) {
            let why = format!("it waits for {}, which is not run", items[*on].called.name);
            rows.insert(number, not_run(item, Outcome::NotRun, why));
            continue;
        }
        let dependencies: Vec<&str> = waits_for.iter().map(|on| placed[*on].id.as_str()).collect();
        let defined = define::define(&values[number], item.stem(), &dependencies, unknown, Timestamp::now());
        for note in defined.notes.iter().chain(&item.called.note) {
            say(&format!("warning: {}: {note}", item.shown()));
        }
        let (id, waits_for, called) = (id.clone(), waits_for.clone(), item.called.clone());
        ready.push(Ready { number, id, waits_for, called, defined });
    }
    (ready, rows.into_iter().collect())
}

fn not_run(item: &Item<'_>, outcome: Outcome, why: String) -> Row {
    // People look for the file, not for what it would have been called.
    let name = if outcome == Outcome::Invalid { item.shown() } else { item.called.name.clone() };
    Row { name, outcome, why: Some(why), took: None, artifacts: None }
}

fn explain(problems: &[Problem], item: &Item<'_>) {
    let text: String = problems.iter().map(|problem| problems::problem(problem, Some(&item.file.document))).collect();
    let kind = if files::is_definition(item.value) { "task" } else { "payload" };
    say(&format!("{text}error: {}: the {kind} is invalid, so it is not run", item.shown()));
}
