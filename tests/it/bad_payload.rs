//! Payloads that are wrong, or that do wrong things.

use serde_json::{Value, json};

use crate::support::{Deployment, script};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_payloads_name_every_problem_and_have_no_live_log() {
    let queue = Deployment::start().await;
    let ok = || script("true");
    let with = |key: &str, value: Value| {
        let mut payload = ok();
        payload[key] = value;
        payload
    };
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let cases = [
        (json!({}), "command"),
        (with("unknown", json!(1)), "unknown"),
        (with("env", json!({ "A": 1 })), "env.A"),
        (with("command", json!([])), "command"),
        (with("maxRunTime", json!("60")), "maxRunTime"),
        (with("onExitStatus", json!({ "retry": [-1] })), "onExitStatus.retry.0: Must be greater than or equal to 1"),
        (
            with("artifacts", json!([{ "type": "file", "path": "a", "contentEncoding": "jpg" }])),
            "artifacts.0.contentEncoding: artifacts.0.contentEncoding must be one of the following: \"identity\", \"gzip\"",
        ),
        (with("env", json!({ "DEEP": deep })), "env.DEEP"),
        (with("features", json!({ "chainOfTrust": true })), "chainOfTrust"),
        (with("features", json!({ "taskclusterProxy": true })), "comes with a later version"),
        (with("mounts", json!([{ "directory": "d", "cacheName": "c" }])), "comes with a later version"),
        (json!({ "image": "busybox", "maxRunTime": 10 }), "docker worker payload detected"),
        (with("osGroups", json!(["no-such-group"])), "osGroups"),
    ];
    let mut tasks = Vec::new();
    for (payload, expected) in cases {
        let scopes = json!({ "scopes": ["generic-worker:os-group:*"] });
        tasks.push((queue.create_with(payload, scopes).await, expected));
    }
    let mut worker = queue.worker(json!({ "numberOfTasksToRun": tasks.len(), "capacity": 2 }));
    assert_eq!(worker.code().await, Some(0));
    for (task, expected) in tasks {
        assert_eq!(queue.resolution(&task).await, "exception/malformed-payload", "{expected}");
        let log = queue.log(&task);
        assert!(log.contains(expected), "{expected:?} is not in\n{log}");
        assert!(!queue.artifacts(&task).contains_key("public/logs/live.log"), "{expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_problems_are_shown_at_once() {
    let queue = Deployment::start().await;
    let payload = json!({ "command": [[1]], "maxRunTime": 0, "env": { "A": 1 }, "osGroups": "x", "surplus": true });
    let task = queue.create(payload).await;
    queue.worker(json!({})).wait().await;
    let log = queue.log(&task);
    for field in ["command.0.0", "maxRunTime", "env.A", "osGroups", "surplus"] {
        assert!(log.contains(&format!("[taskcluster:error] - {field}")) || log.contains(field), "{field} is not in\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_commands_end_with_the_right_resolution() {
    let queue = Deployment::start().await;
    let nul = json!({ "command": [["/bin/echo", "a\u{0}b"]], "maxRunTime": 9 });
    let mut nul_env = script("true");
    nul_env["env"] = json!({ "A": "x\u{0}y" });
    let long = "x".repeat(3_000_000);
    let cases = [
        (nul, "failed/failed"),
        (nul_env, "failed/failed"),
        (json!({ "command": [["/bin/echo", long]], "maxRunTime": 9 }), "failed/failed"),
        (script("cd ..; rm -rf \"$TASK_WORKDIR\""), "completed/completed"),
        (script("printf '\\377\\376 no newline at the end'"), "completed/completed"),
        (script("head -c 100000 /dev/zero"), "completed/completed"),
        (script("(sleep 0.1; kill -CONT $$) & kill -STOP $$"), "completed/completed"),
        (script("echo x > /dev/stdout; echo y >> /dev/stderr"), "completed/completed"),
    ];
    let mut tasks = Vec::new();
    for (payload, expected) in cases {
        tasks.push((queue.create(payload).await, expected));
    }
    let mut worker = queue.worker(json!({ "numberOfTasksToRun": tasks.len() }));
    assert_eq!(worker.code().await, Some(0));
    for (task, expected) in tasks {
        assert_eq!(queue.resolution(&task).await, expected, "{}", queue.log(&task));
        assert!(queue.log(&task).contains("Task ID: "), "what the task wrote did not cut the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_its_parent_does_not_end_the_worker_silently() {
    // As a user of its own the task could not do this; as the current user it can, and the lease then helps.
    let queue = Deployment::with_claim_timeout(std::time::Duration::from_secs(2)).await;
    let task = queue.create_with(script("kill -9 $PPID; sleep 60"), json!({ "retries": 0 })).await;
    let mut worker = queue.worker(json!({}));
    let status = worker.wait().await;
    let resolution = queue.resolution(&task).await;
    assert!(
        (!status.success() && resolution == "exception/claim-expired") || resolution == "exception/internal-error",
        "{status} {resolution}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_that_the_payload_may_not_take_are_left_to_their_owners() {
    let queue = Deployment::start().await;
    let mut payload =
        script("mkdir -p public/logs; echo fake > public/logs/live.log; echo fake > public/logs/live_backing.log");
    payload["artifacts"] = json!([{ "type": "directory", "path": "public" }]);
    let task = queue.create(payload).await;
    queue.worker(json!({})).wait().await;
    assert_eq!(queue.resolution(&task).await, "completed/completed");
    let log = queue.log(&task);
    assert!(log.contains("Not uploading artifact public/logs/live.log found in task.payload.artifacts section"), "{log}");
    assert_eq!(queue.artifacts(&task)["public/logs/live.log"], "link");
}

#[tokio::test(flavor = "multi_thread")]
async fn artifact_expiry_is_checked_against_the_task() {
    let queue = Deployment::start().await;
    let now = jiff::Timestamp::now();
    let at = |hours| (now + jiff::SignedDuration::from_hours(hours)).to_string();
    let cases = [
        (at(0), "exception/malformed-payload", "expires before task deadline"),
        (at(2), "completed/completed", "Result: SUCCEEDED"),
        (at(48), "exception/malformed-payload", "expires after task expiry"),
    ];
    for (expires, expected, text) in cases {
        let mut payload = script("echo > a");
        payload["artifacts"] = json!([{ "type": "file", "path": "a", "expires": expires }]);
        let task = queue.create(payload).await;
        queue.worker(json!({})).wait().await;
        assert_eq!(queue.resolution(&task).await, expected);
        assert!(queue.log(&task).contains(text), "{}", queue.log(&task));
    }
}
