//! `check` as a process: what is written where, and how it ends.

use std::{
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::support::BINARY;

const FINE: &str = "command: [[echo, hello]]\nmaxRunTime: 60\n";
const WRONG: &str = "payload:\n  command: [[echo, hello]]\n  maxRunTime: long\n";
const WARNED: &str = "label: a/b\npayload:\n  command: [[echo, hello]]\n  maxRunTime: 60\n";

fn check(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("check").args(arguments).current_dir(dir).stdin(Stdio::null()).env_remove("NO_COLOR");
    command.output().expect("it starts")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn files(of: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in of {
        std::fs::write(dir.path().join(name), text).expect("written");
    }
    dir
}

#[test]
fn the_exit_code_is_that_of_the_worst_file() {
    let dir = files(&[("fine.yml", FINE), ("wrong.yml", WRONG), ("warned.yml", WARNED)]);
    for (arguments, code, last) in [
        (vec!["fine.yml"], 0, "no problems in 1 file"),
        (vec!["fine.yml", "warned.yml"], 0, "1 warning in 2 files"),
        (vec!["--strict", "warned.yml"], 1, "1 warning in 1 file"),
        (vec!["."], 1, "1 error, 1 warning in 3 files"),
        (vec!["wrong.yml", "nothing.yml"], 2, "2 errors in 2 files"),
        (vec!["--config", "fine.yml", "fine.yml"], 2, "errors in 1 file"),
    ] {
        let output = check(dir.path(), &arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", out(&output));
        assert!(out(&output).lines().last().is_some_and(|line| line.ends_with(last)), "{arguments:?}: {}", out(&output));
        assert!(output.stderr.is_empty(), "{arguments:?}");
    }
    for usage in [&[][..], &["--kind", "poem", "fine.yml"], &["--rules", "fine.yml"]] {
        assert_eq!(check(dir.path(), usage).status.code(), Some(2), "{usage:?}");
    }
}

#[test]
fn problems_look_like_those_of_a_compiler() {
    let dir = files(&[("wrong.yml", WRONG)]);
    let output = check(dir.path(), &["wrong.yml"]);
    let expected = "error[payload/schema]: wrong.yml:3:15: payload.maxRunTime: must be a whole number, not the string \"long\"\n \
                    3 |   maxRunTime: long\n   |               ^\n  hint: `tc-worker show-payload-schema` prints what a payload may say\n\
                    1 error in 1 file\n";
    assert_eq!(out(&output), expected, "no colours where there is no terminal");
    let output = check(dir.path(), &["--output", "json", "wrong.yml"]);
    let lines: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [problem] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((&problem["file"], &problem["line"], &problem["column"]), (&"wrong.yml".into(), &3.into(), &15.into()));
    assert_eq!((&problem["rule"], &problem["severity"]), (&"payload/schema".into(), &"error".into()));
    assert_eq!(output.status.code(), Some(1));
    let rules = out(&check(dir.path(), &["--rules"]));
    assert!(rules.lines().any(|line| line.starts_with("payload/schema ")), "{rules}");
}

#[test]
fn standard_input_and_pipes_are_files() {
    let dir = files(&[]);
    let mut child = Command::new(BINARY)
        .args(["check", "-"])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("a pipe").write_all(WRONG.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(out(&output).contains("<stdin>:3:15"), "{}", out(&output));
    let shell = Command::new("bash")
        .args(["-c", "exec \"$0\" check <(printf 'command: [[a]]\\nmaxRunTime: 1\\n')", BINARY])
        .output()
        .expect("bash starts");
    assert_eq!((out(&shell).as_str(), shell.status.code()), ("no problems in 1 file\n", Some(0)));
}

#[test]
fn links_in_a_circle_are_left_out_of_directories_and_told_as_files() {
    let dir = files(&[("fine.yml", FINE)]);
    symlink("loop.yml", dir.path().join("loop.yml")).expect("made");
    symlink(".", dir.path().join("again.yml")).expect("made");
    nix::unistd::mkfifo(&dir.path().join("pipe.yml"), nix::sys::stat::Mode::S_IRWXU).expect("made");
    let output = check(dir.path(), &["."]);
    assert_eq!((out(&output).as_str(), output.status.code()), ("no problems in 1 file\n", Some(0)));
    let output = check(dir.path(), &["loop.yml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(out(&output).starts_with("error[file/unreadable]: loop.yml: cannot be read: "), "{}", out(&output));
}

#[test]
fn a_template_and_a_graph_are_told_apart_from_tasks() {
    let dir = files(&[
        (".taskcluster.yml", "version: 1\ntasks:\n  - $fi: x\n    then: {}\n"),
        ("task-graph.json", "{\"a\": {\"task\": {\"payload\": {}}, \"dependencies\": {\"b\": \"b\"}}}"),
    ]);
    let output = check(dir.path(), &["."]);
    let text = out(&output);
    assert!(text.contains("error[template/operator]: ./.taskcluster.yml:3:5: "), "{text}");
    assert!(text.contains("error[dependency/dangling]: ./task-graph.json:1:"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

const TEMPLATE: &str = r#"version: 1
tasks:
  - $if: 'tasks_for == "github-push"'
    then:
      provisionerId: proj
      workerType: linux
      created: {$fromNow: ''}
      deadline: {$fromNow: '1 day'}
      metadata: {name: build, description: d, owner: '${event.pusher.email}', source: 'https://example.com/'}
      payload:
        command: [[make, '${event.after}', '${speed}']]
        maxRunTime: 600
"#;
const PUSH: &str = r#"{"pusher": {"email": "a@example.com"}, "after": "c0ffee"}"#;
const FOR_PUSH: [&str; 6] = ["--tasks-for", "github-push", "--event", "push.json", "--parameter", "speed=fast"];

#[test]
fn a_template_is_rendered_and_its_tasks_are_checked() {
    let wrong = TEMPLATE.replace("600", "soon");
    let dir = files(&[(".taskcluster.yml", TEMPLATE), ("wrong.yml", &wrong), ("task.yml", FINE), ("push.json", PUSH)]);
    let check = |arguments: &[&str]| {
        let output = check(dir.path(), arguments);
        (out(&output), String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
    };
    let fine = |files: usize| format!("no problems in {files} file{}\n", if files == 1 { "" } else { "s" });
    let push = |files: &[&'static str]| check(&[&FOR_PUSH[..], files].concat());
    assert_eq!(push(&[".taskcluster.yml", "task.yml"]), (fine(2), String::new(), Some(0)));
    let (text, _, code) = push(&["wrong.yml"]);
    let expected = "error[payload/schema]: wrong.yml:12:21: payload.maxRunTime: must be a whole number, not the string \"soon\"\n \
                    12 |         maxRunTime: soon\n    |                     ^\n  hint: `tc-worker show-payload-schema` \
                    prints what a payload may say\n  task: build\n1 error in 1 file\n";
    assert_eq!((text.as_str(), code), (expected, Some(1)));
    let (text, note, code) = push(&["--output", "json", "wrong.yml"]);
    let problem: Value = serde_json::from_str(&text).expect("one object");
    assert_eq!(
        (&problem["line"], &problem["task"], &problem["field"]),
        (&12.into(), &"build".into(), &"payload.maxRunTime".into())
    );
    assert_eq!((note.as_str(), code), ("", Some(1)));
    // Without an occasion, the shape is all there is.
    let (text, note, code) = check(&["wrong.yml"]);
    assert_eq!((text, code), (fine(1), Some(0)));
    assert!(note.starts_with("note: wrong.yml: only its shape was checked; --tasks-for "), "{note}");
    let (text, note, code) = push(&["task.yml"]);
    assert_eq!((text, code), (fine(1), Some(0)));
    assert!(note.contains("no file is a template"), "{note}");
    let (_, note, code) = check(&["--tasks-for", "cron", ".taskcluster.yml"]);
    assert!(code == Some(0) && note.contains(".taskcluster.yml: gives no tasks for cron"), "{note}");
}

#[test]
fn events_and_templates_that_are_broken_are_told() {
    let list = format!("[{}]", "1,".repeat(10));
    let dir = files(&[(".taskcluster.yml", TEMPLATE), ("push.json", PUSH), ("broken.json", &list)]);
    for (arguments, code, said) in [
        (vec!["--event", "push.json"], 2, "--tasks-for"),
        (vec!["--tasks-for", "github-push", "--event", "none.json"], 2, "error[file/unreadable]: none.json: "),
        (vec!["--tasks-for", "github-push", "--event", "broken.json"], 2, "error[file/syntax]: broken.json:1:"),
        (vec!["--tasks-for", "github-push", "--event", "-", "-"], 2, "both the event and a file"),
        (vec!["--tasks-for", "github-push"], 1, "error[template/render]: .taskcluster.yml:9:"),
        (vec!["--tasks-for", "github-push", "--event", "push.json"], 1, "error[template/render]: .taskcluster.yml:11:"),
    ] {
        let output = check(dir.path(), &[&arguments[..], &[".taskcluster.yml"]].concat());
        let text = out(&output) + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    let deep = format!("{}1{}", "(".repeat(200_000), ")".repeat(200_000));
    for tasks in [
        "{$eval: 'range(0, 100000000000)'}".to_owned(),
        format!("[{{$eval: '{deep}'}}]"),
        "{$map: {$eval: 'range(0, 20000)'}, each(a): {$eval: 'len(range(0, 3000000))'}}".to_owned(),
    ] {
        std::fs::write(dir.path().join("bomb.yml"), format!("version: 1\ntasks: {tasks}\n")).expect("written");
        let output = check(dir.path(), &["--tasks-for", "cron", "bomb.yml"]);
        assert_eq!(output.status.code(), Some(1), "{}", out(&output));
        assert!(out(&output).starts_with("error[template/render]: bomb.yml:2:"), "{}", out(&output));
        assert!(out(&output).contains("hint: let it loop over less"), "{}", out(&output));
    }
}

#[test]
fn an_empty_graph_has_nothing_wrong() {
    let dir = files(&[("graph.json", "{}\n")]);
    let output = check(dir.path(), &["graph.json"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "no problems in 1 file\n"));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "note: graph.json: there are no tasks in this graph\n");
}

#[test]
fn a_file_that_is_named_twice_is_looked_at_once() {
    let dir = files(&[("a.yml", "label: a\ndependencies: [b]\npayload: {command: [[x]], maxRunTime: 1}\n")]);
    symlink("a.yml", dir.path().join("link.yml")).expect("made");
    let absolute = dir.path().join("a.yml");
    let once = check(dir.path(), &["a.yml"]);
    assert!(out(&once).contains("dependency/not-given"), "{}", out(&once));
    let twice = check(dir.path(), &["a.yml", "./a.yml", absolute.to_str().expect("UTF-8"), "link.yml", "."]);
    assert_eq!(out(&twice), out(&once));
}
