//! `exec .taskcluster.yml`: templates become tasks, and bad ones become errors and nothing else.

use std::{
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use crate::support::BINARY;

const TEMPLATE: &str = r#"version: 1
policy: {pullRequests: public}
reporting: checks-v1
tasks:
  $let:
    common:
      provisionerId: proj
      workerType: linux
      created: {$fromNow: ''}
      deadline: {$fromNow: '1 day'}
  in:
    $flatten:
      - $if: 'tasks_for == "github-push"'
        then:
          $merge:
            - {$eval: common}
            - taskId: {$eval: 'as_slugid("build")'}
              metadata: {name: build, description: d, owner: '${event.pusher.email}', source: 'https://example.com/'}
              payload:
                maxRunTime: {$eval: '60 * 10'}
                command: [[/bin/sh, -c, 'echo commit ${event.after} for $TASK_ID ${as_slugid("build")}']]
        else: []
      - $if: 'tasks_for == "github-push"'
        then:
          $map: [unit, lint]
          each(kind):
            $merge:
              - {$eval: common}
              - taskId: {$eval: as_slugid(kind)}
                dependencies: ['${as_slugid("build")}']
                metadata: {name: '${kind}', description: d, owner: 'a@example.com', source: 'https://example.com/'}
                payload:
                  maxRunTime: 60
                  command: [[/bin/sh, -c, 'test -n "$GREETING" && echo ${kind} after ${as_slugid("build")}']]
                  env: {GREETING: '${greeting}'}
        else: []
"#;

fn exec(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(BINARY).arg("exec").args(arguments).current_dir(dir).output().expect("it starts");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

fn push(dir: &Path, template: &str) {
    std::fs::write(dir.join(".taskcluster.yml"), template).expect("written");
    std::fs::write(dir.join("push.json"), r#"{"pusher": {"email": "a@example.com"}, "after": "c0ffee"}"#).expect("written");
}

const PUSH: [&str; 7] =
    [".taskcluster.yml", "--tasks-for", "github-push", "--event", "push.json", "--parameter", "greeting=hello"];

#[test]
fn a_push_runs_its_tasks_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    push(dir.path(), TEMPLATE);
    let (code, stdout, stderr) = exec(dir.path(), &PUSH);
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    let said = stdout.lines().find_map(|line| line.strip_prefix("build | commit c0ffee for ")).expect("the build said it");
    let (own, slug) = said.split_once(' ').expect("two ids");
    assert_eq!(own, slug, "as_slugid gave the task the id that others know");
    let build_ends = stdout.find("build | [taskcluster").expect("its log");
    for kind in ["unit", "lint"] {
        let line = format!("\n{kind} | {kind} after {slug}\n");
        assert!(stdout.find(&line).is_some_and(|at| at > build_ends), "{line:?}: {stdout}");
    }
    assert!(stderr.contains("3 tasks: 3 completed"), "{stderr}");
}

#[test]
fn what_would_run_is_listed_and_picked() {
    let dir = tempfile::tempdir().expect("a directory");
    push(dir.path(), TEMPLATE);
    let list = |more: &[&str]| {
        let (code, stdout, stderr) = exec(dir.path(), &[&PUSH[..], &["--list"], more].concat());
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    let rows: Vec<Vec<String>> = list(&[]).lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    assert_eq!(rows[0].join(" "), "LABEL TASK ID TASK QUEUE WAITS FOR");
    let of = |row: &Vec<String>| (row[0].clone(), row[2].clone(), row[3].clone());
    let row = |label: &str, waits_for: &str| (label.to_owned(), "proj/linux".to_owned(), waits_for.to_owned());
    assert_eq!(rows[1..].iter().map(of).collect::<Vec<_>>(), [row("build", "-"), row("unit", "build"), row("lint", "build")]);
    assert!(rows[1..].iter().all(|row| row[1].len() == 22), "{rows:?}");
    assert_eq!(list(&["--only", "unit"]).lines().count(), 2);
    let picked = list(&["--with-deps", "lint", "--output", "json"]);
    let labels: Vec<String> = picked
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["label"].as_str().expect("a label").to_owned()
        })
        .collect();
    assert_eq!(labels, ["build", "lint"]);
    assert!(!dir.path().join("artifacts").exists(), "nothing ran");
}

#[test]
fn an_event_that_nothing_is_for_runs_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    push(dir.path(), TEMPLATE);
    let (code, stdout, stderr) = exec(dir.path(), &[".taskcluster.yml", "--tasks-for", "github-release"]);
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(stderr.contains(".taskcluster.yml: gives no tasks for github-release"), "{stderr}");
}

