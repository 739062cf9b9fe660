//! One thing that is wrong with a document, said so that its author finds it.

use std::fmt;

use serde_json::Value;

use crate::Document;
use crate::check::words::wrong_type;

/// A position in a text, counted in characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One thing that is wrong.
///
/// `Display` writes `file:line:column: field: message`, leaving out what is not known, and the hint on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the user named it.
    pub file: Option<String>,
    /// Where in the file.
    pub place: Option<Place>,
    /// JSON pointer of the value (of the containing object when a property is missing).
    pub pointer: String,
    /// The same for people: `artifacts.0.contentEncoding`, or `(root)`.
    pub field: String,
    /// The value found there, shortened.
    pub value: Option<String>,
    /// The rule that is broken.
    pub message: String,
    /// Advice, if there is any.
    pub hint: Option<String>,
    /// The key is what is wrong, not the value behind it; so the place is the key's.
    pub at_key: bool,
}

impl Problem {
    /// A problem with the value at `pointer`, whose place is not known yet.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Problem {
        let pointer = pointer.into();
        let field = field_of(&pointer);
        Problem { file: None, place: None, pointer, field, value: None, message: message.into(), hint: None, at_key: false }
    }

    /// The value at `pointer` has another type than `wanted`: `string`, `integer`, `boolean`, `array` or `object`.
    pub fn wrong_type(pointer: impl Into<String>, wanted: &str, value: &Value) -> Problem {
        wrong_type(pointer.into(), wanted, value)
    }

    /// A problem with a file as a whole: it cannot be read, decoded or parsed.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { file: Some(file.into()), ..Problem::new("", message) }
    }

    /// Adds advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the value that was found.
    #[must_use]
    pub fn with_value(mut self, value: impl Into<String>) -> Problem {
        self.value = Some(value.into());
        self
    }

    /// Adds a position in the file.
    #[must_use]
    pub fn at(mut self, place: Place) -> Problem {
        self.place = Some(place);
        self
    }

    /// The same problem with a value that stands at `pointer` in a larger one.
    #[must_use]
    pub fn below(mut self, pointer: &str) -> Problem {
        self.pointer.insert_str(0, pointer);
        self.field = field_of(&self.pointer);
        self
    }

    /// Says that the key is wrong, not its value.
    #[must_use]
    pub fn about_key(mut self) -> Problem {
        self.at_key = true;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let Some(place) = self.place {
                write!(f, "{}:{}:", place.line, place.column)?;
            }
            f.write_str(" ")?;
        }
        // A file that cannot be parsed has no fields yet, so `(root)` would only be noise in front of the message.
        if self.file.is_none() || self.field != ROOT {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// Fills in the file, line and column of problems whose pointers are relative to `prefix` (such as `/payload`) in the document.
///
/// The document is read once for all of them.
pub fn apply_places(problems: &mut [Problem], document: &Document, prefix: &str) {
    apply_places_below(&mut [(prefix, problems)], document);
}

/// The same for problems of many parts of one document, each below a prefix of its own. The document is read once for all.
pub fn apply_places_below(groups: &mut [(&str, &mut [Problem])], document: &Document) {
    let below = |(prefix, problems): &(&str, &mut [Problem])| {
        problems.iter().map(|problem| format!("{prefix}{}", problem.pointer)).collect::<Vec<_>>()
    };
    let pointers: Vec<String> = groups.iter().flat_map(below).collect();
    if pointers.is_empty() {
        return;
    }
    let places = document.places(&pointers);
    let problems = groups.iter_mut().flat_map(|(_, problems)| problems.iter_mut());
    for (problem, (value, key)) in problems.zip(places) {
        problem.file = Some(document.name().to_owned());
        problem.place = if problem.at_key { key.or(value) } else { value.or(key) };
    }
}

/// Writes a property name as one segment of a JSON pointer.
pub fn escape_pointer_segment(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The segments of a JSON pointer, with their escapes resolved.
pub(crate) fn pointer_segments(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~"))
}

/// How the whole document is called among fields.
const ROOT: &str = "(root)";

fn field_of(pointer: &str) -> String {
    if pointer.is_empty() {
        return ROOT.to_owned();
    }
    pointer_segments(pointer).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::{Place, Problem};

    #[test]
    fn a_problem_is_one_line_and_its_hint() {
        let mut problem = Problem::new("/env/A~1B", "must be a string").with_hint("put it in quotes");
        assert_eq!(problem.to_string(), "env.A/B: must be a string\n  hint: put it in quotes");
        problem.file = Some("t.yml".to_owned());
        problem.place = Some(Place { line: 3, column: 7 });
        assert_eq!(problem.to_string(), "t.yml:3:7: env.A/B: must be a string\n  hint: put it in quotes");
    }

    #[test]
    fn a_file_as_a_whole_has_no_field() {
        assert_eq!(Problem::of_file("t.yml", "is empty").to_string(), "t.yml: is empty");
        assert_eq!(Problem::new("", "must be an object").to_string(), "(root): must be an object");
    }
}
