//! Task files: read, parsed, and their payloads checked, before anything runs.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde_json::Value;
use tc_payload::{Document, MAX_DOCUMENT_BYTES, Problem, docker, is_container_payload, native};

use super::documents;
use crate::graph::rendered::Rendered;

/// Extensions of files for tasks.
const EXTENSIONS: [&str; 3] = ["yml", "yaml", "json"];

/// A file that was read.
pub struct TaskFile {
    /// Its text and value.
    pub document: Document,
    /// Its name without folders and extension, for people.
    pub stem: String,
    /// The tasks that it gives, if it is a template.
    pub rendered: Option<Vec<Rendered>>,
}

/// The files that a path stands for: itself, or if it is a directory, the files for tasks in it, in the order of their names.
/// Directories in it are not looked into.
pub fn expand(path: &Path) -> Result<Vec<PathBuf>, Box<Problem>> {
    if path == Path::new("-") || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let name = path.display().to_string();
    let read = || -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let file = entry?.path();
            let named = file.extension().and_then(OsStr::to_str).is_some_and(|extension| EXTENSIONS.contains(&extension));
            if named && file.is_file() {
                found.push(file);
            }
        }
        found.sort();
        Ok(found)
    };
    let found = read().map_err(|error| Problem::of_file(&name, format!("cannot be read: {error}")))?;
    if found.is_empty() {
        let problem = Problem::of_file(&name, "has no files for tasks in it");
        return Err(Box::new(problem.with_hint("their names end in .yml, .yaml or .json")));
    }
    Ok(found)
}

/// Reads a file; `-` is standard input. YAML may have several documents, and each of them counts as a file then.
pub fn read(path: &Path) -> Result<Vec<TaskFile>, Box<Problem>> {
    let stdin = path == Path::new("-");
    let name = if stdin { "<stdin>".to_owned() } else { path.display().to_string() };
    let bytes = if stdin { take(io::stdin().lock()) } else { File::open(path).and_then(take) };
    let bytes = bytes.map_err(|error| Problem::of_file(&name, format!("cannot be read: {error}")))?;
    let stem = if stdin { None } else { path.file_stem() };
    let stem = stem.map_or_else(|| "stdin".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let parse = |bytes: &[u8], stem: String| {
        let document = Document::parse(&name, bytes).map_err(|problem| Box::new(with_format(problem)))?;
        Ok(TaskFile { document, stem, rendered: None })
    };
    let documents = match std::str::from_utf8(&bytes) {
        Ok(text) if bytes.len() <= MAX_DOCUMENT_BYTES => documents::split(text),
        _ => Vec::new(),
    };
    if documents.len() > documents::MOST {
        return Err(Box::new(Problem::of_file(&name, format!("has more than {} documents", documents::MOST))));
    }
    if documents.len() < 2 {
        return Ok(vec![parse(&bytes, stem)?]);
    }
    let each = documents.iter().enumerate();
    each.map(|(number, document)| parse(document.padded().as_bytes(), format!("{stem}-{}", number + 1))).collect()
}

/// Says which format the text was taken for, where YAML may have been meant: its short forms begin like JSON.
fn with_format(problem: Problem) -> Problem {
    if problem.hint.is_none() && problem.message.starts_with("invalid JSON") {
        return problem.with_hint("a file whose first character is { or [ is read as JSON, and not as YAML");
    }
    problem
}

/// One byte more than is allowed is enough to know that it is too much.
fn take(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_DOCUMENT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the value is a task definition, and not a bare payload.
pub fn is_definition(value: &Value) -> bool {
    value.get("payload").is_some()
}

/// Everything that is wrong with the payload of a task, or with a bare payload. Pointers begin at the task, and there are no places.
pub fn problems(value: &Value) -> Vec<Problem> {
    let (payload, prefix) = match value.get("payload") {
        Some(payload) => (payload, "/payload"),
        None => (value, ""),
    };
    let problems = if is_container_payload(payload) {
        docker::check(payload).err().unwrap_or_default()
    } else {
        native::check(payload).err().unwrap_or_default()
    };
    problems
        .into_iter()
        .map(|mut problem| {
            problem.pointer.insert_str(0, prefix);
            problem
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tc_payload::apply_places;

    use super::*;

    fn said(text: &str) -> Vec<String> {
        let document = Document::parse("t.yml", text.as_bytes()).expect("parsed");
        let mut problems = problems(document.value());
        apply_places(&mut problems, &document, "");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_payload_key_makes_it_a_task() {
        assert_eq!(said("command: [[a]]\nmaxRunTime: 1\n"), Vec::<String>::new());
        assert_eq!(said("payload:\n  command: [[a]]\n  maxRunTime: 1\n"), Vec::<String>::new());
        assert!(said("payload:\n  command: [[a]]\n  maxRunTime: x\n")[0].starts_with("t.yml:3:15: maxRunTime: "));
        assert!(said("command: [[a]]\nmaxRunTime: x\n")[0].starts_with("t.yml:2:13: maxRunTime: "));
        assert!(said("- a\n")[0].starts_with("t.yml:1:1: "), "{:?}", said("- a\n"));
        assert!(said("payload: 1\n")[0].starts_with("t.yml:1:10: "));
    }

    #[test]
    fn an_image_makes_it_a_container() {
        assert_eq!(said("image: busybox\nmaxRunTime: 1\n"), Vec::<String>::new());
        let said = said("image: --privileged\nmaxRunTime: x\ncommand: [[a]]\n");
        let at: Vec<&str> = said.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect();
        assert_eq!(at, ["t.yml:2:13:", "t.yml:3:11:", "t.yml:1:8:"], "{said:?}");
    }

    #[test]
    fn yaml_that_begins_like_json_gets_a_hint() {
        let said = |text: &str| Document::parse("t", text.as_bytes()).map_err(with_format).expect_err("no JSON").hint;
        assert!(said("{command: [[a]]}").is_some_and(|hint| hint.contains("YAML")));
        assert_eq!(said("a: [\n"), None);
    }

    #[test]
    fn a_directory_stands_for_its_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = expand(dir.path()).expect_err("nothing is in it").to_string();
        assert!(refused.contains("has no files for tasks"), "{refused}");
        for name in ["b.yml", "a.json", "c.yaml", "README", "d.yml~"] {
            std::fs::write(dir.path().join(name), "").expect("written");
        }
        std::fs::create_dir(dir.path().join("e.yml")).expect("made");
        let expected: Vec<_> = ["a.json", "b.yml", "c.yaml"].iter().map(|name| dir.path().join(name)).collect();
        assert_eq!(expand(dir.path()).expect("read"), expected);
        for other in ["-", "/nonexistent/x.yml"] {
            assert_eq!(expand(Path::new(other)).expect("as it is"), [PathBuf::from(other)]);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let problem = read(Path::new("/nonexistent/t.yml")).err().expect("no such file");
        assert!(problem.to_string().starts_with("/nonexistent/t.yml: cannot be read: "), "{problem}");
        let problem = read(Path::new("/")).err().expect("a directory");
        assert!(problem.to_string().starts_with("/: cannot be read: "), "{problem}");
    }
}
