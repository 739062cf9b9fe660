//! Input that nobody means, and files that are read in different ways and say the same.

mod mended;

use proptest::prelude::*;
use serde_json::{Value, json};
use tc_payload::Place;

use super::*;

fn options() -> Options<'static> {
    Options { now: "2026-01-01T00:00:00Z".parse().expect("a date"), kind: None, worker: None, threads: 3, render: None }
}

fn input(name: &str, bytes: impl Into<Vec<u8>>) -> Input {
    Input { name: name.to_owned(), bytes: Ok(bytes.into()) }
}

fn one(bytes: impl Into<Vec<u8>>) -> FileReport {
    check(vec![input("f", bytes)], &options()).pop().expect("a report")
}

fn ids(report: &FileReport) -> Vec<&'static str> {
    report.diagnostics.iter().map(|diagnostic| diagnostic.rule.id).collect()
}

fn place(report: &FileReport, number: usize) -> Place {
    report.diagnostics[number].problem.place.expect("a place")
}

#[test]
fn deep_nesting_is_no_danger() {
    for (open, close) in [("[", "]"), ("{\"a\": ", "}")] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        for text in [deep.clone(), format!("command: {deep}\n"), format!("{{\"a\": {{\"task\": {deep}}}}}")] {
            assert_eq!(ids(&one(text)), ["file/depth"]);
        }
    }
    let steps: Vec<String> = (0..10_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert_eq!(one(steps.concat()).errors, 1);
}

#[test]
fn bytes_that_are_no_text_have_a_place() {
    let report = one(b"command: [[a]]\nenv: {A: \"\xff\"}\n".as_slice());
    assert_eq!((ids(&report), place(&report, 0)), (vec!["file/encoding"], Place { line: 2, column: 11 }));
    assert!(one(b"command: [[\"a\0b\"]]\nmaxRunTime: 1\n".as_slice()).errors > 0);
    assert!(one(b"{\"command\": [[\"a\0b\"]]}".as_slice()).errors > 0);
    assert_eq!(one([0xff, 0xfe, 0, 0]).errors, 1);
    assert_eq!(ids(&one("")), ["file/empty"]);
    assert_eq!(ids(&one(b"\xef\xbb\xbf".as_slice())), ["file/empty"]);
}

#[test]
fn a_mark_in_front_and_line_ends_of_other_systems_move_no_place() {
    let text = "payload:\r\n  command: [[a]]\r\n  maxRunTime: x\r\n";
    for text in [text.to_owned(), format!("\u{feff}{text}"), text.replace('\r', "")] {
        let report = one(text);
        assert_eq!((ids(&report), place(&report, 0)), (vec!["payload/schema"], Place { line: 3, column: 15 }));
        let excerpt = report.diagnostics[0].excerpt.as_ref().expect("a line");
        assert_eq!((excerpt.text.as_str(), excerpt.caret), ("  maxRunTime: x", 14));
    }
}

#[test]
fn each_document_of_a_file_is_checked_on_its_own_lines() {
    let fine = "dependencies: [f-3]\npayload: {command: [[a]], maxRunTime: 1}\n";
    let text =
        format!("{fine}---\n# the second\npayload:\n\tcommand: [[a]]\n---\npayload: {{command: [[a]], maxRunTime: x}}\n");
    let report = one(text);
    assert_eq!((ids(&report), report.tasks, report.errors), (vec!["file/tab", "payload/schema"], 2, 2));
    assert_eq!((place(&report, 0).line, place(&report, 1)), (6, Place { line: 8, column: 39 }));
    let excerpts: Vec<&str> =
        report.diagnostics.iter().filter_map(|diagnostic| Some(diagnostic.excerpt.as_ref()?.text.as_str())).collect();
    assert_eq!(excerpts, [" command: [[a]]", "payload: {command: [[a]], maxRunTime: x}"]);
    let many = one("---\na: 1\n".repeat(1_001));
    assert_eq!((ids(&many), many.unread), (vec!["file/too-large"], true));
    // Each of them has one problem or more.
    let full = one("---\ncommand: [[a]]\n".repeat(1_000));
    assert_eq!((full.diagnostics.len(), full.errors), (MOST_SHOWN + 1, 1_000));
    assert_eq!(ids(&full).last(), Some(&"file/more"));
}

#[test]
fn files_that_say_nothing_are_empty() {
    for text in ["", " \n", "# only\n", "---\n", "null"] {
        assert_eq!(ids(&one(text)), ["file/empty"], "{text:?}");
    }
}

#[test]
fn every_problem_comes_with_a_hint() {
    for text in [
        "",
        "a: [",
        "command: [[]]\nmaxRunTime: 0\n",
        "payload: 5\nscopes: 5\n",
        "tasks: 5\n",
        "{\"capacity\": 0, \"tasksDir\": 5}",
    ] {
        let report = one(text);
        assert!(report.errors > 0, "{text:?}");
        for diagnostic in &report.diagnostics {
            assert!(diagnostic.problem.hint.is_some(), "{diagnostic:?}");
        }
    }
}

