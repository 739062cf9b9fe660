//! What `exec` shows: a live table, JSON lines, a trace; and graphs of every form and size.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use nix::pty::{OpenptyResult, Winsize, openpty};
use serde_json::{Value, json};

use crate::support::BINARY;

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("exec").args(arguments).current_dir(dir).env_remove("NO_COLOR").env("TERM", "xterm");
    command
}

fn write(dir: &Path, name: &str, content: &str) {
    std::fs::write(dir.join(name), content).expect("written");
}

fn task(dir: &Path, label: &str, more: &str, script: &str) {
    let payload = json!({ "command": [["/bin/sh", "-c", script]], "maxRunTime": 60,
        "artifacts": [{ "type": "file", "path": "out", "name": "public/out" }] });
    write(dir, &format!("{label}.yml"), &format!("{more}\npayload: {payload}\n"));
}

fn events(text: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(text).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn of<'a>(events: &'a [Value], event: &str, label: &str) -> Vec<&'a Value> {
    events.iter().filter(|e| e["event"] == event && e["label"] == label).collect()
}

#[test]
fn json_lines_tell_everything_in_its_order() {
    let dir = tempfile::tempdir().expect("a directory");
    task(dir.path(), "build", "", "printf 'one\\n\\033[31mtwo\\nthree'; echo x > out");
    task(dir.path(), "fails", "dependencies: [build]", "echo x > out; exit 3");
    task(dir.path(), "after", "dependencies: [fails]", "true");
    write(dir.path(), "wrong.yml", "command: 5\n");
    let files = ["build.yml", "fails.yml", "after.yml", "wrong.yml"];
    let output =
        command(dir.path(), &[&["--output", "json", "--trace", "trace.json"], &files[..]].concat()).output().expect("run");
    assert_eq!(output.status.code(), Some(3));
    let events = events(&output.stdout);
    let build: Vec<&Value> = events.iter().filter(|event| event["label"] == "build").collect();
    let kinds: Vec<&str> =
        build.iter().filter(|e| e["event"] != "line").map(|e| e["event"].as_str().expect("a word")).collect();
    assert_eq!(kinds, ["created", "started", "artifact", "artifact", "ended"]);
    let lines: Vec<&str> = of(&events, "line", "build").iter().map(|e| e["line"].as_str().expect("a line")).collect();
    let at = lines.iter().position(|line| *line == "one").expect("a line of the task");
    assert_eq!(lines[at..at + 2], ["one", "\u{1b}[31mtwo"]);
    let ended = |label: &str| events.iter().position(|e| e["event"] == "ended" && e["label"] == label).expect("an end");
    assert!(ended("fails") < ended("after"), "whoever reads of what was not run has read why");
    let artifact = build.iter().find(|e| e["name"] == "public/out").expect("the artifact");
    assert_eq!(std::fs::read(dir.path().join(artifact["path"].as_str().expect("a path"))).expect("there"), b"x\n");
    assert_eq!(artifact["bytes"], 2);
    let ended = |label: &str| of(&events, "ended", label)[0];
    assert_eq!((&ended("build")["outcome"], &ended("fails")["outcome"]), (&json!("completed"), &json!("failed")));
    assert_eq!(ended("after")["outcome"], "not-run");
    assert_eq!(of(&events, "created", "fails")[0]["dependencies"], json!([build[0]["taskId"]]));
    let last = events.last().expect("an end");
    assert_eq!((&last["event"], &last["exitCode"], &last["tasks"]), (&json!("finished"), &json!(3), &json!(4)));
    assert_eq!(last["counts"], json!({ "completed": 1, "failed": 1, "not-run": 1, "invalid": 1 }));
    let trace: Vec<Value> =
        serde_json::from_slice(&std::fs::read(dir.path().join("trace.json")).expect("there")).expect("JSON");
    let runs: Vec<String> = trace.iter().filter(|e| e["cat"] == "run").map(|e| format!("{} {}", e["ph"], e["name"])).collect();
    // The next run may begin in another slot before the worker is done with the one before.
    for (first, then) in [("\"B\" \"build\"", "\"E\" \"build\""), ("\"B\" \"fails\"", "\"E\" \"fails\"")] {
        let at = |what: &str| runs.iter().position(|run| run == what);
        assert!(at(first).is_some() && at(first) < at(then), "{runs:?}");
    }
    assert_eq!(runs.len(), 4);
    let phases: Vec<&str> = trace.iter().filter(|e| e["cat"] == "phase").map(|e| e["name"].as_str().expect("a name")).collect();
    let all = ["admit", "ground", "furnish", "create", "run", "quiet", "collect", "return", "destroy", "seal", "resolve"];
    assert_eq!(phases, [all, all].concat(), "both runs went through everything");
    let spans = trace.iter().filter(|e| e["cat"] == "phase").filter_map(|e| Some((e["ts"].as_u64()?, e["dur"].as_u64()?)));
    for ((begin, span), (next, _)) in spans.clone().zip(spans.skip(1)).take(all.len() - 1) {
        assert_eq!(begin + span, next, "each begins where the one before ends");
    }
}

