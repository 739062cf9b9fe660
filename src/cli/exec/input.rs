//! What the command line names: files are read, the event is, and templates are rendered with it.

use std::path::PathBuf;

use serde_json::{Value, json};
use tc_payload::Problem;

use super::{
    files::{self, TaskFile, Wrong},
    template::{self, Occasion},
};
use crate::cli::{
    args::OccasionArgs,
    problems::{self, say},
};

/// Reads all files, or says what is wrong with each that cannot be read or parsed.
pub fn read(paths: &[PathBuf]) -> Option<Vec<TaskFile>> {
    let mut files = Vec::new();
    let mut wrong = false;
    for path in paths {
        let paths = files::expand(path).unwrap_or_else(|problem| {
            wrong = true;
            say(&problems::with_line(&problem, None));
            Vec::new()
        });
        for path in paths {
            match files::read(&path) {
                Ok(more) => files.extend(more),
                Err(Wrong { problem, line }) => {
                    wrong = true;
                    let line = problem.place.zip(line.as_deref());
                    say(&problems::with_line(&problem, line));
                }
            }
        }
    }
    (!wrong).then_some(files)
}

/// What templates are rendered for, if anything is said about that; or nothing, and what is wrong was said.
pub fn occasion(arguments: &OccasionArgs) -> Option<Option<Occasion>> {
    let Some(tasks_for) = &arguments.tasks_for else { return Some(None) };
    let event = match &arguments.event {
        None => json!({}),
        Some(path) => {
            let mut read = read(std::slice::from_ref(path))?;
            if read.len() != 1 {
                say(&format!("error: {}: is not one event", path.display()));
                return None;
            }
            read.remove(0).document.into_value()
        }
    };
    Some(Some(Occasion { tasks_for: tasks_for.clone(), event, parameters: arguments.parameter.clone() }))
}

/// Renders the templates among the files, or says what is wrong. Blocks for as long as that takes, which is bounded.
pub fn render(files: &mut [TaskFile], occasion: Option<&Occasion>, root_url: &str) -> bool {
    let (mut well, mut found) = (true, false);
    for file in files.iter_mut().filter(|file| file.is_empty_graph()) {
        say(&format!("note: {}: is a graph without tasks", file.document.name()));
        file.rendered = Some(Vec::new());
    }
    for file in files.iter_mut().filter(|file| template::is_template(file.document.value())) {
        found = true;
        let Some(occasion) = occasion else {
            let problem = Problem::of_file(file.document.name(), "is a template of tasks");
            let hint = "--tasks-for says for which event, for instance --tasks-for github-push --event push.json";
            say(&problems::with_line(&problem.with_hint(hint), None));
            well = false;
            continue;
        };
        match template::tasks(&file.document, occasion, root_url) {
            Ok(batch) => {
                if batch.tasks.is_empty() {
                    say(&format!("note: {}: gives no tasks for {}", file.document.name(), occasion.tasks_for));
                }
                file.rendered = Some(batch.tasks);
            }
            Err(problem) => {
                well = false;
                say(&problems::problem(&problem, Some(&file.document)));
            }
        }
    }
    if occasion.is_some() && !found {
        say("error: no file is a template, which has the keys `version` and `tasks`; --tasks-for is for those");
        return false;
    }
    well
}

/// A value of the command line: JSON if it is that, else a text.
pub fn parameter(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("has no `=` between a name and a value")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain) {
        return Err(format!("{name:?} is no name: letters, digits and _ make one"));
    }
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| json!(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_json_or_text() {
        let of = |text: &str| parameter(text).expect("a parameter");
        assert_eq!(of("a=1"), ("a".to_owned(), json!(1)));
        assert_eq!(of("a_1=x=y"), ("a_1".to_owned(), json!("x=y")));
        assert_eq!(of("a={\"b\": []}").1, json!({ "b": [] }));
        assert_eq!(of("a=").1, json!(""));
        for wrong in ["a", "=1", "1a=1", "a-b=1"] {
            assert!(parameter(wrong).is_err(), "{wrong}");
        }
    }
}
