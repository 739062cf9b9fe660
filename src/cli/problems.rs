//! How mistakes look: one `error:` line, its causes, a hint; and for mistakes in files the line with a caret below.

use std::{error::Error, fmt::Write as _, io::Write as _};

use tc_payload::{Document, Place, Problem};

/// Longest part of a line of a file that is shown, in characters.
const SHOWN: usize = 100;
/// How much of it is before the caret at least, when the line is longer.
const BEFORE: usize = 60;

/// Why a command ends early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// A failure with this exit code. The message is a lowercase fragment that names the object.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// Adds an error and everything behind it.
    #[must_use]
    pub fn because(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds a cause that is only known as text.
    #[must_use]
    pub fn because_of(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with another exit code.
    #[must_use]
    pub fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        for cause in &self.causes {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  caused by: {}", cause.trim_end().replace('\n', "\n    "));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  hint: {hint}");
        }
        text
    }

    /// Writes it to standard error.
    pub fn show(&self) {
        say(&self.text());
    }
}

/// Writes whole lines to standard error, in one piece so that others cannot cut them.
pub fn say(text: &str) {
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    // Nobody reads it: then nobody misses it.
    drop(std::io::stderr().lock().write_all(format!("{text}{newline}").as_bytes()));
}

/// A problem of a file, with the line that it is in. Configuration files hold secrets, so for them there is no `document`.
pub fn problem(problem: &Problem, document: Option<&Document>) -> String {
    let line = problem.place.and_then(|place| Some((place, document?.line(place.line)?)));
    with_line(problem, line)
}

/// The same with a line that the caller has found.
pub fn with_line(problem: &Problem, line: Option<(Place, &str)>) -> String {
    let shown = line.map(|(place, line)| (place.line, window(line, usize::try_from(place.column).unwrap_or(1))));
    marked("error", problem, shown.as_ref().map(|(number, (line, caret))| (*number, line.as_str(), *caret)))
}

/// The same with another word in front, and with a line that is cut already: its number, its text, and how many characters of
/// it are before the caret.
pub fn marked(word: &str, problem: &Problem, line: Option<(u32, &str, usize)>) -> String {
    let mut whole = problem.clone();
    let hint = whole.hint.take();
    let mut text = format!("{word}: {whole}\n");
    // Writing to a string does not fail.
    if let Some((number, line, caret)) = line {
        let number = number.to_string();
        let margin = " ".repeat(number.len());
        let _ = writeln!(text, " {number} | {line}\n {margin} | {}^", " ".repeat(caret));
    }
    if let Some(hint) = hint {
        let _ = writeln!(text, "  hint: {hint}");
    }
    text
}

/// The part of a line around a column (from 1), printable, and how many characters stand before the caret.
fn window(line: &str, column: usize) -> (String, usize) {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let length = line.chars().count();
    let caret = column.saturating_sub(1).min(length);
    let begin = if length <= SHOWN { 0 } else { caret.saturating_sub(BEFORE) };
    let part: String = line.chars().skip(begin).take(SHOWN).map(printable).collect();
    let (left, right) = (if begin > 0 { "…" } else { "" }, if begin + SHOWN < length { "…" } else { "" });
    (format!("{left}{part}{right}"), caret - begin + left.chars().count())
}

#[cfg(test)]
mod tests {
    use tc_payload::apply_places;

    use super::*;

    #[test]
    fn a_failure_has_causes_and_a_hint() {
        let error = std::io::Error::other("disk on fire");
        let failure = Failure::new(69, "write \"x\"").because(&error).with_hint("use another disk");
        assert_eq!(failure.text(), "error: write \"x\"\n  caused by: disk on fire\n  hint: use another disk\n");
    }

    #[test]
    fn a_problem_shows_its_line_with_a_caret() {
        let document = Document::parse("t.yml", b"maxRunTime: 60\nenv:\n  A: 1\n").expect("YAML");
        let mut problems = [Problem::new("/env/A", "must be a string").with_hint("quote it")];
        apply_places(&mut problems, &document, "");
        assert_eq!(
            problem(&problems[0], Some(&document)),
            "error: t.yml:3:6: env.A: must be a string\n 3 |   A: 1\n   |      ^\n  hint: quote it\n"
        );
        assert_eq!(problem(&problems[0], None), "error: t.yml:3:6: env.A: must be a string\n  hint: quote it\n");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let line = format!("{}X{}", "a\t".repeat(500), "é".repeat(500));
        let (shown, caret) = window(&line, 1001);
        assert_eq!(shown.chars().nth(caret), Some('X'), "{shown}");
        assert!(shown.chars().count() <= SHOWN + 2 && !shown.contains('\t'), "{shown}");
        assert_eq!(window("ab", 9), ("ab".to_owned(), 2));
        assert_eq!(window("", 1), (String::new(), 0));
    }
}