#[test]
fn what_a_worker_would_stumble_over_later_is_told() {
    let long = "x".repeat(200_000);
    for (text, rule, column) in [
        (format!("command: [[a, {long}]]\nmaxRunTime: 1\n"), "payload/limit", 15),
        ("command: [[a, \"b\\0\"]]\nmaxRunTime: 1\n".to_owned(), "payload/limit", 15),
        ("maxRunTime: 4294967296\ncommand: [[a]]\n".to_owned(), "worker/max-run-time", 13),
        ("logs: {live: a, backing: a}\ncommand: [[a]]\nmaxRunTime: 1\n".to_owned(), "artifact/duplicate", 26),
        ("log: ../a\nimage: a\nmaxRunTime: 1\n".to_owned(), "artifact/plain-name", 6),
        ("logs: {live: ../a}\ncommand: [[a]]\nmaxRunTime: 1\n".to_owned(), "artifact/plain-name", 14),
    ] {
        let report = one(text);
        assert_eq!((ids(&report), place(&report, 0)), (vec![rule], Place { line: 1, column }));
    }
}

#[test]
fn fields_that_are_meant_are_those_of_the_same_object() {
    let hint =
        |text: &str| one(format!("{text}\npayload: {{command: [[a]], maxRunTime: 1}}\n")).diagnostics[0].problem.hint.clone();
    assert_eq!(hint("scpoes: []").as_deref(), Some("did you mean `scopes`?"));
    assert_eq!(hint("metadata: {ower: x}").as_deref(), Some("did you mean `owner`?"));
    assert!(hint("metadata: {data: x}").is_some_and(|hint| !hint.contains("metadata")));
}

#[test]
fn aliases_do_not_multiply_without_measure() {
    let levels: Vec<String> =
        (1..12).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "))).collect();
    assert_eq!(ids(&one(format!("a0: &a0 [x, x]\n{}", levels.concat()))), ["file/depth"]);
}

fn graph(count: usize, wrong: impl Fn(usize) -> bool) -> Value {
    let node = |number: usize| {
        let max = if wrong(number) { json!("x") } else { json!(60) };
        let deps = if number > 0 { json!({ "d": format!("t{}", number - 1) }) } else { json!({}) };
        json!({ "label": format!("t{number}"), "dependencies": deps,
            "task": { "scopes": [], "provisionerId": "p", "workerType": "w", "created": "2026-01-01T00:00:00Z",
                "deadline": "2026-01-02T00:00:00Z", "metadata": { "name": "n", "description": "", "owner": "o", "source": "https://s/" },
                "payload": { "command": [["a", { "task-reference": "<self>" }]], "maxRunTime": max } } })
    };
    (0..count).map(|number| (format!("t{number}"), node(number))).collect::<serde_json::Map<_, _>>().into()
}

/// Whether it is read in pieces on several threads, as one document, or in one line: what is wrong is the same, and where.
#[test]
fn a_graph_says_the_same_however_it_is_read() {
    let graph = graph(300, |number| number % 50 == 7);
    let pretty = serde_json::to_string_pretty(&graph).expect("JSON");
    let report = one(pretty.clone());
    assert_eq!((report.kind, report.tasks, report.errors, report.warnings), (Some(Kind::Graph), 300, 6, 0));
    for diagnostic in &report.diagnostics {
        let at = diagnostic.problem.place.expect("a place");
        let line = pretty.lines().nth(usize::try_from(at.line).expect("small") - 1).expect("a line");
        assert_eq!(line.trim(), "\"maxRunTime\": \"x\"");
        assert_eq!(line.chars().nth(usize::try_from(at.column).expect("small") - 1), Some('"'));
        assert!(diagnostic.task.as_deref().is_some_and(|task| task.ends_with('7')), "{diagnostic:?}");
    }
    // The same text is YAML, if it does not begin like JSON.
    let yaml = one(format!("# a graph\n{pretty}"));
    let places = |report: &FileReport, down: u32| -> Vec<Place> {
        let places = report.diagnostics.iter().filter_map(|diagnostic| diagnostic.problem.place);
        places.map(|place| Place { line: place.line + down, ..place }).collect()
    };
    assert_eq!((yaml.kind, places(&yaml, 0)), (report.kind, places(&report, 1)));
    let line = one(graph.to_string());
    assert_eq!(line.errors, report.errors);
    for diagnostic in &line.diagnostics {
        let excerpt = diagnostic.excerpt.as_ref().expect("a line");
        assert!(excerpt.text.chars().skip(excerpt.caret).collect::<String>().starts_with("\"x\""), "{excerpt:?}");
    }
}

