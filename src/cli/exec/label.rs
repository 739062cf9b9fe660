//! What tasks are called: in front of lines, in the summary, and below the directory for artifacts.
//!
//! A task is called by its label: the value of the key `label` beside `payload`, else the name of its file without folders and
//! extension. Its artifacts are in a directory of that name, or of its task id if the label is no plain name or not its alone.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::files::TaskFile;

/// The key beside `payload`.
pub const LABEL: &str = "label";
/// Longest name for people, in characters.
const SHOWN: usize = 80;
/// Longest name of a directory, in bytes.
const LONGEST: usize = 200;

/// What one task is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// For people.
    pub name: String,
    /// The directory of its artifacts; without one, the task id names it.
    pub folder: Option<String>,
    /// Why a label is not the name of the directory, if it says one.
    pub note: Option<String>,
}

/// The names of these files' tasks, in their order.
pub fn call(files: &[TaskFile]) -> Vec<Called> {
    let sources: Vec<_> =
        files.iter().map(|file| (label(file.document.value()), file.stem.as_str(), file.document.name())).collect();
    names(&sources)
}

/// The label that a task definition has.
fn label(value: &Value) -> Option<&Value> {
    value.get("payload")?;
    value.get(LABEL)
}

/// From the label, the name without folders and extension, and the whole name of each file.
fn names(sources: &[(Option<&Value>, &str, &str)]) -> Vec<Called> {
    let labels: Vec<Option<&str>> = sources.iter().map(|(label, ..)| label.and_then(Value::as_str)).collect();
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for (label, (_, stem, _)) in labels.iter().zip(sources) {
        *uses.entry(label.unwrap_or(stem)).or_default() += 1;
    }
    let mut taken = HashSet::new();
    let mut called = Vec::with_capacity(sources.len());
    for (label, (value, stem, path)) in labels.iter().zip(sources) {
        let Some(label) = *label else {
            let alone = uses.get(stem) == Some(&1);
            called.push(Called {
                name: shown(if alone { stem } else { path }),
                folder: (alone && is_directory_name(stem)).then(|| (*stem).to_owned()),
                note: value.map(|_| "label is no text and does not count".to_owned()),
            });
            continue;
        };
        let note = if !is_directory_name(label) {
            Some("label cannot name a directory; the id of the task does".to_owned())
        } else if !taken.insert(label) {
            Some("another file has this label, too; the id of the task names its directory".to_owned())
        } else {
            None
        };
        let folder = note.is_none().then(|| label.to_owned());
        called.push(Called { name: shown(if label.is_empty() { stem } else { label }), folder, note });
    }
    called
}

/// Terminals obey control characters.
fn shown(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect()
}

/// Whether a label is one plain component of a path.
fn is_directory_name(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LONGEST
        && !label.starts_with('.')
        && !label.chars().any(|c| c == '/' || c == char::REPLACEMENT_CHARACTER || c.is_control())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn folders(sources: &[(Option<&Value>, &str, &str)]) -> Vec<Option<String>> {
        names(sources).into_iter().map(|called| called.folder).collect()
    }

    #[test]
    fn a_label_goes_before_the_name_of_the_file() {
        let label = json!("build");
        let called = names(&[(Some(&label), "a", "d/a.yml"), (None, "b", "d/b.yml")]);
        let plain = |name: &str| Called { name: name.to_owned(), folder: Some(name.to_owned()), note: None };
        assert_eq!(called, [plain("build"), plain("b")]);
    }

    #[test]
    fn no_two_tasks_share_a_directory() {
        let label = json!("x");
        let called = names(&[(None, "x", "d/x.yml"), (Some(&label), "a", "a.yml"), (Some(&label), "b", "b.yml")]);
        let folders: Vec<_> = called.iter().map(|called| called.folder.as_deref()).collect();
        assert_eq!(folders, [None, Some("x"), None]);
        assert_eq!(called[0].name, "d/x.yml");
        assert!(called[2].note.as_deref().is_some_and(|note| note.contains("another file")), "{called:?}");
    }

    #[test]
    fn what_is_no_plain_name_names_no_directory() {
        for label in ["a/b", "..", ".hidden", "", "a\u{1b}[2J", "a\0b"] {
            let value = json!(label);
            let called = &names(&[(Some(&value), "stem", "stem.yml")])[0];
            assert!(called.folder.is_none() && called.note.is_some(), "{called:?}");
            assert!(!called.name.is_empty() && !called.name.contains('\u{1b}'), "{called:?}");
        }
        assert_eq!(folders(&[(Some(&json!(5)), "stem", "stem.yml")]), [Some("stem".to_owned())]);
        assert_eq!(folders(&[(None, ".task", ".task.yml")]), [None]);
    }
}
