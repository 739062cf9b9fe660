//! The text of one file and what it says.
//!
//! Owns: telling JSON from YAML, the bounds on size and depth, keys that stand twice, and positions. Positions are not kept: when a
//! problem needs its place, the text is read once more, and only the wanted pointers are followed. Most documents never need one.

mod json;
mod lines;
mod members;
mod merging;
mod wanted;
mod yaml;

use serde_json::Value;

use crate::problem::pointer_segments;
use crate::{Place, Problem};
use wanted::Wanted;

pub use lines::Cursor;
pub use members::{MAX_MEMBERS, Member, members};

/// The longest document that is read, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 10 << 20;

/// The deepest nesting of lists and mappings that is read. Readers are recursive, so there has to be a bound.
pub const MAX_DEPTH: usize = 100;

/// What a key that stands twice in one object means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// A mistake: in a task, one of the two values would be lost without a word.
    Refuse,
    /// The later value wins, objects are merged. This is how the reference worker reads its configuration.
    Merge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    Json,
    Yaml,
}

/// One parsed file.
#[derive(Clone)]
pub struct Document {
    name: String,
    text: String,
    syntax: Syntax,
    value: Value,
    /// How many lines of the file come before the text.
    lines_before: u32,
}

impl std::fmt::Debug for Document {
    /// Shows no content: a configuration file holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document")
            .field("name", &self.name)
            .field("syntax", &self.syntax)
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

impl Document {
    /// Parses a task file. A key that stands twice is a problem.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Document, Problem> {
        Document::parse_with(name, bytes, Repeats::Refuse)
    }

    /// Parses a file.
    ///
    /// The syntax is told by the first character, never by the file's name: what begins with `{` or `[` is JSON. (Runner
    /// configurations are JSON in files called `.yaml`, and YAML readers stumble over JSON's surrogate pairs.)
    pub fn parse_with(name: &str, bytes: &[u8], repeats: Repeats) -> Result<Document, Problem> {
        Document::parse_text(name, text(name, bytes, MAX_DOCUMENT_BYTES)?, repeats, 0)
    }

    /// Parses a part of a file that so many lines come before. Places are those in the whole file.
    pub fn parse_part(name: &str, text: &str, lines_before: u32) -> Result<Document, Problem> {
        Document::parse_text(name, text, Repeats::Refuse, lines_before)
    }

    /// Parses a graph of tasks, which may have so many bytes. Whoever calls this knows that it is one, as [`members`] tell.
    pub fn parse_graph(name: &str, bytes: &[u8], most_bytes: usize) -> Result<Document, Problem> {
        Document::parse_text(name, text(name, bytes, most_bytes)?, Repeats::Refuse, 0)
    }

    fn parse_text(name: &str, text: &str, repeats: Repeats, lines_before: u32) -> Result<Document, Problem> {
        let first = text.trim_start().as_bytes().first();
        let syntax = match first {
            None => return Err(Problem::of_file(name, "is empty")),
            Some(b'{' | b'[') => Syntax::Json,
            Some(_) => Syntax::Yaml,
        };
        let value = match syntax {
            Syntax::Json => json::parse(text, repeats),
            Syntax::Yaml => yaml::parse(text, repeats),
        };
        match value {
            Ok(value) => Ok(Document { name: name.to_owned(), text: text.to_owned(), syntax, value, lines_before }),
            Err(mut problem) => {
                problem.file = Some(name.to_owned());
                problem.place = problem.place.map(|place| below(place, lines_before));
                Err(problem)
            }
        }
    }

    /// The name under which the user gave the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the file says.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Takes the value out.
    pub fn into_value(self) -> Value {
        self.value
    }

    /// The text, for showing a line of it.
    pub fn source(&self) -> &str {
        &self.text
    }

    /// How many lines of the file come before the text.
    pub fn lines_before(&self) -> u32 {
        self.lines_before
    }

    /// One line of the file, counted from 1.
    pub fn line(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number.checked_sub(self.lines_before)?).ok()?.checked_sub(1)?;
        self.text.lines().nth(index)
    }

    /// Where the value at a JSON pointer begins. If there is no such value, the nearest one that contains its place.
    pub fn place(&self, pointer: &str) -> Option<Place> {
        self.places(&[pointer.to_owned()]).pop().and_then(|(value, key)| value.or(key))
    }

    /// For each pointer: where its value begins, and where its key does. One pass over the text.
    pub(crate) fn places(&self, pointers: &[String]) -> Vec<(Option<Place>, Option<Place>)> {
        let mut wanted = Wanted::default();
        for pointer in pointers {
            wanted.add(pointer_segments(pointer));
        }
        match self.syntax {
            Syntax::Json => json::locate(&self.text, &mut wanted),
            Syntax::Yaml => yaml::locate(&self.text, &mut wanted),
        }
        let in_file = |place: Option<Place>| place.map(|place| below(place, self.lines_before));
        let found = pointers.iter().map(|pointer| wanted.found(pointer_segments(pointer)));
        found.map(|(value, key)| (in_file(value), in_file(key))).collect()
    }
}

/// Says which format a text was taken for, where YAML may have been meant: its short forms begin like JSON.
pub fn taken_for_json(problem: Problem) -> Problem {
    let is_meant = problem.file.as_ref().is_some_and(|file| file.to_ascii_lowercase().ends_with(".json"));
    if problem.hint.is_none() && !is_meant && problem.message.starts_with("invalid JSON") {
        return problem.with_hint("a file whose first character is { or [ is read as JSON, and not as YAML");
    }
    problem
}

/// The text of a file of at most so many bytes, without the mark that some editors put in front.
pub fn text<'b>(name: &str, bytes: &'b [u8], most_bytes: usize) -> Result<&'b str, Problem> {
    if bytes.len() > most_bytes {
        let message = format!("has {} bytes; at most {most_bytes} are read", bytes.len());
        return Err(Problem::of_file(name, message));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
        let problem = Problem::of_file(name, format!("is not UTF-8: byte 0x{byte:02x} cannot stand here"));
        problem.at(lines::place_of(valid, valid.len()))
    })
}

fn below(place: Place, lines: u32) -> Place {
    Place { line: place.line.saturating_add(lines), ..place }
}

fn too_deep() -> Problem {
    Problem::new("", format!("is nested deeper than {MAX_DEPTH} levels"))
}
