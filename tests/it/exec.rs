//! `exec`: a task file on a machine without a server.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::support::BINARY;

fn exec(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .arg("exec")
        .args(arguments)
        .current_dir(dir)
        // A proxy that is not there: it must not be asked.
        .env("http_proxy", "http://127.0.0.1:1")
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .output()
        .expect("it starts")
}

fn write(dir: &Path, name: &str, content: &str) {
    std::fs::write(dir.join(name), content).expect("written");
}

const HELLO: &str = "command: [[/bin/sh, -c, 'echo hello; echo x > out']]\nmaxRunTime: 60\n\
                     artifacts: [{type: file, path: out, name: public/out}]\n";

#[test]
fn the_log_is_on_standard_output_and_the_artifacts_are_files() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "hello.yml", HELLO);
    let output = exec(dir.path(), &["hello.yml"]);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    assert!(stdout.contains("\nhello\n") && stdout.contains("=== Task Finished ==="), "{stdout}");
    assert!(!stdout.contains('\u{1b}'), "colours in a pipe");
    let mut found: Vec<String> = Vec::new();
    let mut open = vec![dir.path().join("artifacts")];
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(path).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() { open.push(path) } else { found.push(path.display().to_string()) }
        }
    }
    let out = found.iter().find(|path| path.ends_with("/public/out")).unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(std::fs::read_to_string(out).expect("readable"), "x\n");
    let log = found.iter().find(|path| path.ends_with("live_backing.log")).unwrap_or_else(|| panic!("{found:?}"));
    assert!(std::fs::read_to_string(log).expect("content encoding is removed").contains("\nhello\n"));
}

