//! Which payloads for containers are taken, and what is said about the others. No engine is needed for that: none of these
//! tasks gets as far as one.

use serde_json::{Value, json};

use crate::support::{
    Deployment,
    proxy::{Fate, Proxy},
    script, until, until_some,
};

/// How a task ends that is not admitted.
const MALFORMED: [&str; 1] = ["exception/malformed-payload"];
/// How a container task ends that is admitted although there is no engine.
const ADMITTED: [&str; 2] = ["exception/resource-unavailable", "exception/worker-shutdown"];

/// A payload for a container with these further properties.
#[expect(clippy::needless_pass_by_value, reason = "a literal at each of the many places of use")]
fn container(more: Value) -> Value {
    let mut payload = json!({ "image": "busybox", "maxRunTime": 10 });
    for (name, value) in more.as_object().expect("an object") {
        payload[name] = value.clone();
    }
    payload
}

/// A configuration that takes containers although there is no engine for them.
#[expect(clippy::needless_pass_by_value, reason = "a literal at each of the many places of use")]
fn taking_containers(more: Value) -> Value {
    let docker = json!({ "host": "unix:///nonexistent/docker.sock", "whenDown": "native-only" });
    let mut config = json!({ "d2gConfig": { "enableD2G": true }, "tcWorker": { "docker": docker } });
    for (name, value) in more.as_object().expect("an object") {
        match (config[name].as_object_mut(), value.as_object()) {
            (Some(group), Some(changes)) => group.extend(changes.clone()),
            _ => config[name] = value.clone(),
        }
    }
    config
}

