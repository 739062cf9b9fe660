//! Task files: read, parsed, and their payloads checked, before anything runs.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde_json::Value;
use tc_payload::{Document, MAX_DOCUMENT_BYTES, Problem, docker, is_container_payload, native};

use super::{names::names, task_queue};
use crate::{
    check::MAX_FILE_BYTES,
    graph::{documents, node::Share, rendered::Rendered},
};

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

impl TaskFile {
    /// Whether this is what a graph looks like of which nothing was wanted, `{}`. No task and no payload can be empty.
    pub fn is_empty_graph(&self) -> bool {
        self.document.value().as_object().is_some_and(serde_json::Map::is_empty)
    }
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

/// Why a file gives no tasks.
pub struct Wrong {
    /// What is wrong.
    pub problem: Box<Problem>,
    /// The line with that. A pipe cannot be read once more for it.
    pub line: Option<String>,
}

/// Reads a file; `-` is standard input. YAML may have several documents, and each of them counts as a file then.
pub fn read(path: &Path) -> Result<Vec<TaskFile>, Wrong> {
    let stdin = path == Path::new("-");
    let name = if stdin { "<stdin>".to_owned() } else { path.display().to_string() };
    let bytes = if stdin { take(io::stdin().lock()) } else { File::open(path).and_then(take) };
    let bytes = bytes.map_err(|error| {
        let problem = Problem::of_file(&name, format!("cannot be read: {error}"));
        Wrong { problem: Box::new(problem), line: None }
    })?;
    let stem = if stdin { None } else { path.file_stem() };
    let stem = stem.map_or_else(|| "stdin".to_owned(), |stem| stem.to_string_lossy().into_owned());
    parse(&name, &stem, &bytes).map_err(|problem| {
        let line = problem.place.and_then(|place| usize::try_from(place.line).ok()?.checked_sub(1));
        let line = line.and_then(|line| bytes.split(|byte| *byte == b'\n').nth(line));
        Wrong { problem, line: line.map(|line| String::from_utf8_lossy(line).into_owned()) }
    })
}

fn parse(name: &str, stem: &str, bytes: &[u8]) -> Result<Vec<TaskFile>, Box<Problem>> {
    let one = |document: Document, stem: String| TaskFile { document, stem, rendered: None };
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Ok(vec![one(graph(name, bytes)?, stem.to_owned())]);
    }
    let format = |problem| Box::new(tc_payload::taken_for_json(problem));
    let documents = std::str::from_utf8(bytes).map(documents::split).unwrap_or_default();
    if documents.len() > documents::MOST {
        return Err(Box::new(Problem::of_file(name, format!("has more than {} documents", documents::MOST))));
    }
    if documents.len() < 2 {
        return Ok(vec![one(Document::parse(name, bytes).map_err(format)?, stem.to_owned())]);
    }
    let each = documents.iter().enumerate().map(|(number, part)| {
        let document = Document::parse_part(name, &part.text(), part.lines_before()).map_err(format)?;
        Ok(one(document, format!("{stem}-{}", number + 1)))
    });
    each.collect()
}

/// A large file, which has to be a graph in JSON. That is seen before anything in it is read.
fn graph(name: &str, bytes: &[u8]) -> Result<Document, Box<Problem>> {
    let too_large = |most: usize| {
        let problem = Problem::of_file(name, format!("has more than {most} bytes"));
        Box::new(problem.with_hint("only graphs of tasks may be larger, if they are written as JSON"))
    };
    if bytes.len() > MAX_FILE_BYTES {
        return Err(too_large(MAX_FILE_BYTES));
    }
    let text = tc_payload::text(name, bytes, MAX_FILE_BYTES)?;
    let members = if text.trim_start().starts_with('{') { tc_payload::members(name, text)? } else { None };
    let share = members.as_ref().map_or(Share::None, |members| Share::of_members(text, members));
    if members.is_none() || !share.is_graph(&members.iter().flatten().map(|member| &*member.key)) {
        return Err(too_large(MAX_DOCUMENT_BYTES));
    }
    Ok(Document::parse_graph(name, bytes, MAX_FILE_BYTES)?)
}

/// One byte more than is allowed is enough to know that it is too much.
fn take(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the value is a task definition, and not a bare payload.
pub fn is_definition(value: &Value) -> bool {
    value.get("payload").is_some()
}

/// Everything that is wrong with the payload of a task, or with a bare payload. Pointers begin at the task, and there are no places.
pub fn problems(value: &Value) -> Vec<Problem> {
    if task_queue::built_in(value).is_some() {
        return task_queue::problem(value).into_iter().collect();
    }
    let (payload, prefix) = match value.get("payload") {
        Some(payload) => (payload, "/payload"),
        None => (value, ""),
    };
    let problems = if is_container_payload(payload) {
        docker::check(payload).err().unwrap_or_default()
    } else {
        native::check(payload).err().unwrap_or_default()
    };
    let problems = if problems.is_empty() { names(payload).refused } else { problems };
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
        let said =
            |text: &str| Document::parse("t", text.as_bytes()).map_err(tc_payload::taken_for_json).expect_err("no JSON").hint;
        assert!(said("{command: [[a]]}").is_some_and(|hint| hint.contains("YAML")));
        let named = Document::parse("t.json", b"{command: [[a]]}").map_err(tc_payload::taken_for_json);
        assert_eq!(named.expect_err("no JSON").hint, None, "nobody means YAML by that");
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
        let problem = read(Path::new("/nonexistent/t.yml")).err().expect("no such file").problem;
        assert!(problem.to_string().starts_with("/nonexistent/t.yml: cannot be read: "), "{problem}");
        let problem = read(Path::new("/")).err().expect("a directory").problem;
        assert!(problem.to_string().starts_with("/: cannot be read: "), "{problem}");
    }
}
