//! Every file under `examples/valid` is accepted; every file under `examples/invalid` gives exactly the diagnostics beside it.
//!
//! After a change that is meant, `UPDATE_EXPECTED=1 cargo test -p tc-payload` writes the diagnostics anew, for review in the diff.

use std::fs;
use std::path::{Path, PathBuf};

use tc_payload::{Document, apply_places, docker, is_container_payload, native};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension != "expected"));
    files.sort();
    assert!(!files.is_empty());
    files
}

/// What a person is told about a file; empty if it is accepted.
fn diagnose(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    let document = match Document::parse(name, &fs::read(path).unwrap()) {
        Ok(document) => document,
        Err(problem) => return format!("{problem}\n"),
    };
    let (payload, prefix) = match document.value().get("payload") {
        Some(payload) => (payload, "/payload"),
        None => (document.value(), ""),
    };
    let wrong = if is_container_payload(payload) { docker::check(payload).err() } else { native::check(payload).err() };
    let Some(mut problems) = wrong else { return String::new() };
    apply_places(&mut problems, &document, prefix);
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n") + "\n"
}

#[test]
fn valid_examples_are_accepted() {
    for path in files("valid") {
        assert_eq!(diagnose(&path), "", "{}", path.display());
    }
}

#[test]
fn invalid_examples_are_explained() {
    for path in files("invalid") {
        let said = diagnose(&path);
        assert_ne!(said, "", "{} is accepted", path.display());
        let expected = PathBuf::from(format!("{}.expected", path.display()));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &said).unwrap();
        }
        assert_eq!(said, fs::read_to_string(&expected).unwrap_or_default(), "{}", path.display());
    }
}
