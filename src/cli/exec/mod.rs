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
mod files;
mod follow;
mod label;
mod session;
mod settings;
mod summary;

use std::path::PathBuf;

use jiff::Timestamp;
use tc_payload::Problem;

use self::{
    define::Defined,
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
    called: Called,
    defined: Defined,
}

/// Definitions of the valid files; the invalid ones are explained and become rows of the summary.
fn prepare(files: &[TaskFile]) -> (Vec<Ready>, Vec<(usize, Row)>) {
    let (mut ready, mut invalid) = (Vec::new(), Vec::new());
    for (number, (file, called)) in files.iter().zip(label::call(files)).enumerate() {
        let problems = files::problems(&file.document);
        if problems.is_empty() {
            let defined = define::define(file.document.value(), &file.stem, Timestamp::now());
            for note in defined.notes.iter().chain(&called.note) {
                say(&format!("warning: {}: {note}", file.document.name()));
            }
            ready.push(Ready { file: number, called, defined });
        } else {
            explain(&problems, file);
            let count = format!("{} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" });
            let why = Some(format!("{count} in its payload"));
            let name = file.document.name().to_owned();
            invalid.push((number, Row { name, outcome: Outcome::Invalid, why, took: None, artifacts: None }));
        }
    }
    (ready, invalid)
}

fn explain(problems: &[Problem], file: &TaskFile) {
    let text: String = problems.iter().map(|problem| problems::problem(problem, Some(&file.document))).collect();
    let kind = if files::is_definition(file.document.value()) { "payload of the task" } else { "payload" };
    say(&format!("{text}error: {}: the {kind} is invalid, so it is not run", file.document.name()));
}
