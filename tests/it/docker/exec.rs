//! `exec` with an engine that goes away.

use std::process::{Command, Stdio};

use serde_json::json;

use super::spare::Spare;
use crate::support::{BINARY, until};

#[tokio::test(flavor = "multi_thread")]
async fn native_tasks_go_on_when_the_engine_goes_away() {
    let Some(spare) = Spare::start("graph") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let container = |text: &str| json!({ "payload": { "image": "tc-test/busybox:latest", "command": ["sh", "-c", text], "maxRunTime": 600 } });
    let native = |text: &str| json!({ "payload": { "command": [["/bin/sh", "-c", text]], "maxRunTime": 600 } });
    let go = dir.path().join("go");
    let graph = json!({
        "box": { "task": container("sleep 500") },
        "box2": { "task": container("true"), "dependencies": { "b": "box" } },
        "first": { "task": native(&format!("until [ -e {} ]; do sleep 0.1; done", go.display())) },
        "second": { "task": native("echo second ran"), "dependencies": { "f": "first" } },
    });
    std::fs::write(dir.path().join("g.json"), graph.to_string()).expect("written");
    let child = Command::new(BINARY)
        .args(["exec", "--no-cache", "--jobs", "2", "g.json"])
        .current_dir(dir.path())
        .env("DOCKER_HOST", &spare.engine.host)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    until("the container runs", async || !spare.engine.running().is_empty()).await;
    spare.stop();
    std::fs::write(go, "").expect("written");
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output()).await;
    let output = ended.expect("it waits").expect("it ends");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{stdout}\n{stderr}");
    assert!(stdout.contains("second | second ran"), "{stdout}\n{stderr}");
    for row in
        ["completed        first", "completed        second", "not run          box2  (it waits for box, which ended with"]
    {
        assert!(stderr.contains(row), "{row:?} in {stderr}");
    }
}
