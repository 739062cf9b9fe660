//! The main road: from a queue through processes to a resolution, a log and artifacts.

use serde_json::json;

use crate::support::{Deployment, script};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_completes_with_its_log_and_its_artifacts() {
    let queue = Deployment::start().await;
    let mut payload =
        script("echo hello; mkdir out; echo one > out/a.txt; printf '\\x00\\xff' > out/b.bin; echo $TASK_ID $RUN_ID");
    payload["artifacts"] = json!([{ "type": "directory", "path": "out", "name": "public/out" }]);
    let task = queue.create(payload).await;
    let mut worker = queue.worker(json!({}));
    assert_eq!(worker.code().await, Some(0));
    assert_eq!(queue.resolution(&task).await, "completed/completed");
    assert_eq!(queue.artifact(&task, "public/out/a.txt").expect("published"), b"one\n");
    assert_eq!(queue.artifact(&task, "public/out/b.bin").expect("published"), b"\x00\xff");
    let kinds = queue.artifacts(&task);
    assert_eq!(kinds["public/logs/live.log"], "link");
    assert_eq!(kinds["public/logs/live_backing.log"], "s3");
    let log = queue.log(&task);
    let expected = [
        "] Worker Type (tests/it) settings:\n",
        &format!("] Task ID: {task}\n"),
        "] === Task Starting ===\n",
        "] Executing command 0: /bin/bash -c 'echo hello;",
        "\nhello",
        &format!("\n{task} 0\n"),
        "]                        Exit Code: 0\n",
        "]                           Result: SUCCEEDED\n",
        "] === Task Finished ===\n",
        "] Task Duration: ",
    ];
    let mut rest = log.as_str();
    for part in expected {
        let Some((_, after)) = rest.split_once(part) else { panic!("no {part:?} in the rest of the log:\n{log}") };
        rest = after;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_order_and_stop_at_the_first_that_fails() {
    let queue = Deployment::start().await;
    let payload = json!({
        "command": [["/bin/sh", "-c", "echo first"], ["/bin/sh", "-c", "exit 3"], ["/bin/sh", "-c", "echo never"]],
        "maxRunTime": 60,
    });
    let task = queue.create(payload).await;
    queue.worker(json!({})).wait().await;
    assert_eq!(queue.resolution(&task).await, "failed/failed");
    let log = queue.log(&task);
    assert!(log.contains("\nfirst\n") && !log.contains("\nnever\n"), "{log}");
    assert!(log.contains("]                        Exit Code: 3\n") && log.contains("Result: FAILED\n"), "{log}");
    assert_eq!(log.lines().last(), Some("[taskcluster:error] exit status 3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_a_command_has_its_resolution() {
    let queue = Deployment::start().await;
    let retry = |code: i64| json!({ "retry": [code] });
    let with = |mut payload: serde_json::Value, key: &str, value: serde_json::Value| {
        payload[key] = value;
        payload
    };
    let cases = [
        (script("exit 0"), "completed/completed", ""),
        (script("exit 1"), "failed/failed", "exit status 1"),
        (script("kill -9 $$"), "failed/failed", "signal: killed"),
        (with(script("exit 5"), "onExitStatus", retry(6)), "failed/failed", "exit status 5"),
        (
            json!({ "command": [["no-such-program"]], "maxRunTime": 9 }),
            "failed/failed",
            "exec: \"no-such-program\": executable file not found in $PATH",
        ),
        (json!({ "command": [["/etc/passwd"]], "maxRunTime": 9 }), "failed/failed", "fork/exec /etc/passwd: permission denied"),
        (with(script("sleep 300"), "maxRunTime", json!(1)), "failed/failed", "task aborted - max run time exceeded"),
        (
            with(script("true"), "artifacts", json!([{ "type": "file", "path": "none", "name": "public/none" }])),
            "failed/failed",
            "file-missing-on-worker",
        ),
        (
            with(script("true"), "maxRunTime", json!(100_000)),
            "exception/malformed-payload",
            "task's maxRunTime of 100000 exceeded allowed maximum of 86400",
        ),
    ];
    let mut tasks = Vec::new();
    for (payload, resolution, last) in cases {
        tasks.push((queue.create(payload).await, resolution, last));
    }
    // Without retries, so that the intermittent task ends.
    let intermittent = queue.create_with(with(script("exit 6"), "onExitStatus", retry(6)), json!({ "retries": 0 })).await;
    tasks.push((intermittent, "exception/intermittent-task", "exit code 6 found in task payload.onExitStatus list"));
    let mut worker = queue.worker(json!({ "capacity": 4, "numberOfTasksToRun": tasks.len() }));
    assert_eq!(worker.code().await, Some(0));
    for (task, resolution, last) in tasks {
        assert_eq!(queue.resolution(&task).await, resolution, "{}", queue.log(&task));
        let log = queue.log(&task);
        if !last.is_empty() {
            let end = log.lines().last().unwrap_or_default();
            assert!(end.starts_with("[taskcluster:error] ") && end.contains(last), "{last:?} is not at the end of\n{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_code_gives_the_task_another_run() {
    let queue = Deployment::start().await;
    let mut payload = script("test $RUN_ID = 1 || exit 7");
    payload["onExitStatus"] = json!({ "retry": [7] });
    let task = queue.create_with(payload, json!({ "retries": 3 })).await;
    queue.worker(json!({ "numberOfTasksToRun": 2 })).wait().await;
    let status = queue.status(&task).await;
    assert_eq!(status.runs.len(), 2);
    assert_eq!(status.runs[0].reason_resolved.as_deref(), Some("intermittent-task"));
    assert_eq!(status.runs[1].state, "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn capacity_is_filled_and_refilled() {
    let queue = Deployment::start().await;
    // Each task waits until all four are there, so that fewer slots than four would never end.
    let meet = queue.dir.path().join("meet");
    std::fs::create_dir(&meet).expect("a directory");
    let wait = format!("touch {0}/$TASK_ID; until [ $(ls {0} | wc -l) -ge 4 ]; do sleep 0.01; done", meet.display());
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(queue.create(script(&wait)).await);
    }
    for _ in 0..36 {
        tasks.push(queue.create(script("true")).await);
    }
    let mut worker = queue.worker(json!({ "capacity": 4, "numberOfTasksToRun": 40 }));
    assert_eq!(worker.code().await, Some(0));
    for task in tasks {
        assert_eq!(queue.resolution(&task).await, "completed/completed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_ends_with_68() {
    let queue = Deployment::with_claim_timeout(std::time::Duration::from_secs(60)).await;
    let mut worker = queue.worker(json!({ "idleTimeoutSecs": 1, "numberOfTasksToRun": 0 }));
    assert_eq!(worker.code().await, Some(68));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workers_log_has_the_lines_that_monitors_look_for() {
    let queue = Deployment::start().await;
    let task = queue.create(script("true")).await;
    let mut worker = queue.worker(json!({}));
    assert_eq!(worker.code().await, Some(0));
    let log = worker.stderr();
    let messages: Vec<&str> = log
        .lines()
        .map(|line| {
            let (date, message) = line.split_once("Z ").unwrap_or_else(|| panic!("no date: {line}"));
            assert_eq!(date.len(), "2026/01/02 03:04:05".len(), "{line}");
            message
        })
        .collect();
    for begin in ["Starting task feature ", "Executing command 0", "Resolved 1 tasks in total so far"] {
        assert!(messages.iter().any(|message| message.starts_with(begin)), "no line begins with {begin:?}:\n{log}");
    }
    let metrics: Vec<serde_json::Value> = messages
        .iter()
        .filter_map(|message| message.strip_prefix("WORKER_METRICS "))
        .map(|rest| serde_json::from_str(rest).expect("the rest of the line is JSON"))
        .collect();
    for event in ["workerReady", "taskStart", "taskFinish"] {
        let line = metrics.iter().find(|line| line["eventType"] == event).unwrap_or_else(|| panic!("no {event}:\n{log}"));
        assert!(line["timestamp"].is_i64() && line["workerId"] == "one" && line["workerPoolId"] == "tests/it", "{line}");
        assert!(event == "workerReady" || (line["runId"] == 0 && line["taskId"] == task.as_str()), "{line}");
    }
}
