//! The command line: what people and service managers see of the worker.
//!
//! ```text
//! argv ─names, args─▶ one command ─▶ run | exec | queue: Parts ─▶ worker, embedded queue
//!                 │           check: files ─▶ diagnostics
//!                 │           status | new-ed25519-keypair | show-payload-schema | version: one answer
//!                 └─ signals ─▶ Control
//! ```
//!
//! Standard output belongs to what was asked for (a task's log, variables, a schema); everything else goes to standard error.
//! Owns no decision about tasks.

pub mod args;
pub mod check;
pub mod engine;
pub mod exec;
mod keypair;
pub mod log;
mod names;
pub mod problems;
mod queue;
mod run;
mod schema;
pub mod signals;
mod status;

use std::{ffi::OsString, io::Write as _};

use clap::Parser as _;

use args::{Arguments, Command};
use names::{Name, Role};

/// The exit code when the worker itself cannot go on.
pub const INTERNAL_ERROR: u8 = 69;

/// Does what the arguments ask for and returns the exit code.
pub async fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let name = Name::of(arguments.first().map(OsString::as_os_str));
    let done = match name.role() {
        Role::Later(program) => {
            name.answer_for_later(program, arguments.get(1).map(OsString::as_os_str)).map(|text| print(&text))
        }
        Role::Worker => work(&name, arguments).await,
    };
    done.unwrap_or_else(|failure| {
        failure.show();
        failure.code
    })
}

async fn work(name: &Name, arguments: Vec<OsString>) -> Result<u8, problems::Failure> {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody reads it: then nobody misses it. A request for help is no error, and clap knows that.
            drop(error.print());
            return Ok(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if arguments.short_version {
        return Ok(print(Name::short_version()));
    }
    match arguments.command {
        Some(Command::Run(run)) => run::run(run, name).await,
        Some(Command::Exec(exec)) => exec::run(exec).await,
        Some(Command::Check(check)) => check::run(&check),
        Some(Command::Queue(queue)) => queue::run(queue).await,
        Some(Command::Status) => status::text().map(|text| print(&text)),
        Some(Command::NewEd25519Keypair(keypair)) => keypair::make(&keypair).map(|public| print(&public)),
        Some(Command::ShowPayloadSchema) => Ok(print(&schema::text())),
        // Without a command there is only --version: nothing at all gets the help.
        None => Ok(print(&name.version())),
    }
}

/// Writes the answer to standard output. A reader that has gone away (`| head`) has seen what it wanted.
fn print(text: &str) -> u8 {
    let mut out = std::io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    let written = write!(out, "{text}{newline}").and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            problems::Failure::new(INTERNAL_ERROR, "write to standard output").because(&error).show();
            INTERNAL_ERROR
        }
        _ => 0,
    }
}
