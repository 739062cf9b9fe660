//! Configurations that are missing, unreadable or wrong, as their author sees it.

use std::process::Command;

use crate::support::BINARY;

/// Runs the worker with a configuration file of this content; returns exit code and standard error.
fn run(content: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("worker.yml");
    std::fs::write(&path, content).expect("written");
    let output =
        Command::new(BINARY).args(["run", "--config"]).arg(&path).current_dir(dir.path()).output().expect("the worker starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_missing_file_is_named() {
    let output = Command::new(BINARY).args(["run", "--config", "/nonexistent/worker.json"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("/nonexistent/worker.json") && text.contains("No such file"), "{text}");
}

#[test]
fn five_problems_are_shown_at_once_each_with_its_place() {
    let (code, text) =
        run("rootURL: 5\nclientId: a\naccessTokn: b\ncapacity: 0\nidleTimeoutSecs: \"x\"\npublicIP: 257.1.2.1\n");
    assert!(matches!(code, Some(64 | 73)), "{code:?} {text}");
    for expected in
        ["worker.yml:1:", "worker.yml:3:", "accessToken", "worker.yml:4:", "worker.yml:5:", "worker.yml:6:", "257.1.2.1"]
    {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[test]
fn a_missing_setting_is_named() {
    let (code, text) = run("{\"rootURL\": \"http://localhost:1\"}");
    assert_eq!(code, Some(73), "{text}");
    for name in ["accessToken", "clientId", "workerId", "workerType"] {
        assert!(text.contains(&format!("Config setting \"{name}\" has not been defined")), "{name}: {text}");
    }
}

#[test]
fn what_is_no_yaml_and_no_json_is_shown_with_its_place() {
    let (code, text) = run("{\"rootURL\": \n  oops]");
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("worker.yml:2:"), "{text}");
}
