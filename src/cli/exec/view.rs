//! How a session is shown: what was asked for, and what the other end is.

use std::io::{self, IsTerminal as _};

use super::{
    colour,
    output::{Beside, Output},
    setting::unable,
    show::{Json, Show, Table, Text, json},
    summary::{self, Outcome, Row, USAGE},
    trace::Trace,
};
use crate::cli::{
    args::{ExecArgs, OutputForm},
    print,
    problems::{Failure, say},
};

/// What shows a session.
pub struct View {
    /// Turns news into output.
    pub show: Box<dyn Show>,
    /// Where that goes.
    pub output: Output,
    /// A trace, if one is wanted.
    pub trace: Option<Trace>,
}

/// The form of the output: what was asked for, or what fits.
pub fn form(arguments: &ExecArgs, tasks: usize) -> Result<OutputForm, Failure> {
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    decide(arguments.output, arguments.verbose, io::stdout().is_terminal() && !dumb, tasks)
}

fn decide(asked: Option<OutputForm>, verbose: bool, terminal: bool, tasks: usize) -> Result<OutputForm, Failure> {
    match asked {
        Some(OutputForm::Table) if !terminal => {
            Err(Failure::new(USAGE, "standard output is no terminal that could show a table")
                .with_hint("--output text or --output json suits pipes and files"))
        }
        Some(form) => Ok(form),
        // One log is best read as it is, and the worker's own log would leave a table no peace.
        None if terminal && tasks > 1 && !verbose => Ok(OutputForm::Table),
        None => Ok(OutputForm::Text),
    }
}

impl View {
    /// Opens standard output in this form.
    pub fn open(form: OutputForm, arguments: &ExecArgs, tasks: usize, beside: &Beside) -> Result<Self, Failure> {
        let colours = colour::wanted(&io::stdout());
        let trace = arguments.trace.as_deref().map(|path| {
            Trace::create(path)
                .map_err(|error| Failure::new(USAGE, format!("write the trace \"{}\"", path.display())).because(&error))
        });
        let trace = trace.transpose()?;
        let output = Output::start(colours).map_err(|error| unable("start a thread for standard output", &error))?;
        let show: Box<dyn Show> = match form {
            OutputForm::Text => Box::new(Text::new(tasks > 1, colours)),
            OutputForm::Json => Box::new(Json),
            OutputForm::Table => {
                beside.table(&output);
                Box::new(Table::new(colours))
            }
        };
        Ok(Self { show, output, trace })
    }
}

/// Says how everything ended. `before` are the rows of tasks that no session has shown.
pub fn conclude(form: OutputForm, before: &[Row], rows: &[Row], exit_code: u8) -> u8 {
    let colours = colour::wanted(&io::stderr());
    match form {
        OutputForm::Json => {
            let mut events: Vec<String> = before.iter().map(|row| json::ended(row).to_string()).collect();
            events.push(json::finished(rows, exit_code).to_string());
            return exit_code.max(print(&events.join("\n")));
        }
        OutputForm::Text => say(&summary::text(rows, colours)),
        OutputForm::Table => {
            // What has completed stands above already, and so does the rest, but nobody finds it there.
            let rest: Vec<Row> = rows.iter().filter(|row| row.outcome != Outcome::Completed).cloned().collect();
            let lines: String = rest.iter().map(|row| summary::line(row, colours)).collect();
            say(&format!("{lines}{}", summary::counts(rows)));
        }
    }
    exit_code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_needs_a_terminal_and_several_tasks() {
        use OutputForm::{Json, Table, Text};
        assert_eq!(decide(None, false, true, 2), Ok(Table));
        for (verbose, terminal, tasks) in [(true, true, 2), (false, false, 2), (false, true, 1)] {
            assert_eq!(decide(None, verbose, terminal, tasks), Ok(Text));
        }
        assert_eq!(decide(Some(Table), true, true, 1), Ok(Table));
        assert_eq!(decide(Some(Json), false, true, 2), Ok(Json));
        assert!(decide(Some(Table), false, false, 2).is_err());
    }
}