#[test]
fn errors_name_file_place_and_expression() {
    let dir = tempfile::tempdir().expect("a directory");
    push(dir.path(), TEMPLATE);
    let cases: [(&str, &[&str]); 8] = [
        (
            &TEMPLATE.replace("event.after", "event.before"),
            &[".taskcluster.yml:21:", "object has no property before", "(in `echo commit ${event.before}"],
        ),
        (&TEMPLATE.replace("60 * 10", "60 *"), &[".taskcluster.yml:20:", "(in `60 *`)"]),
        (&TEMPLATE.replace("$merge", "$marge"), &[".taskcluster.yml:", "$marge"]),
        (&TEMPLATE.replace("version: 1", "version: 0"), &[".taskcluster.yml:1:10", "version 0 is not rendered"]),
        (&TEMPLATE.replace("version: 1", "version: '1'"), &[".taskcluster.yml:1:10", "must be 1"]),
        ("version: 1\ntasks: 5\n", &[".taskcluster.yml:2:8", "does not give a list"]),
        ("version: 1\ntasks: [5]\n", &[".taskcluster.yml:2:9", "does not give a task"]),
        ("version: 1\ntasks: [\n", &[".taskcluster.yml:"]),
    ];
    for (template, expected) in cases {
        push(dir.path(), template);
        let (code, _, stderr) = exec(dir.path(), &PUSH);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(expected.iter().all(|part| stderr.contains(part)), "{expected:?}: {stderr}");
    }
    // A payload that is wrong is found in the template, too.
    push(dir.path(), &TEMPLATE.replace("maxRunTime: 60\n", "maxRunTime: soon\n"));
    let (code, _, stderr) = exec(dir.path(), &[&PUSH[..], &["--with-deps", "unit"]].concat());
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains(".taskcluster.yml:33:") && stderr.contains("maxRunTime"), "{stderr}");
    push(dir.path(), TEMPLATE);
    let (code, _, stderr) = exec(dir.path(), &[".taskcluster.yml"]);
    assert!(code == Some(2) && stderr.contains("--tasks-for"), "{stderr}");
    std::fs::write(dir.path().join("t.yml"), "command: [[/bin/true]]\nmaxRunTime: 60\n").expect("written");
    let (code, _, stderr) = exec(dir.path(), &["t.yml", "--tasks-for", "cron"]);
    assert!(code == Some(2) && stderr.contains("no file is a template"), "{stderr}");
}

#[test]
fn a_template_cannot_take_the_machine_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let nested =
        (0..60).fold("{$eval: b}".to_owned(), |inner, _| format!("{{$let: {{b: [{{$eval: b}}, {{$eval: b}}]}}, in: {inner}}}"));
    let deep = format!("{}1{}", "(".repeat(200_000), ")".repeat(200_000));
    for (what, template) in [
        ("memory", "version: 1\ntasks: {$eval: 'range(0, 100000000000)'}\n".to_owned()),
        ("depth", format!("version: 1\ntasks: [{{$eval: '{deep}'}}]\n")),
        ("doubling", format!("version: 1\ntasks: {{$let: {{b: [1]}}, in: {}}}\n", &nested[..])),
        (
            "time",
            "version: 1\ntasks:\n  $map: {$eval: 'range(0, 20000)'}\n  each(a): {$eval: 'len(range(0, 3000000))'}\n".to_owned(),
        ),
        ("size", format!("version: 1\ntasks: {{$map: {{$eval: 'range(0, 200000)'}}, each(a): '{}'}}\n", "x".repeat(1000))),
    ] {
        push(dir.path(), &template);
        let began = Instant::now();
        let (code, stdout, stderr) = exec(dir.path(), &PUSH[..5]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{what}: {stderr}");
        assert!(stderr.contains(".taskcluster.yml:2:") || stderr.contains(".taskcluster.yml:3:"), "{what}: {stderr}");
        assert!(began.elapsed() < Duration::from_secs(40), "{what}");
        println!("{what}: {stderr}");
    }
}
