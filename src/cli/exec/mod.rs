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
mod prepare;
mod reference;
mod reporter;
mod select;
mod session;
mod setting;
mod settings;
mod show;
mod stage;
mod summary;

use std::path::{Path, PathBuf};

use tc_payload::Problem;

use self::{
    files::TaskFile,
    output::Output,
    select::Wanted,
    session::{Closed, Session},
    show::Text,
    summary::{EXCEPTION, Row, USAGE},
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
    let listener = setting::listen().await?;
    let wanted = Wanted { only: arguments.only.as_ref(), with_deps: arguments.with_deps.as_ref() };
    let (tasks, mut rows) = prepare::prepare(&files, &listener.root_url(), wanted);
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
