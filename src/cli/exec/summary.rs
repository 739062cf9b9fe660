//! The end of `exec`: one line per task, and the exit code.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use super::colour::{GREEN, RED, YELLOW, paint};

/// Every task completed.
pub const COMPLETED: u8 = 0;
/// A task failed.
pub const FAILED: u8 = 1;
/// The command line or a file is wrong.
pub const USAGE: u8 = 2;
/// A task ended as an exception.
pub const EXCEPTION: u8 = 3;

/// Longest part of a reason that is shown, in characters.
const SHOWN: usize = 160;

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It completed.
    Completed,
    /// It failed.
    Failed,
    /// It ended as an exception, with this reason.
    Exception(String),
    /// Its payload is invalid, so it was not run.
    Invalid,
    /// It was ended, or never begun, because somebody wanted to stop.
    Stopped,
    /// It was never begun, because a task that it waits for did not end as it has to.
    NotRun,
}

/// One line of the summary.
#[derive(Debug, Clone)]
pub struct Row {
    /// The task's name.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, unless it completed.
    pub why: Option<String>,
    /// How long its last run took, if there was one.
    pub took: Option<Duration>,
    /// Where its artifacts are, if there are any.
    pub artifacts: Option<String>,
}

impl Outcome {
    fn word(&self) -> &str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Exception(reason) => reason,
            Self::Invalid => "invalid",
            Self::Stopped => "stopped",
            Self::NotRun => "not run",
        }
    }

    /// How it ended, to follow the task's name.
    fn verb(&self) -> String {
        match self {
            Self::Completed => "completed".to_owned(),
            Self::Failed => "failed".to_owned(),
            Self::Exception(reason) => format!("ended with {reason}"),
            Self::Invalid => "is invalid".to_owned(),
            Self::Stopped => "was stopped".to_owned(),
            Self::NotRun => "was not run".to_owned(),
        }
    }

    fn colour(&self) -> &'static str {
        match self {
            Self::Completed => GREEN,
            Self::Failed | Self::Exception(_) | Self::Invalid => RED,
            Self::Stopped | Self::NotRun => YELLOW,
        }
    }
}

/// Why a task is not run: it waits for one that has ended like this, or for one that is not run either because of another one.
pub fn because(waits_for: &str, cause: Option<&str>, ended: &Outcome) -> String {
    match cause {
        None => format!("it waits for {waits_for}, which {}", ended.verb()),
        Some(cause) => format!("it waits for {waits_for}, and {cause} {}", ended.verb()),
    }
}

/// The exit code for these outcomes: an exception goes before a failure. What was not run has no say beside what kept it.
pub fn exit_code<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> u8 {
    let code = |outcome: &Outcome| match outcome {
        Outcome::Completed => COMPLETED,
        Outcome::Failed | Outcome::NotRun => FAILED,
        Outcome::Exception(_) | Outcome::Invalid | Outcome::Stopped => EXCEPTION,
    };
    outcomes.into_iter().map(code).max().unwrap_or(COMPLETED)
}

/// The summary.
pub fn text(rows: &[Row], colours: bool) -> String {
    let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let words = width(&mut rows.iter().map(|row| row.outcome.word().chars().count()));
    let names = width(&mut rows.iter().map(|row| row.name.chars().count()));
    let times = width(&mut rows.iter().map(|row| row.took.map_or(0, |took| seconds(took).len())));
    let mut text: String = rows.iter().map(|row| aligned(row, colours, (words, names, times))).collect();
    text.push_str(&counts(rows));
    text
}

/// One row alone.
pub fn line(row: &Row, colours: bool) -> String {
    aligned(row, colours, (0, 0, 0))
}

fn aligned(row: &Row, colours: bool, (words, names, times): (usize, usize, usize)) -> String {
    let word = paint(colours, row.outcome.colour(), &format!("{:words$}", row.outcome.word()));
    let time = row.took.map_or(String::new(), seconds);
    let mut line = format!("{word}  {:names$}  {time:>times$}", row.name);
    line.truncate(line.trim_end().len());
    if let Some(artifacts) = &row.artifacts {
        line.push_str("  ");
        line.push_str(artifacts);
    }
    if let Some(why) = row.why.as_deref().and_then(|why| why.lines().find(|line| !line.trim().is_empty())) {
        let cut = if why.chars().count() > SHOWN { "…" } else { "" };
        // Writing to a string does not fail.
        let _ = write!(line, "  ({}{cut})", why.trim().chars().take(SHOWN).collect::<String>());
    }
    line + "\n"
}

/// How many tasks ended in which way, if there are several.
pub fn counts(rows: &[Row]) -> String {
    if rows.len() < 2 {
        return String::new();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *counts.entry(row.outcome.word()).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!("{} tasks: {}\n", rows.len(), counts.join(", "))
}

/// `0.1 s`, `12.3 s`, `4 min 5 s`.
fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        secs => format!("{} min {} s", secs / 60, secs % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, outcome: Outcome, why: Option<&str>) -> Row {
        let took = (outcome != Outcome::Invalid).then(|| Duration::from_millis(1234));
        Row { name: name.to_owned(), outcome, why: why.map(str::to_owned), took, artifacts: None }
    }

    #[test]
    fn an_exception_goes_before_a_failure() {
        use Outcome::{Completed, Failed, Invalid};
        assert_eq!(exit_code(&[]), 0);
        assert_eq!(exit_code(&[Completed]), 0);
        assert_eq!(exit_code(&[Failed, Completed]), 1);
        assert_eq!(exit_code(&[Invalid, Failed]), 3);
        assert_eq!(exit_code(&[Outcome::Exception("internal-error".to_owned()), Failed]), 3);
    }

    #[test]
    fn one_line_per_task() {
        let mut hello = row("hello", Outcome::Completed, None);
        assert_eq!(text(&[hello.clone()], false), "completed  hello  1.2 s\n");
        hello.artifacts = Some("./artifacts/x".to_owned());
        let rows = [hello, row("b", Outcome::Failed, Some("\nexit status 3\nmore")), row("wrong.yml", Outcome::Invalid, None)];
        assert_eq!(
            text(&rows, false),
            "completed  hello      1.2 s  ./artifacts/x\n\
             failed     b          1.2 s  (exit status 3)\n\
             invalid    wrong.yml\n\
             3 tasks: 1 completed, 1 failed, 1 invalid\n"
        );
        assert!(text(&rows, true).starts_with("\x1b[32mcompleted\x1b[0m  hello"));
        assert_eq!(seconds(Duration::from_secs(245)), "4 min 5 s");
    }
}
