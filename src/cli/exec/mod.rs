//! `exec`: task files run here, by the ordinary worker, from an embedded queue.
//!
//! ```text
//! files ─input: read, rendered─▶ prepare: checked, defined ─▶ session: queue on loopback ◀─HTTP─▶ worker
//!            │                          │  └─ --list                │ board, reporter ─▶ show ─▶ output
//!            └─ wrong ─▶ problems ◀─────┘                           └─ all over, or told to go ─▶ summary, exit code
//! ```
//!
//! Standard output gets the tasks' logs, byte for byte if there is one task and no terminal.

mod artifacts;
mod board;
pub(crate) mod colour;
mod create;
mod define;
mod depend;
pub(crate) mod files;
mod follow;
mod home;
pub mod input;
mod items;
mod list;
mod lost;
mod names;
mod output;
mod picture;
mod prepare;
mod reporter;
mod screen;
mod select;
mod session;
mod setting;
mod settings;
mod shape;
mod show;
mod stage;
mod summary;
mod task_queue;
pub mod template;
mod trace;
mod view;

use self::{
    output::Beside,
    select::Wanted,
    session::{Closed, Session},
    summary::{COMPLETED, EXCEPTION, Row, USAGE},
    view::View,
};
use super::{
    args::{EngineName, ExecArgs, OutputForm},
    log::{self, Amount},
    problems::Failure,
};

/// Runs the files and returns the exit code.
pub async fn run(arguments: ExecArgs) -> Result<u8, Failure> {
    let beside = Beside::default();
    log::start_on(if arguments.verbose { Amount::Everything } else { Amount::Trouble }, beside.clone());
    if arguments.engine == EngineName::Multiuser {
        return Err(Failure::new(USAGE, "the engine multiuser is not there yet")
            .with_hint("leave --engine out: tasks then run as the current user"));
    }
    let named = arguments.files.iter().chain(&arguments.occasion.event);
    if named.filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(
            Failure::new(USAGE, "standard input is named twice").with_hint("a pipe can be read once; name a file instead")
        );
    }
    let Some(mut files) = input::read(&arguments.files) else { return Ok(USAGE) };
    let Some(occasion) = input::occasion(&arguments.occasion) else { return Ok(USAGE) };
    let listener = setting::listen().await?;
    if !input::render(&mut files, occasion.as_ref(), &listener.root_url()) {
        return Ok(USAGE);
    }
    if files.iter().all(|file| file.rendered.as_ref().is_some_and(Vec::is_empty)) {
        let is_json = arguments.output == Some(OutputForm::Json) && !arguments.list;
        return Ok(if is_json { view::conclude(OutputForm::Json, &[], &[], COMPLETED) } else { COMPLETED });
    }
    let wanted = Wanted { only: arguments.only.as_ref(), with_deps: arguments.with_deps.as_ref() };
    let (tasks, mut rows) = prepare::prepare(&files, &listener.root_url(), wanted);
    if tasks.is_empty() && rows.is_empty() {
        return Err(Failure::new(USAGE, "no task of these files is wanted").with_hint("--only and --with-deps look at labels"));
    }
    if arguments.list {
        let json = arguments.output == Some(OutputForm::Json);
        let code = super::print(&if json { list::json(&tasks) } else { list::text(&tasks) });
        return Ok(if rows.is_empty() { code } else { EXCEPTION });
    }
    let form = view::form(&arguments, tasks.len())?;
    let before: Vec<Row> = rows.clone();
    if tasks.is_empty() {
        // Of one task alone, everything was said.
        let is_told = before.len() == 1 && form != OutputForm::Json;
        return Ok(if is_told { EXCEPTION } else { view::conclude(form, &before, &before, EXCEPTION) });
    }
    let view = View::open(form, &arguments, tasks.len(), &beside)?;
    let mut session = Session::open(&arguments, tasks, listener, view).await?;
    session.work().await;
    let Closed { rows: more, trouble, told } = session.close().await;
    // As they ended, so that what was the cause of something stands before it.
    rows.extend(more);
    let code = summary::exit_code(rows.iter().map(|row| &row.outcome));
    let code = match told {
        Some(asked) => asked.shell_code(),
        None => code.max(trouble),
    };
    Ok(view::conclude(form, &before, &rows, code))
}