#[test]
fn exit_codes_tell_failed_exception_and_usage_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "hello.yml", HELLO);
    write(dir.path(), "fails.yml", "command: [[/bin/false]]\nmaxRunTime: 60\n");
    write(dir.path(), "invalid.yml", "command: [[/bin/false]]\nmaxRunTime: 60\nenv:\n  A: 1\n");
    write(dir.path(), "broken.yml", "command: [\n");
    let cases: [(&[&str], i32); 7] = [
        (&["hello.yml"], 0),
        (&["fails.yml"], 1),
        (&["invalid.yml"], 3),
        (&["broken.yml"], 2),
        (&["missing.yml"], 2),
        (&[], 2),
        (&["fails.yml", "invalid.yml", "hello.yml"], 3),
    ];
    for (arguments, code) in cases {
        let output = exec(dir.path(), arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{stderr}");
    }
    let output = exec(dir.path(), &["invalid.yml"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("invalid.yml:4:6") && stderr.contains("env.A"), "{stderr}");
}

#[test]
fn tasks_wait_for_those_they_depend_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let task = |label: &str, more: &str, script: &str| {
        let command = format!("[/bin/sh, -c, '{script}']");
        write(dir.path(), &format!("{label}.yml"), &format!("{more}\npayload: {{command: [{command}], maxRunTime: 60}}\n"));
    };
    task("build", "taskId: fN1SbArXTPSVFNUvaOlinQ", "echo built > $OUT_OF_TASK");
    let note = dir.path().join("note");
    // Tasks inherit the environment of `exec`.
    let run = |files: &[&str]| {
        let out = Command::new(BINARY)
            .arg("exec")
            .args(files)
            .current_dir(dir.path())
            .env("OUT_OF_TASK", &note)
            .output()
            .expect("it starts");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    task("use", "dependencies: [fN1SbArXTPSVFNUvaOlinQ, nobody]", "cat $OUT_OF_TASK");
    task("fails", "", "exit 4");
    task("after", "dependencies: [fails]", "true");
    task("whatever", "dependencies: [fails]\nrequires: all-resolved", "true");
    task("circle", "dependencies: [circle]", "true");
    let (code, text) = run(&["--jobs", "2", "use.yml", "build.yml"]);
    assert_eq!(code, Some(0), "it ran although its file came first: {text}");
    assert!(text.contains("does not wait for \"nobody\""), "{text}");
    let (code, text) = run(&["after.yml", "whatever.yml", "fails.yml"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("completed  whatever"), "{text}");
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words:?} in {text}"));
    let (cause, lost) = (place("failed     fails"), place("not run    after  (it waits for fails, which failed)"));
    assert!(cause < lost, "what was the cause of something stands before it: {text}");
    let (code, text) = run(&["circle.yml"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("waits for itself"), "{text}");
    task("again", "taskId: fN1SbArXTPSVFNUvaOlinQ", "true");
    task("odd", "taskId: odd", "true");
    let (code, text) = run(&["build.yml", "again.yml", "odd.yml"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("is the id of another task") && text.contains("is no task id"), "{text}");
}

#[test]
fn a_circle_is_told_once_with_its_place_and_who_waits_for_it_is_not_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = |on: &str| {
        format!("{{\"task\": {{\"payload\": {{\"command\": [[\"true\"]], \"maxRunTime\": 9}}}}, \"dependencies\": {on}}}")
    };
    let graph = format!(
        "{{\"a\": {},\n\"b\": {},\n\"late\": {},\n\"later\": {},\n\"free\": {}}}",
        node("{\"x\": \"b\"}"),
        node("{\"y\": \"a\"}"),
        node("{\"z\": \"b\"}"),
        node("{\"z\": \"late\"}"),
        node("{}"),
    );
    write(dir.path(), "g.json", &graph);
    let output = exec(dir.path(), &["g.json"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("g.json:1:"), "{stderr}");
    assert!(stderr.contains(": dependencies.x: the task waits for itself: a → b → a"), "{stderr}");
    assert_eq!(stderr.matches("the task waits for itself").count(), 1, "{stderr}");
    for line in
        ["not run    late  (it waits for b, which is invalid)", "not run    later  (it waits for late, and b is invalid)"]
    {
        assert!(stderr.contains(line), "{stderr}");
    }
    assert!(stderr.contains("completed  free"), "{stderr}");
}

#[test]
fn a_graph_with_names_that_lead_nowhere_is_refused_as_check_refuses_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let payload = "\"payload\": {\"command\": [[\"true\"]], \"maxRunTime\": 9}";
    let cases = [
        // (what stands beside `task`, what stands in it, the words)
        ("\"dependencies\": {\"x\": \"nobody\"}", "", "dependencies.x: no task of this graph is \"nobody\""),
        ("\"dependencies\": {\"x\": 5}", "", "dependencies.x: must be a string"),
        ("\"dependencies\": []", "", "dependencies: must be an object"),
        ("\"label\": 5", "", "label: must be a string"),
        ("\"dependencies\": {}", "\"dependencies\": [\"nobody\"], ", "dependencies.0: no task of this graph is \"nobody\""),
        ("\"dependencies\": {}", "\"dependencies\": [5], ", "dependencies.0: must be a string"),
    ];
    for (beside, inside, words) in cases {
        let fine = format!("\"fine\": {{\"task\": {{{payload}}}}}");
        write(dir.path(), "g.json", &format!("{{{fine},\n\"bad\": {{\"task\": {{{inside}{payload}}}, {beside}}}}}"));
        let output = exec(dir.path(), &["g.json"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{beside} {inside}\n{stderr}");
        assert!(stderr.contains("g.json:2:") && stderr.contains(words), "{beside} {inside}\n{stderr}");
        assert!(stderr.contains("completed  fine"), "{stderr}");
        let checked = Command::new(BINARY).args(["check", "g.json"]).current_dir(dir.path()).output().expect("it starts");
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.code() == Some(1) && said.contains(words), "{beside} {inside}\n{said}");
    }
    // One node of two is none; a name of a task elsewhere, as taskgraph finds them in an index, may be referred to.
    write(
        dir.path(),
        "g.json",
        "{\"odd\": 5,\n\"uses\": {\"dependencies\": {\"build\": \"fN1SbArXTPSVFNUvaOlinQ\"}, \"task\": {\"payload\": \
         {\"command\": [[\"echo\", {\"task-reference\": \"it is <build>\"}]], \"maxRunTime\": 9}}}}",
    );
    let output = exec(dir.path(), &["g.json"]);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(stderr.contains("g.json:1:9: is no task of a graph") && output.status.code() == Some(3), "{stderr}");
    assert!(stdout.contains("it is fN1SbArXTPSVFNUvaOlinQ\n"), "{stdout}\n{stderr}");
}

#[test]
fn a_graph_may_be_larger_than_other_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let extra = "x".repeat(8 << 10);
    let node = |number: usize| {
        format!(
            "\"t{number}\": {{\"task\": {{\"extra\": {{\"x\": \"{extra}\"}}, \"payload\": {{\"command\": [[\"true\"]], \"maxRunTime\": 9}}}}}}"
        )
    };
    let graph = format!("{{{}}}", (0..1_500).map(node).collect::<Vec<_>>().join(",\n"));
    assert!(graph.len() > tc_payload::MAX_DOCUMENT_BYTES);
    write(dir.path(), "g.json", &graph);
    write(dir.path(), "other.json", &format!("{{\"a\": \"{}\"}}", "x".repeat(tc_payload::MAX_DOCUMENT_BYTES)));
    let output = exec(dir.path(), &["g.json", "--only", "^t7$"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(0) && stderr.contains("completed  t7"), "{stderr}");
    let output = exec(dir.path(), &["other.json"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && stderr.contains("only graphs of tasks may be larger"), "{stderr}");
}

#[test]
fn what_is_wrong_in_a_pipe_is_shown_and_the_pipe_is_not_read_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
    let writer = std::thread::spawn(move || std::fs::write(path, "maxRunTime: 60\ncommand: [\n"));
    let output = exec(dir.path(), &["pipe"]);
    writer.join().expect("it ends").expect("written");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("pipe:2:10: ") && stderr.contains(" 2 | command: [\n   |          ^\n"), "{stderr}");
}

#[test]
fn a_graph_is_run_in_its_order_and_its_references_are_resolved() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = "set -e; test $BUILD = fN1SbArXTPSVFNUvaOlinQ; echo $URL | grep /task/$BUILD/artifacts/public/out";
    let graph = serde_json::json!({
        "test-1": {
            "label": "test/1", "dependencies": { "build": "fN1SbArXTPSVFNUvaOlinQ" },
            "task": { "deadline": { "relative-datestamp": "1 hour" }, "payload": {
                "command": [["/bin/sh", "-c", script], ["/bin/sh", "-c", { "task-reference": "echo ran after <build>" }]],
                "env": {
                    "BUILD": { "task-reference": "<build>" }, "URL": { "artifact-reference": "<build/public/out>" },
                },
                "maxRunTime": 60,
            } },
        },
        "fN1SbArXTPSVFNUvaOlinQ": { "label": "build", "dependencies": {}, "task": { "payload": {
            "command": [["/bin/sh", "-c", "sleep 1; echo x > out"]], "maxRunTime": 60,
            "artifacts": [{ "type": "file", "path": "out", "name": "public/out" }],
        } } },
    });
    write(dir.path(), "task-graph.json", &graph.to_string());
    let output = exec(dir.path(), &["--jobs", "2", "task-graph.json"]);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    assert!(stdout.contains("test/1 | ran after fN1SbArXTPSVFNUvaOlinQ\n"), "{stdout}");
    let position = |text: &str| stdout.find(text).unwrap_or_else(|| panic!("{text}: {stdout}"));
    assert!(position("build | [taskcluster") < position("test/1 | [taskcluster"), "{stdout}");
    assert!(stdout[..position("test/1 | ")].contains("=== Task Finished ==="), "the build had ended: {stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_task_and_leaves_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path().to_owned();
    write(
        &dir,
        "long.yml",
        "command: [[/bin/sh, -c, 'echo $$ > ../../../../pid || true; echo started; sleep 300']]\nmaxRunTime: 600\n",
    );
    let mut worker = crate::support::Worker::start(home, &["exec", "long.yml"], &[]);
    crate::support::until("the task runs", async || {
        std::fs::read_to_string(dir.join("stdout")).is_ok_and(|text| text.contains("\nstarted\n"))
    })
    .await;
    worker.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(worker.code().await, Some(130), "{}", worker.stderr());
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", worker.pid())).unwrap_or_default();
    assert_eq!(children, "");
}

#[test]
fn a_second_ctrl_c_ends_at_once_although_nobody_reads_the_log() {
    use std::os::unix::process::ExitStatusExt as _;

    let home = tempfile::tempdir().expect("a directory");
    // More than a pipe and what is under way to it can hold.
    write(home.path(), "big.yml", "command: [[/bin/sh, -c, 'yes | head -c 20000000; touch ../../../done']]\nmaxRunTime: 60\n");
    let mut child = Command::new(BINARY)
        .args(["exec", "big.yml"])
        .current_dir(home.path())
        .env("TMPDIR", home.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    // The task is over soon, and its log cannot go anywhere.
    let over = home.path().join("done");
    while !over.exists() {
        assert!(child.try_wait().expect("asked").is_none(), "it has ended too early");
        std::thread::yield_now();
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("small"));
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("sent");
    // A signal that is pending swallows the next one: the second is for when the first was heard.
    let mut said = String::new();
    while !said.contains("a second time ends at once") {
        let read = std::io::BufRead::read_line(&mut stderr, &mut said).expect("readable");
        assert_ne!(read, 0, "{said}");
    }
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("sent");
    let began = std::time::Instant::now();
    let status = child.wait().expect("it ends");
    assert_eq!((status.code(), status.signal()), (Some(130), None));
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "it waited for a reader");
}

#[test]
fn the_machines_status_file_is_left_alone_and_tasks_run_below_tmpdir() {
    let home = tempfile::tempdir().expect("a directory");
    write(home.path(), "worker-status.json", "precious");
    write(home.path(), "where.yml", "command: [[pwd]]\nmaxRunTime: 60\n");
    let output = Command::new(BINARY)
        .args(["exec", "where.yml"])
        .current_dir(home.path())
        .env("TMPDIR", home.path())
        .output()
        .expect("it starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    let begin = format!("{}/tc-worker-exec-", home.path().display());
    assert!(stdout.lines().any(|line| line.starts_with(&begin)), "{stdout}");
    assert_eq!(std::fs::read_to_string(home.path().join("worker-status.json")).expect("there"), "precious");
}

#[test]
fn names_of_artifacts_are_told_before_anything_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let task = |name: &str, artifacts: &str| {
        let text = format!("command: [[/bin/sh, -c, 'touch $RAN; echo x > x']]\nmaxRunTime: 60\nartifacts: [{artifacts}]\n");
        write(dir.path(), name, &text);
    };
    let ran = dir.path().join("ran");
    let run = |file: &str| {
        let output = Command::new(BINARY).args(["exec", file]).current_dir(dir.path()).env("RAN", &ran).output().expect("run");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    task("refused.yml", r#"{type: file, path: x, name: "a\nb"}"#);
    let (code, text) = run("refused.yml");
    assert!(code == Some(3) && text.contains("refused.yml:3:41: artifacts.0.name: is no name for an artifact"), "{text}");
    assert!(!ran.exists(), "nothing ran");
    task("odd.yml", r"{type: file, path: x, name: ../y}, {type: file, path: ../z, optional: true}");
    let (code, text) = run("odd.yml");
    assert_eq!(code, Some(0), "{text}");
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words:?} in {text}"));
    assert!(place("the artifact \"../y\" will not be saved") < place("odd: task "), "before it runs: {text}");
    assert!(place("is outside the task directory") > 0 && !text.contains("symbolic link"), "{text}");
    assert!(!dir.path().join("y").exists() && !dir.path().join("artifacts/y").exists());
}
