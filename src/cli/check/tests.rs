//! What people and programs get to see: each directory below `tests/fixtures/check` is named after a rule, and its files break
//! it. What is then said stands in `expected`.
//!
//! After a change that is meant, `UPDATE_EXPECTED=1 cargo test -p tc-worker --lib cli::check` writes that anew, for review in the
//! diff.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tc_payload::{Document, Problem};

use super::*;
use crate::{
    check::rule::Severity,
    cli::exec::template::{Occasion, tasks_here},
    graph::rendered::Batch,
};

/// Rules whose files are too large to lie about; they are made here.
const MADE: [&str; 4] = ["file/unreadable", "file/too-large", "file/more", "dependency/too-many"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn options() -> Options<'static> {
    Options { now: "2026-01-01T00:00:00Z".parse().expect("a date"), kind: None, worker: None, threads: 2, render: None }
}

fn input(name: &str, bytes: impl Into<Vec<u8>>) -> Input {
    Input { name: name.to_owned(), bytes: Ok(bytes.into()) }
}

fn fixtures() -> Vec<PathBuf> {
    let all = fs::read_dir(repository().join("tests/fixtures/check")).expect("fixtures");
    let mut all: Vec<PathBuf> = all.map(|entry| entry.expect("an entry").path()).collect();
    all.sort();
    all
}

/// Renders for what a fixture's `occasion.json` says.
#[derive(Debug)]
struct Here(Occasion);

impl Here {
    fn read(path: &Path) -> Self {
        let said: serde_json::Value = serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON");
        let tasks_for = said["tasks_for"].as_str().expect("a text").to_owned();
        Self(Occasion { tasks_for, event: said["event"].clone(), parameters: Vec::new() })
    }
}

impl Render for Here {
    fn render(&self, document: &Document) -> Result<Batch, Box<Problem>> {
        tasks_here(document, &self.0, check::ROOT_URL)
    }
}

/// Checks the files of a fixture, and the worker beside them if there is one.
fn check_fixture(folder: &Path) -> Vec<FileReport> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("a fixture").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let named = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let read = |path: &PathBuf| input(&named(path), fs::read(path).expect("read"));
    let worker =
        files.iter().find(|path| named(path) == "worker.config").map(|path| check::worker(read(path)).expect("a worker"));
    let here = files.iter().find(|path| named(path) == "occasion.json").map(|path| Here::read(path));
    let render = here.as_ref().map(|here| here as &dyn Render);
    let others = files.iter().filter(|path| !["expected", "worker.config", "occasion.json"].contains(&named(path).as_str()));
    check::check(others.map(read).collect(), &Options { worker: worker.as_ref(), render, ..options() })
}

fn broken(reports: &[FileReport]) -> BTreeSet<&'static str> {
    reports.iter().flat_map(|report| &report.diagnostics).map(|diagnostic| diagnostic.rule.id).collect()
}

/// One file for each rule that no fixture can have, or two.
fn made(rule: &str) -> Vec<Input> {
    match rule {
        "file/unreadable" => inputs(&[PathBuf::from("/nonexistent/task.yml")]),
        "file/too-large" => {
            vec![input("t.yml", "a".repeat(11 << 20)), Input { name: "x".to_owned(), bytes: Err(Unread::TooLarge) }]
        }
        "file/more" => {
            let list: Vec<String> = (0..10).map(|n| format!("{{\"artifact{n}\": 1}}")).collect();
            let nodes: Vec<String> = (0..200)
                .map(|n| format!("\"t{n}\": {{\"task\": {{\"payload\": {{\"artifacts\": [{}]}}}}}}", list.join(", ")))
                .collect();
            vec![input("graph.json", format!("{{{}}}", nodes.join(",\n")))]
        }
        "dependency/too-many" => {
            let edges: Vec<String> = (0..10_001).map(|n| format!("\"d{n}\": \"fN1SbArXTPSVFNUvaOlinQ\"")).collect();
            vec![input(
                "graph.json",
                format!("{{\"a\": {{\"task\": {{\"payload\": {{}}}}, \"dependencies\": {{{}}}}}}}", edges.join(",")),
            )]
        }
        other => panic!("nobody makes files for {other}"),
    }
}