/// Runs tasks with these payloads to their end and returns the log of each. All have to be malformed.
async fn refused(config: Value, scopes: Value, payloads: Vec<Value>) -> Vec<String> {
    let queue = Deployment::start().await;
    let mut tasks = Vec::new();
    for payload in payloads {
        tasks.push(queue.create_with(payload, json!({ "scopes": scopes })).await);
    }
    let mut config = config;
    config["numberOfTasksToRun"] = json!(tasks.len());
    config["capacity"] = json!(2);
    let mut worker = queue.worker(config);
    assert_eq!(worker.code().await, Some(0));
    let mut logs = Vec::new();
    for task in tasks {
        let log = queue.log(&task);
        assert_eq!(queue.resolution(&task).await, "exception/malformed-payload", "{log}");
        logs.push(log);
    }
    logs
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_payload_can_be_off() {
    let logs = refused(json!({}), json!([]), vec![container(json!({}))]).await;
    let said = "docker worker payload detected, but D2G is not enabled on this worker pool (tests/it).";
    assert!(logs[0].contains(said), "{}", logs[0]);
    let config = taking_containers(json!({ "disableNativePayloads": true }));
    let logs = refused(config, json!([]), vec![script("true")]).await;
    assert!(logs[0].contains("native Generic Worker payloads are disabled on this worker pool (tests/it)"), "{}", logs[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_container_can_be_is_malformed_with_a_reason() {
    let kernel = "Linux hands a program at most 131071 bytes in one string (MAX_ARG_STRLEN)";
    let many: serde_json::Map<String, Value> = (0..30).map(|i| (format!("V{i}"), json!("x".repeat(100_000)))).collect();
    let cases = [
        (json!({ "image": "--privileged" }), "- image: is not the name of an image: \"--privileged\" begins with a dash"),
        (json!({ "image": { "type": "docker-image", "name": "a:b:c" } }), "- image.name: is not the name of an image"),
        (json!({ "image": { "type": "task-image", "taskId": "x" } }), "- image: `path` is missing"),
        (json!({ "image": null }), "- image: must be a string, not empty (null)"),
        (json!({ "cache": { "c": "/x/../etc" } }), "- cache.c: must not have `..` in it: \"/x/../etc\""),
        (json!({ "cache": { "c": "x:/etc" } }), "- cache.c: must be absolute: \"x:/etc\""),
        (json!({ "cache": { "c": "/" } }), "- cache.c: must not be the container's root"),
        (json!({ "artifacts": { "v": { "type": "volume", "path": "v" } } }), "- artifacts.v.path: must be absolute"),
        (json!({ "env": { "A=B": "x" } }), "- env.A=B: has `=` in its name"),
        (json!({ "env": { "": "x" } }), "- env.: is a variable without a name"),
        (json!({ "env": { "A": "x\u{0}y" } }), "- env.A: has a NUL character"),
        (json!({ "command": ["x\u{0}y"] }), "- command.0: has a NUL character"),
        (json!({ "env": { "A": "x".repeat(1_000_000) } }), kernel),
        (json!({ "command": ["echo", "x".repeat(1_000_000)] }), kernel),
        (json!({ "env": many }), "command and environment have"),
        (json!({ "features": { "dind": true } }), "- features.dind: is not a known property"),
        (json!({ "onExitStatus": { "retry": [0] } }), "- onExitStatus.retry.0: Must be greater than or equal to 1"),
    ];
    let payloads = cases.iter().map(|(more, _)| container(more.clone())).collect();
    let logs = refused(taking_containers(json!({})), json!(["*"]), payloads).await;
    for ((_, expected), log) in cases.iter().zip(&logs) {
        assert!(log.contains(expected), "{expected:?} is not in\n{log}");
        assert!(log.contains("[taskcluster:error] TASK FAIL since the task payload is invalid. See errors:"), "{log}");
        assert!(log.contains("/schemas/tc-worker/docker.json#"), "the schema is that of containers\n{log}");
        assert!(log.len() < 60_000, "a long value is not repeated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_scopes_that_are_missing_are_named_at_once_also_for_what_the_pool_withholds() {
    let payload = container(json!({
        "capabilities": { "privileged": true, "devices": { "kvm": true, "hostSharedMemory": true } },
        "features": { "allowPtrace": true }, "cache": { "mine": "/m", "ours": "/o", "theirs": "/t" },
    }));
    let scopes = json!([
        "docker-worker:capability:device:kvm:tests/it",
        "generic-worker:cache:mine",
        "docker-worker:cache:ou*",
        "assume:no-such-role"
    ]);
    let config = taking_containers(json!({ "d2gConfig": { "allowPrivileged": false } }));
    let log = refused(config, scopes, vec![payload]).await.remove(0);
    let plain: Vec<&str> = log.lines().map(|line| line.trim_start_matches("[taskcluster:error]").trim()).collect();
    let expected = [
        "d2g task requires scopes:",
        "",
        "(docker-worker:capability:privileged, or",
        "docker-worker:capability:privileged:tests/it)",
        "AND",
        "(docker-worker:capability:device:hostSharedMemory, or",
        "docker-worker:capability:device:hostSharedMemory:tests/it)",
        "AND",
        "(docker-worker:feature:allowPtrace)",
        "AND",
        "(docker-worker:cache:theirs, or",
        "generic-worker:cache:theirs)",
        "",
        "but task only has scopes:",
    ];
    assert!(plain.windows(expected.len()).any(|window| window == expected), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pool_withholds_is_said_in_one_line_each_and_the_task_goes_on() {
    let queue = Deployment::start().await;
    let payload = container(json!({
        "capabilities": { "privileged": true, "disableSeccomp": true }, "features": { "taskclusterProxy": true, "interactive": true },
    }));
    let task = queue.create_with(payload, json!({ "scopes": ["docker-worker:*"], "retries": 0 })).await;
    let allow = json!({ "allowPrivileged": false, "allowTaskclusterProxy": false, "allowInteractive": false });
    let mut worker = queue.worker(taking_containers(json!({ "d2gConfig": allow })));
    assert_eq!(worker.code().await, Some(0));
    let log = queue.log(&task);
    assert!(ADMITTED.contains(&queue.resolution(&task).await.as_str()), "{log}");
    for (what, setting) in [
        ("capabilities.privileged", "allowPrivileged"),
        ("features.interactive", "allowInteractive"),
        ("features.taskclusterProxy", "allowTaskclusterProxy"),
    ] {
        let said = format!("payload.{what} has no effect: this worker pool does not allow it ({setting})");
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&said)).collect();
        assert_eq!(lines.len(), 1, "{said}\n{log}");
        assert!(lines[0].starts_with("[taskcluster:warn "), "{}", lines[0]);
    }
    assert!(!log.contains("disableSeccomp"), "nothing is said about what is allowed\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_come_later_and_run_times_that_are_too_long_are_refused() {
    let payloads = vec![
        container(json!({ "features": { "chainOfTrust": true, "interactive": true } })),
        container(json!({ "maxRunTime": 100 })),
    ];
    let logs = refused(taking_containers(json!({ "maxTaskRunTime": 99 })), json!([]), payloads).await;
    for part in ["features.chainOfTrust", "features.interactive"] {
        assert!(logs[0].contains(&format!("payload.{part} comes with a later version of this worker")), "{}", logs[0]);
    }
    assert!(logs[1].contains("task's maxRunTime of 100 exceeded allowed maximum of 99"), "{}", logs[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_stand_for_what_the_auth_service_says() {
    const EXPAND: &str = "/api/auth/v1/scopes/expand";
    let queue = Deployment::start().await;
    let expanded =
        r#"{"scopes": ["assume:some-role", "docker-worker:capability:privileged", "generic-worker:os-group:tests/it/*"]}"#;
    let native = || {
        let mut payload = script("true");
        payload["osGroups"] = json!(["no-such-group"]);
        payload
    };
    let privileged = || container(json!({ "capabilities": { "privileged": true } }));
    for (payload, answer, expected, said) in [
        (native(), Fate::Answer(200, expanded), &MALFORMED[..], "unsupported osGroups: [no-such-group]"),
        (native(), Fate::Pass, &MALFORMED, "Feature \"OS Groups\" requires scopes:"),
        (privileged(), Fate::Answer(200, expanded), &ADMITTED, "engine"),
        (privileged(), Fate::Pass, &MALFORMED, "d2g task requires scopes:"),
        (privileged(), Fate::Answer(403, "{}"), &MALFORMED, "auth.expandScopes: HTTP status 403"),
    ] {
        let proxy =
            Proxy::start(queue.address(), move |_, path| if path == EXPAND { answer.clone() } else { Fate::Pass }).await;
        let task = queue.create_with(payload, json!({ "scopes": ["assume:some-role"], "retries": 0 })).await;
        let mut worker = queue.worker_at(&proxy.root_url(), taking_containers(json!({})));
        assert_eq!(worker.code().await, Some(0));
        let log = queue.log(&task);
        assert!(expected.contains(&queue.resolution(&task).await.as_str()) && log.contains(said), "{said:?}\n{log}");
        assert_eq!(proxy.count("POST", EXPAND), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_what_roles_stand_for_when_nothing_needs_a_scope() {
    let queue = Deployment::start().await;
    let proxy =
        Proxy::start(queue.address(), |_, path| if path.contains("/auth/") { Fate::Answer(403, "{}") } else { Fate::Pass })
            .await;
    let task = queue.create_with(script("true"), json!({ "scopes": ["assume:some-role"] })).await;
    queue.worker_at(&proxy.root_url(), json!({})).wait().await;
    assert_eq!(queue.resolution(&task).await, "completed/completed");
    assert_eq!(proxy.count("POST", "/auth/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_that_only_native_tasks_are_taken() {
    let queue = Deployment::start().await;
    let task = queue.create(script("until [ -e go ]; do sleep 0.01; done")).await;
    let mut config = taking_containers(json!({}));
    config["numberOfTasksToRun"] = json!(1);
    let mut worker = queue.worker(config);
    let file = worker.home().join("worker-status.json");
    let status = || serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap_or_default()).unwrap_or_default();
    until("the task is shown", async || status()["currentTaskIds"] == json!([task])).await;
    let why = status()["nativeTasksOnly"].as_str().expect("why").to_owned();
    assert!(why.contains("/nonexistent/docker.sock"), "{why}");
    assert!(status().get("notClaiming").is_none(), "native tasks are claimed");
    let tasks = worker.home().join("tasks");
    let directory = async || std::fs::read_dir(&tasks).ok()?.find_map(Result::ok).map(|entry| entry.path());
    let directory = until_some("the task has its directory", directory).await;
    std::fs::write(directory.join("go"), "").expect("told");
    assert_eq!(worker.code().await, Some(0), "{}", worker.stderr());
}