#[test]
fn only_invalid_tasks_are_told_as_json_too() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "wrong.yml", "command: 5\n");
    let output = command(dir.path(), &["--output", "json", "wrong.yml"]).output().expect("run");
    assert_eq!(output.status.code(), Some(3));
    let kinds: Vec<Value> = events(&output.stdout).iter().map(|event| event["event"].clone()).collect();
    assert_eq!(kinds, ["ended", "finished"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_ctrl_c_json_and_trace_are_whole() {
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path().to_owned();
    task(&dir, "a", "", "echo begun; sleep 300");
    task(&dir, "b", "dependencies: [a]", "true");
    let mut worker =
        crate::support::Worker::start(home, &["exec", "--output", "json", "--trace", "trace.json", "a.yml", "b.yml"], &[]);
    crate::support::until("the task runs", async || {
        std::fs::read_to_string(dir.join("stdout")).is_ok_and(|text| text.contains("\"begun\""))
    })
    .await;
    worker.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(worker.code().await, Some(130), "{}", worker.stderr());
    let events = events(&std::fs::read(dir.join("stdout")).expect("there"));
    let last = events.last().expect("an end");
    assert_eq!((&last["event"], &last["exitCode"]), (&json!("finished"), &json!(130)));
    assert_eq!(of(&events, "ended", "b")[0]["outcome"], "stopped");
    let trace: Vec<Value> = serde_json::from_slice(&std::fs::read(dir.join("trace.json")).expect("there")).expect("JSON");
    assert_eq!(trace.iter().filter(|event| event["cat"] == "run").count(), 2, "{trace:?}");
}

/// A run of `exec` on a terminal of this size: exit code and everything that the terminal got.
fn on_a_terminal(dir: &Path, arguments: &[&str], (columns, rows): (u16, u16), env: &[(&str, &str)]) -> (Option<i32>, String) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let OpenptyResult { master, slave } = openpty(&size, None).expect("a terminal");
    let (out, err) = (slave.try_clone().expect("a copy"), slave);
    let mut child: Child = command(dir, arguments)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .expect("it starts");
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    let mut master = File::from(master);
    // The other end is closed when this is an error.
    while let Ok(read @ 1..) = master.read(&mut buffer) {
        got.extend_from_slice(&buffer[..read]);
    }
    (child.wait().expect("it ends").code(), String::from_utf8_lossy(&got).into_owned())
}

#[test]
fn a_terminal_shows_a_table_that_a_log_cannot_disturb() {
    let dir = tempfile::tempdir().expect("a directory");
    let noise = "printf '\\033]0;evil\\007\\033[2J\\033[1;1H日本語日本語日本語日本語日本語日本語\\n'; sleep 1.3; yes | head -c 3000000; echo x > out";
    task(dir.path(), "alpha", "", noise);
    task(dir.path(), "beta", "dependencies: [nobody]", "echo x > out; echo it went wrong; exit 3");
    let began = Instant::now();
    let (code, got) = on_a_terminal(dir.path(), &["--jobs", "2", "alpha.yml", "beta.yml"], (40, 10), &[]);
    assert_eq!(code, Some(1), "{got}");
    assert!(!got.contains("evil") && !got.contains("\x1b[2J") && !got.contains("\x1b[1;1H"), "{got:?}");
    assert!(got.contains("alpha  \x1b[2m日本語") && got.contains('…'), "{got:?}");
    assert!(got.contains("beta | it went wrong\r\nbeta | [taskcluster:error] exit status 3\r\n"), "{got:?}");
    assert!(got.contains("\x1b[31mfailed\x1b[0m  beta"), "{got:?}");
    assert!(got.contains("2 tasks: 1 completed, 1 failed"), "{got:?}");
    let pictures = u128::try_from(got.matches("\x1b[?7l").count()).expect("few");
    assert!(pictures > 1 && pictures <= began.elapsed().as_millis() / 100 + 2, "{pictures} pictures");
}

#[test]
fn colours_and_tables_are_not_forced_on_anybody() {
    let dir = tempfile::tempdir().expect("a directory");
    task(dir.path(), "a", "", "echo from a; echo x > out");
    task(dir.path(), "b", "", "echo from b; echo x > out");
    let (code, got) = on_a_terminal(dir.path(), &["a.yml", "b.yml"], (80, 24), &[("NO_COLOR", "1")]);
    assert_eq!(code, Some(0), "{got}");
    assert!(
        !got.contains("\x1b[32m") && !got.contains("\x1b[2m") && got.contains("\x1b[?7l"),
        "a table without colours: {got:?}"
    );
    let (_, got) = on_a_terminal(dir.path(), &["a.yml", "b.yml"], (80, 24), &[("TERM", "dumb")]);
    assert!(!got.contains('\x1b') && got.contains("a | from a"), "{got:?}");
    let (_, got) = on_a_terminal(dir.path(), &["a.yml"], (80, 24), &[]);
    assert!(!got.contains("\x1b[?7l") && got.contains("\nfrom a"), "one log is shown as it is: {got:?}");
    let (_, got) = on_a_terminal(dir.path(), &["--output", "text", "a.yml", "b.yml"], (80, 24), &[]);
    assert!(!got.contains("\x1b[?7l") && got.contains("from b"), "{got:?}");
    let output = command(dir.path(), &["--output", "table", "a.yml"]).output().expect("run");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn standard_input_may_be_a_graph_or_several_documents() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str], text: &str| {
        let mut child = command(dir.path(), arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let graph = json!({
        "b": { "label": "test", "dependencies": { "x": "a" }, "task": { "payload": {
            "command": [["/bin/sh", "-c", { "task-reference": "echo after <x>" }]], "maxRunTime": 60 } } },
        "a": { "label": "build", "dependencies": {}, "task": { "payload": { "command": [["/bin/true"]], "maxRunTime": 60 } } },
    });
    let (code, stdout, stderr) = run(&["-"], &graph.to_string());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("test | after "), "{stdout}");
    let documents = "label: one\npayload: {command: [[/bin/echo, first]], maxRunTime: 60}\n---\n\
                     dependencies: [one]\npayload: {command: [[/bin/echo, second]], maxRunTime: 60}\n";
    let (code, stdout, stderr) = run(&["-"], documents);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("one | first\n") && stdout.contains("stdin-2 | second\n"), "{stdout}");
    let (code, _, stderr) = run(&["-"], &documents.replace("second]], maxRunTime: 60", "second]], maxRunTime: x"));
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("<stdin>:5:"), "lines are counted from the begin of the text: {stderr}");
}

#[test]
fn a_large_graph_ends_when_its_first_task_fails() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = |dependencies: Value, script: &str| json!({ "dependencies": dependencies, "task": { "payload": { "command": [["/bin/sh", "-c", script]], "maxRunTime": 60 } } });
    // One task waits for thousands, which wait for one another and for the first.
    let mut graph = serde_json::Map::new();
    graph.insert("first".to_owned(), node(json!({}), "exit 1"));
    let mut before = "first".to_owned();
    for number in 0..4_000 {
        let key = format!("t{number}");
        graph.insert(key.clone(), node(json!({ "x": before }), "true"));
        before = key;
    }
    let all: serde_json::Map<String, Value> = graph.keys().map(|key| (key.clone(), json!(key))).collect();
    graph.insert("last".to_owned(), node(Value::Object(all), "true"));
    write(dir.path(), "graph.json", &Value::Object(graph).to_string());
    let output = command(dir.path(), &["--output", "json", "graph.json"]).output().expect("run");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let events = events(&output.stdout);
    assert_eq!(events.last().expect("an end")["counts"], json!({ "failed": 1, "not-run": 4_001 }));
}