#[test]
fn every_rule_has_files_that_break_it() {
    let mut covered = BTreeSet::new();
    for folder in fixtures() {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name").replace('.', "/");
        let reports = check_fixture(&folder);
        if name == "clean" {
            assert_eq!(text::reports(&reports, false), format!("no problems in {} files\n", reports.len()));
            continue;
        }
        assert!(rule::named(&name).is_some(), "{name} is no rule");
        assert!(broken(&reports).contains(name.as_str()), "{name} is not broken: {:?}", broken(&reports));
        covered.insert(name);
    }
    for name in MADE {
        let reports = check::check(made(name), &options());
        assert!(broken(&reports).contains(name), "{name} is not broken: {:?}", broken(&reports));
        covered.insert(name.to_owned());
    }
    let missing: Vec<&str> = rule::RULES.iter().map(|rule| rule.id).filter(|id| !covered.contains(*id)).collect();
    assert_eq!(missing, [""; 0], "nothing breaks these rules");
}

#[test]
fn what_is_said_is_what_is_expected() {
    for folder in fixtures() {
        let reports = check_fixture(&folder);
        let said = format!("{}\n{}", text::reports(&reports, false), json::reports(&reports));
        let expected = folder.join("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &said).expect("written");
        }
        assert_eq!(said, fs::read_to_string(&expected).unwrap_or_default(), "{}", folder.display());
    }
}

#[test]
fn the_examples_of_this_repository_are_clean() {
    let reports = check::check(inputs(&[repository().join("examples")]), &options());
    assert_eq!(text::reports(&reports, false), format!("no problems in {} files\n", reports.len()));
    assert!(reports.len() > 5);
    let valid = inputs(&[repository().join("payload-schemas/examples/valid")]).into_iter();
    for file in valid {
        let name = file.name.clone();
        let reports = check::check(vec![file], &options());
        assert!(!broken(&reports).contains("payload/schema"), "{name}");
    }
    let invalid = inputs(&[repository().join("payload-schemas/examples/invalid")]);
    for file in invalid {
        let name = file.name.clone();
        assert_eq!(exit_code(&check::check(vec![file], &options()), false), PROBLEMS, "{name}");
    }
}

#[test]
fn exit_codes_follow_the_worst() {
    let code = |files: Vec<Input>, strict| exit_code(&check::check(files, &options()), strict);
    let fine = || input("a.yml", "command: [[a]]\nmaxRunTime: 1\n");
    let warned = || input("b.yml", "label: a/b\npayload: {command: [[a]], maxRunTime: 1}\n");
    let wrong = || input("c.yml", "command: 5\n");
    let missing = || Input { name: "d".to_owned(), bytes: Err(Unread::Failed("gone".to_owned())) };
    assert_eq!((code(vec![fine()], true), code(vec![fine(), warned()], false)), (0, 0));
    assert_eq!((code(vec![warned()], true), code(vec![wrong(), fine()], false)), (PROBLEMS, PROBLEMS));
    assert_eq!(code(vec![wrong(), missing(), fine()], false), USAGE);
}

#[test]
fn what_is_not_shown_is_counted() {
    let reports = check::check(made("file/more"), &options());
    let report = &reports[0];
    assert_eq!(report.diagnostics.len(), check::MOST_SHOWN + 1);
    let last = report.diagnostics.last().expect("one");
    assert!(last.problem.message.starts_with(&format!("and {} more", report.errors + report.warnings - check::MOST_SHOWN)));
    assert_eq!(last.severity, Severity::Error);
    let shown = report.diagnostics.iter().take(check::MOST_SHOWN);
    assert!(shown.map(|diagnostic| diagnostic.problem.place).is_sorted());
}

#[test]
fn colours_and_control_characters() {
    let reports = check::check(
        vec![input("t.json", r#"{"payload": {"command": [["a"]], "maxRunTime": 1, "\u001b[2J": 1}}"#)],
        &options(),
    );
    let plain = text::reports(&reports, false);
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let coloured = text::reports(&reports, true);
    assert!(coloured.starts_with("\u{1b}[31merror[payload/schema]\u{1b}[0m: t.json:1:"), "{coloured:?}");
}

#[test]
fn the_rules_are_documented() {
    let rows: String = rule::RULES
        .iter()
        .fold(String::new(), |rows, rule| format!("{rows}| `{}` | {} | {} |\n", rule.id, rule.severity, rule.says));
    let path = repository().join("docs/rules.md");
    let present = fs::read_to_string(&path).expect("read");
    let (before, _) = present.split_once("|---|---|---|\n").expect("a table at its end");
    let wanted = format!("{before}|---|---|---|\n{rows}");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &wanted).expect("written");
    }
    assert_eq!(fs::read_to_string(&path).expect("read"), wanted);
}

#[test]
fn the_table_of_rules_is_printed() {
    let table = text::rules(rule::RULES);
    assert_eq!(table.lines().count(), rule::RULES.len());
    assert!(table.contains("payload/schema ") && table.contains(" warning  "));
}
