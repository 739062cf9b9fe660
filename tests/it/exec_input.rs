//! `exec` with input that is odd and all right, and with input that a queue would refuse.

use std::{
    fs::OpenOptions,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::BINARY;

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("exec").args(arguments).current_dir(dir).stdin(Stdio::null());
    command
}

fn exec(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    told(&command(dir, arguments).output().expect("it starts"))
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn write(dir: &Path, name: &str, content: &str) {
    std::fs::write(dir.join(name), content).expect("written");
}

const TASK: &str = r#""payload": {"command": [["echo", "ran"]], "maxRunTime": 60}"#;

#[test]
fn a_graph_of_a_month_ago_is_run_now() {
    let dir = tempfile::tempdir().expect("a directory");
    let artifact = r#"{"type": "file", "path": "o", "name": "public/o", "expires": "2020-02-01T00:00:00.000Z"}"#;
    let payload = format!(
        r#"{{"command": [["/bin/sh", "-c", "echo x > o"]], "maxRunTime": 60, "artifacts": [{artifact}, {}]}}"#,
        artifact.replace("public/o", "public/p")
    );
    let dates = r#""created": "2020-01-01T00:00:00.000Z", "deadline": "2020-01-02T00:00:00.000Z", "expires": "2020-02-01T00:00:00.000Z""#;
    write(
        dir.path(),
        "g.json",
        &format!(r#"{{"a": {{"label": "a", "dependencies": {{}}, "task": {{{dates}, "payload": {payload}}}}}}}"#),
    );
    let (code, _, stderr) = exec(dir.path(), &["g.json"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stderr.matches("2 artifacts").count(), 1, "{stderr}");
    assert!(dir.path().join("artifacts/a/public/o").exists() && dir.path().join("artifacts/a/public/p").exists());
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(5);
    write(
        dir.path(),
        "soon.json",
        &format!("{{\"payload\": {}}}", payload.replace("2020-02-01T00:00:00.000Z", &format!("{soon:.3}"))),
    );
    let (code, _, stderr) = exec(dir.path(), &["soon.json"]);
    assert_eq!((code, stderr.contains("warning")), (Some(0), false), "{stderr}");
}

#[test]
fn tasks_that_the_queue_resolves_itself_end_at_once_and_hold_up_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let built_in = |what: &str, on: &str| {
        format!(r#"{{"dependencies": {on}, "task": {{"provisionerId": "built-in", "workerType": "{what}", "payload": {{}}}}}}"#)
    };
    let native = |on: &str| format!(r#"{{"dependencies": {on}, "task": {{{TASK}}}}}"#);
    let graph = format!(
        r#"{{"first": {}, "gate": {}, "gate2": {}, "last": {}, "bad": {}, "lost": {}}}"#,
        native("{}"),
        built_in("succeed", r#"{"a": "first"}"#),
        built_in("succeed", r#"{"a": "gate"}"#),
        native(r#"{"a": "gate2"}"#),
        built_in("fail", r#"{"a": "last"}"#),
        native(r#"{"a": "bad"}"#),
    );
    write(dir.path(), "g.json", &graph);
    let begun = Instant::now();
    let (code, stdout, stderr) = exec(dir.path(), &["--output", "json", "g.json"]);
    assert_eq!(code, Some(1), "{stdout}\n{stderr}");
    assert!(begun.elapsed() < Duration::from_secs(9), "somebody waited for a question that is seldom asked");
    let events: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |event: &str, label: &str| {
        let found = events.iter().position(|line| line["event"] == event && line["label"] == label);
        found.unwrap_or_else(|| panic!("{event} of {label} in {stdout}"))
    };
    let ended = |label: &str| &events[of("ended", label)];
    for (label, outcome, runs) in [
        ("first", "completed", 1),
        ("gate", "completed", 1),
        ("gate2", "completed", 1),
        ("bad", "failed", 1),
        ("lost", "not-run", 0),
    ] {
        assert_eq!((&ended(label)["outcome"], &ended(label)["runs"]), (&Value::from(outcome), &Value::from(runs)), "{stdout}");
    }
    assert!(of("created", "gate") < of("ended", "gate"), "{stdout}");
    write(dir.path(), "alone.json", &format!("{{\"x\": {}}}", built_in("succeed", "{}")));
    let begun = Instant::now();
    let (code, stdout, stderr) = exec(dir.path(), &["alone.json"]);
    assert_eq!((code, stdout.as_str(), stderr.contains("completed  x")), (Some(0), "", true), "{stderr}");
    assert!(begun.elapsed() < Duration::from_secs(9), "{stderr}");
    write(dir.path(), "full.json", "{\"taskQueueId\": \"built-in/succeed\",\n\"payload\": {\"maxRunTime\": 5}}");
    let (code, _, stderr) = exec(dir.path(), &["full.json"]);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("full.json:2:12: payload: must be an empty object"), "{stderr}");
}

#[test]
fn without_an_engine_for_containers_everything_else_is_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let container = r#""payload": {"image": "busybox", "command": ["true"], "maxRunTime": 60}"#;
    let graph = format!(
        r#"{{"box": {{"task": {{{container}}}}}, "box2": {{"task": {{{container}}}}}, "free": {{"task": {{{TASK}}}}},
            "after": {{"task": {{{TASK}, "requires": "all-resolved"}}, "dependencies": {{"b": "box"}}}}}}"#
    );
    write(dir.path(), "g.json", &graph);
    let run = |arguments: &[&str]| {
        let output = command(dir.path(), arguments).env("DOCKER_HOST", "unix:///nonexistent/docker.sock").output();
        told(&output.expect("it starts"))
    };
    let (code, stdout, stderr) = run(&["g.json"]);
    assert_eq!(code, Some(3), "{stdout}\n{stderr}");
    assert!(stdout.contains("free | ran"), "{stdout}");
    for row in
        ["completed  free", "not run    box ", "not run    box2", "not run    after  (it waits for box, which was not run)"]
    {
        assert!(stderr.contains(row), "{row:?} in {stderr}");
    }
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
    assert_eq!(stderr.matches("DOCKER_HOST").count(), 1, "{stderr}");
    let (code, stdout, stderr) = run(&["--only", "^box", "g.json"]);
    assert_eq!((code, stdout.as_str()), (Some(3), ""), "{stderr}");
    assert!(stderr.contains("error: run container tasks"), "{stderr}");
}

#[test]
fn a_graph_without_tasks_is_nothing_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "none.json", "{}\n");
    let (code, stdout, stderr) = exec(dir.path(), &["none.json"]);
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(stderr.starts_with("note: none.json: ") && stderr.lines().count() == 1, "{stderr}");
    let (code, stdout, _) = exec(dir.path(), &["--output", "json", "none.json"]);
    let event: Value = serde_json::from_str(&stdout).expect("one event");
    assert_eq!((code, &event["event"], &event["tasks"]), (Some(0), &Value::from("finished"), &Value::from(0)));
    write(dir.path(), "one.json", &format!("{{{TASK}}}"));
    let (code, stdout, stderr) = exec(dir.path(), &["none.json", "one.json"]);
    assert_eq!((code, stdout.contains("\nran\n")), (Some(0), true), "{stderr}");
}

#[test]
fn dependencies_in_a_definition_may_be_references() {
    let dir = tempfile::tempdir().expect("a directory");
    let entries = |name: &str| format!(r#""dependencies": [{{"task-reference": "<{name}>"}}]"#);
    let graph = |name: &str| {
        format!(
            "{{\"x\": {{\"task\": {{{TASK}}}}},\n\"z\": {{\"dependencies\": {{\"e\": \"x\"}}, \"task\": {{{TASK},\n{}}}}}}}",
            entries(name)
        )
    };
    write(dir.path(), "g.json", &graph("e"));
    let (code, stdout, stderr) = exec(dir.path(), &["--list", "g.json"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.lines().any(|line| line.starts_with("z ") && line.ends_with("  x")), "{stdout}");
    assert_eq!(exec(dir.path(), &["g.json"]).0, Some(0));
    write(dir.path(), "bad.json", &graph("nothing"));
    let (code, _, stderr) = exec(dir.path(), &["bad.json"]);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("bad.json:3:18: ") && stderr.matches("error: bad.json:").count() == 2, "{stderr}");
}

#[test]
fn what_the_queue_refuses_is_told_with_its_place_before_anything_is_run() {
    let dir = tempfile::tempdir().expect("a directory");
    for (number, field) in [
        r#""priority": {"a": 1}"#,
        r#""dependencies": "x""#,
        r#""taskQueueId": "a""#,
        r#""requires": "x""#,
        r#""extra": 5"#,
        r#""prority": "low""#,
        r#""metadata": {"name": 5}"#,
    ]
    .iter()
    .enumerate()
    {
        let name = format!("q{number}.json");
        write(
            dir.path(),
            &name,
            &format!("{{\"x\": {{\"task\": {{{TASK},\n{field}}}}},\n\"free\": {{\"task\": {{{TASK}}}}}}}"),
        );
        let (code, stdout, stderr) = exec(dir.path(), &[&name]);
        assert_eq!(code, Some(3), "{field}: {stderr}");
        assert!(stderr.contains(&format!("error: {name}:2:")) && !stderr.contains("400"), "{field}: {stderr}");
        assert!(stderr.contains("invalid    x  (1 problem in it)"), "{field}: {stderr}");
        assert!(stdout.contains("ran"), "{field}: what is not wrong is run: {stdout}");
    }
}

#[test]
fn two_tasks_of_a_graph_with_one_label_are_an_error_as_for_check() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = format!(r#"{{"label": "same", "task": {{{TASK}}}}}"#);
    write(dir.path(), "g.json", &format!("{{\"a\": {node},\n\"b\": {node}}}"));
    let (code, _, stderr) = exec(dir.path(), &["g.json"]);
    assert_eq!(code, Some(3), "{stderr}");
    let problem = r#"g.json:2:16: label: "same" is the label of "a", too"#;
    assert!(stderr.contains(problem), "{stderr}");
    let output = Command::new(BINARY).args(["check", "g.json"]).current_dir(dir.path()).output().expect("it starts");
    assert!(String::from_utf8_lossy(&output.stdout).contains(problem), "{output:?}");
}

#[test]
fn standard_input_is_named_once() {
    let dir = tempfile::tempdir().expect("a directory");
    for arguments in [&["-", "-"][..], &["-", "--tasks-for", "github-push", "--event", "-"]] {
        let (code, _, stderr) = exec(dir.path(), arguments);
        assert_eq!((code, stderr.contains("standard input is named twice")), (Some(2), true), "{stderr}");
    }
}

#[test]
fn a_full_standard_output_is_told_with_one_exit_code() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "one.json", &format!("{{{TASK}}}"));
    for arguments in [&["one.json"][..], &["--list", "one.json"], &["--output", "json", "one.json"]] {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("there");
        let (code, _, stderr) = told(&command(dir.path(), arguments).stdout(full).output().expect("it starts"));
        assert_eq!(code, Some(69), "{arguments:?}: {stderr}");
        assert!(stderr.contains("standard output"), "{stderr}");
    }
    let help = exec(dir.path(), &["--help"]).1;
    assert!(help.contains("\n  69 "), "{help}");
}

#[test]
fn a_line_that_is_too_long_becomes_several_of_its_task() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = "head -c 200000 /dev/zero | tr '\\\\0' x; echo; echo end";
    write(dir.path(), "long.json", &format!(r#"{{"command": [["/bin/sh", "-c", "{script}"]], "maxRunTime": 60}}"#));
    write(dir.path(), "one.json", &format!("{{{TASK}}}"));
    let (code, stdout, stderr) = exec(dir.path(), &["long.json", "one.json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let lengths: Vec<usize> = stdout.lines().filter_map(|line| Some(line.strip_prefix("long | xxx")?.len() + 3)).collect();
    assert_eq!(lengths, [65_536, 65_536, 65_536, 200_000 - 3 * 65_536]);
    let (_, stdout, _) = exec(dir.path(), &["--output", "json", "long.json"]);
    let events = stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let lines = events.filter(|event| event["line"].as_str().is_some_and(|line| line.starts_with("xxx")));
    let lengths: Vec<(usize, bool)> =
        lines.map(|event| (event["line"].as_str().unwrap_or_default().len(), event["cut"] == true)).collect();
    assert_eq!(lengths, [(65_536, true), (65_536, true), (65_536, true), (200_000 - 3 * 65_536, false)]);
}
