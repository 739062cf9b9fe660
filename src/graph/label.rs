//! What tasks are called: in front of lines, in the summary, and below the directory for artifacts.
//!
//! A task is called by its label: the value of the key `label` beside `payload`, else the name of its file without folders and
//! extension. Its artifacts are in a directory of that name, or of its task id if the label is no plain name or not its alone.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// The key beside `payload`.
pub const LABEL: &str = "label";
/// Longest name for people and programs, in characters. Labels of large projects have a hundred, and people look for whole ones.
const SHOWN: usize = 255;
/// Longest name of a directory, in bytes.
const LONGEST: usize = 200;

/// What one task is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// For people.
    pub name: String,
    /// Its label as it is.
    pub label: Option<String>,
    /// The directory of its artifacts; without one, the task id names it.
    pub folder: Option<String>,
    /// Why a label is not the name of the directory, if it says one.
    pub note: Option<String>,
}

/// Where the name of one task comes from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its label, if it has one.
    pub label: Option<Label<'a>>,
    /// The name of its file without folders and extension.
    pub stem: &'a str,
    /// The whole name of its file.
    pub path: &'a str,
}

/// A label.
#[derive(Debug, Clone, Copy)]
pub enum Label<'a> {
    /// As an author wrote it in a file.
    Written(&'a Value),
    /// As a program wrote it into a graph, where many are no names of directories, and nobody has to be told.
    Given(&'a str),
}

impl<'a> Label<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Written(value) => value.as_str(),
            Self::Given(text) => Some(text),
        }
    }
}

/// The label that a task definition has.
pub fn label(value: &Value) -> Option<&Value> {
    value.get("payload")?;
    value.get(LABEL)
}

/// The names of these tasks, in their order.
pub fn names(sources: &[Source<'_>]) -> Vec<Called> {
    let labels: Vec<Option<&str>> = sources.iter().map(|source| source.label.and_then(Label::text)).collect();
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for (label, source) in labels.iter().zip(sources) {
        *uses.entry(label.unwrap_or(source.stem)).or_default() += 1;
    }
    let mut taken = HashSet::new();
    let call = |(text, source): (Option<&str>, &Source<'_>)| {
        let Source { label, stem, path } = *source;
        let Some(text) = text else {
            let alone = uses.get(stem) == Some(&1);
            let folder = (alone && is_directory_name(stem)).then(|| stem.to_owned());
            let note = label.map(|_| "label is no text and does not count".to_owned());
            return Called { name: shown(if alone { stem } else { path }), label: None, folder, note };
        };
        let (named, first) = (is_directory_name(text), taken.insert(text.to_owned()));
        let folder = (named && first).then(|| text.to_owned());
        // That a label of a graph is no name of a directory is nobody's mistake; that it is there twice is somebody's.
        let note = match label {
            _ if !first => Some("another task has this label, too; the id of the task names its directory".to_owned()),
            Some(Label::Written(_)) if !named => Some("label cannot name a directory; the id of the task does".to_owned()),
            _ => None,
        };
        Called { name: shown(if text.is_empty() { stem } else { text }), label: Some(text.to_owned()), folder, note }
    };
    labels.iter().copied().zip(sources).map(call).collect()
}

/// Terminals obey control characters. What was cut says so.
fn shown(name: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    if name.chars().nth(SHOWN).is_none() {
        return name.chars().map(plain).collect();
    }
    name.chars().map(plain).take(SHOWN - 1).chain(['…']).collect()
}

/// Whether a label is one plain component of a path.
pub fn is_directory_name(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LONGEST
        && !label.starts_with('.')
        && !label.chars().any(|c| c == '/' || c == char::REPLACEMENT_CHARACTER || c.is_control())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn from<'a>(label: Option<&'a Value>, stem: &'a str, path: &'a str) -> Source<'a> {
        Source { label: label.map(Label::Written), stem, path }
    }

    fn folders(sources: &[Source<'_>]) -> Vec<Option<String>> {
        names(sources).into_iter().map(|called| called.folder).collect()
    }

    #[test]
    fn a_label_goes_before_the_name_of_the_file() {
        let label = json!("build");
        let called = names(&[from(Some(&label), "a", "d/a.yml"), from(None, "b", "d/b.yml")]);
        let plain = |name: &str, label: Option<&str>| Called {
            name: name.to_owned(),
            label: label.map(str::to_owned),
            folder: Some(name.to_owned()),
            note: None,
        };
        assert_eq!(called, [plain("build", Some("build")), plain("b", None)]);
    }

    #[test]
    fn no_two_tasks_share_a_directory() {
        let label = json!("x");
        let called = names(&[from(None, "x", "d/x.yml"), from(Some(&label), "a", "a.yml"), from(Some(&label), "b", "b.yml")]);
        let folders: Vec<_> = called.iter().map(|called| called.folder.as_deref()).collect();
        assert_eq!(folders, [None, Some("x"), None]);
        assert_eq!(called[0].name, "d/x.yml");
        assert!(called[2].note.as_deref().is_some_and(|note| note.contains("another task")), "{called:?}");
    }

    #[test]
    fn what_is_no_plain_name_names_no_directory() {
        for label in ["a/b", "..", ".hidden", "", "a\u{1b}[2J", "a\0b"] {
            let value = json!(label);
            let called = &names(&[from(Some(&value), "stem", "stem.yml")])[0];
            assert!(called.folder.is_none() && called.note.is_some(), "{called:?}");
            assert!(!called.name.is_empty() && !called.name.contains('\u{1b}'), "{called:?}");
        }
        assert_eq!(folders(&[from(Some(&json!(5)), "stem", "stem.yml")]), [Some("stem".to_owned())]);
        assert_eq!(folders(&[from(None, ".task", ".task.yml")]), [None]);
        let given = Source { label: Some(Label::Given("build-linux64/opt")), stem: "graph", path: "graph.json" };
        assert_eq!(names(&[given])[0].note, None, "nobody wrote that label by hand");
        let given = Source { label: Some(Label::Given("same")), ..given };
        assert!(names(&[given, given])[1].note.is_some(), "their lines cannot be told apart");
    }

    #[test]
    fn long_labels_stay_whole_as_long_as_they_can_be_real() {
        let name = |length: usize| names(&[from(Some(&json!("é".repeat(length))), "stem", "f")])[0].name.clone();
        assert_eq!(name(255), "é".repeat(255));
        assert_eq!(name(300), format!("{}…", "é".repeat(254)));
    }
}