#[test]
fn long_chains_and_large_circles_are_no_danger() {
    let mut chain = graph(10_000, |_| false);
    assert_eq!(one(chain.to_string()).errors, 0);
    chain["t0"]["dependencies"]["d"] = json!("t9999");
    let report = one(chain.to_string());
    assert_eq!(ids(&report), ["dependency/cycle"]);
    let said = &report.diagnostics[0].problem.message;
    assert!(said.contains("t0 → t9999 → ") && said.contains("more) → ") && said.ends_with(" → t0"), "{said}");
    for number in 0..10_000 {
        chain[format!("t{number}")]["dependencies"]["e"] = json!(format!("nothing{number}"));
    }
    assert_eq!(one(chain.to_string()).errors, 10_001);
}

#[test]
fn secrets_of_configurations_are_never_shown() {
    let text = "rootURL: 5\nclientId: hush1\naccessToken: [hush2]\ncertificate: {a: hush3}\nworkerId: w\nnonsense: hush4\n";
    let report = one(text);
    assert_eq!(report.kind, Some(Kind::Config));
    assert!(report.errors >= 3 && report.diagnostics.iter().all(|diagnostic| diagnostic.excerpt.is_none()));
    assert!(!format!("{report:?}").contains("hush"), "{report:?}");
    // Even if it cannot be read to its end.
    let report =
        check(vec![input("f", "rootURL: x\naccessToken: hush\n  x: [")], &Options { kind: Some(Kind::Config), ..options() });
    assert!(!format!("{report:?}").contains("hush"), "{report:?}");
    let twice = one(
        "rootURL: https://x/\nrootURL: https://y/\nclientId: c\naccessToken: a\nworkerId: w\nworkerType: t\ned25519SigningKeyLocation: /k\n",
    );
    assert_eq!((twice.kind, twice.errors), (Some(Kind::Config), 0), "as the worker reads it");
}

#[test]
fn the_kind_can_be_told() {
    let of =
        |text: &str, kind| check(vec![input("f", text)], &Options { kind: Some(kind), ..options() }).pop().expect("a report");
    assert_eq!(ids(&of("{\"a\": 1}", Kind::Graph)), ["graph/node"]);
    assert_eq!(of("{}", Kind::Graph).errors, 0, "a graph without tasks");
    assert_eq!(ids(&of("[]", Kind::Graph)), ["graph/node"]);
    assert_eq!(ids(&of("{}", Kind::Template)), ["template/tasks", "template/version"]);
    assert!(of("{}", Kind::Config).errors > 3);
    assert_eq!(ids(&of("{\"a\": {\"task\": {}}}", Kind::Task)).first(), Some(&"payload/schema"));
}

#[test]
fn an_empty_object_is_a_graph_without_tasks() {
    for text in ["{}", "# nothing matched\n{}\n", " {\n}\n"] {
        let report = one(text);
        assert_eq!((report.kind, report.tasks, ids(&report)), (Some(Kind::Graph), 0, vec![]), "{text:?}");
    }
}

#[test]
fn tasks_of_several_files_know_each_other() {
    let files = vec![
        input("d/image.yml", "taskId: JFz48f_-RcOf7dDbbHVVlA\npayload: {image: a, maxRunTime: 1}\n"),
        input(
            "use.yml",
            "dependencies: [image]\npayload:\n  image: {type: task-image, taskId: JFz48f_-RcOf7dDbbHVVlA, path: public/x}\n  maxRunTime: 1\n",
        ),
    ];
    let reports = check(files, &options());
    assert_eq!((ids(&reports[0]), ids(&reports[1])), (vec![], vec![]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever stands in a file, and whatever it is taken for, there is an answer, and its places are in the file.
    #[test]
    fn no_text_brings_it_down(text in "[\\[\\]{}\":, \\\\a$<>\n\tä&*0-]{0,60}", kind in 0..5_usize) {
        let kind = [None, Some(Kind::Task), Some(Kind::Graph), Some(Kind::Template), Some(Kind::Config)][kind];
        let lines = text.split('\n').count();
        for report in check(vec![input("f", text)], &Options { kind, ..options() }) {
            for diagnostic in report.diagnostics {
                if let Some(place) = diagnostic.problem.place {
                    prop_assert!(usize::try_from(place.line).expect("small") <= lines + 1);
                }
            }
        }
    }

    /// A graph with any values in the places of good ones.
    #[test]
    fn no_value_brings_it_down(
        at in prop::sample::select(vec!["/t1/task", "/t1/dependencies", "/t1/label", "/t1/task/payload", "/t1/task/created",
            "/t1/task/payload/command", "/t1/task/metadata", "/t1/task/scopes", "/t1/dependencies/d", "/t1"]),
        with in prop::sample::select(vec![json!(null), json!(-1), json!("\u{0}"), json!([]), json!([[]]), json!({ "": { "": [] } }),
            json!("-009999-01-02T01:59:59Z"), json!({ "relative-datestamp": "9000 years" }), json!({ "task-reference": "<" })]),
    ) {
        let mut graph = graph(3, |_| false);
        *graph.pointer_mut(at).expect("it is there") = with;
        let report = one(graph.to_string());
        prop_assert_eq!(report.tasks, 3);
    }
}
