//! The worker under the faults of the embedded queue, on every call of the main road: each run is resolved once or its claim was lost first,
//! and the bytes that were uploaded are those of the file.

use std::time::Duration;

use nix::sys::signal::Signal::SIGINT;
use serde_json::{Value, json};
use tc_worker::{api::TaskStatus, local::Faults};

use crate::support::{Deployment, Worker, script, until};

/// The calls of the main road.
const ROAD: &[&str] = &[
    "claimWork",
    "reclaimTask",
    "POST /*/artifacts/public%2Flogs%2Flive.log",
    "POST /*/artifacts/public%2Fgzip",
    "POST /*/artifacts/public%2Fidentity",
    "POST /*/artifacts/public%2Flogs%2Flive_backing.log",
    "PUT /storage/*/public/gzip",
    "PUT /storage/*/public/identity",
    "PUT /storage/*/public/logs/live_backing.log",
    "reportCompleted",
    "reportFailed",
    "reportException",
];
/// The uploads of its artifacts.
const UPLOADS: &[&str] = &["PUT /storage/*/public/gzip", "PUT /storage/*/public/identity"];

/// How long claims hold: short, so that a lost one comes back soon; long enough for a loaded machine.
const CLAIM: Duration = Duration::from_secs(6);

async fn deployment(seed: u64, rules: &[String]) -> Deployment {
    let faults = Faults::parse(seed, rules.iter().map(String::as_str)).unwrap_or_else(|error| panic!("{error}"));
    Deployment::with(|options| {
        options.claim_timeout = CLAIM;
        options.faults = faults;
    })
    .await
}

/// A worker that ends after this many runs, or when it is told to go.
fn worker(queue: &Deployment, runs: u32, capacity: u8) -> Worker {
    queue.worker(json!({ "numberOfTasksToRun": runs, "capacity": capacity }))
}

/// A payload that publishes 2 MB that do not compress, twice, once something is there.
fn two_megabytes(go: &std::path::Path) -> Value {
    let wait = format!("until [ -e '{}' ]; do sleep 0.02; done", go.display());
    let mut payload = script(&format!("head -c 2000000 /dev/urandom > a.bin; cp a.bin b.zip; {wait}"));
    payload["artifacts"] = json!([
        { "type": "file", "path": "a.bin", "name": "public/gzip" }, { "type": "file", "path": "b.zip", "name": "public/identity" }
    ]);
    payload
}

/// Reasons of all runs, the last one's at the end.
fn reasons(status: &TaskStatus) -> Vec<&str> {
    status.runs.iter().map(|run| run.reason_resolved.as_deref().unwrap_or("-")).collect()
}

fn is_resolved(status: &TaskStatus) -> bool {
    ["completed", "failed", "exception"].contains(&status.state.as_str())
}

/// Lets the same fault happen once on each call of `road`, with a task for every kind of resolution. `losing` says that claims may be lost.
async fn once_everywhere(fault: &str, road: &[&str], losing: bool) {
    let rules: Vec<String> = road.iter().map(|place| format!("{place}: {fault}, first 1")).collect();
    let queue = deployment(1, &rules).await;
    let go = queue.dir.path().join("go");
    let tasks = [
        ("completed", queue.create(two_megabytes(&go)).await),
        ("failed", queue.create(script("false")).await),
        ("malformed-payload", queue.create(json!({ "command": "no list" })).await),
    ];
    let mut worker = worker(&queue, 3, 4);
    let renewals = road.iter().position(|place| *place == "reclaimTask");
    until(&format!("a claim was renewed under `{fault}`"), async || {
        renewals.is_none_or(|position| queue.server.faults_met()[position] > 0)
    })
    .await;
    std::fs::write(&go, "").expect("the task goes on");
    for (expected, task) in &tasks {
        let status =
            queue.wait_for(task, &format!("the task that ends {expected} is resolved under `{fault}`"), is_resolved).await;
        let reasons = reasons(&status);
        let (last, before) = reasons.split_last().expect("a run");
        assert_eq!(last, expected, "{fault}: {reasons:?}\n{}", worker.stderr());
        let stolen = before.iter().filter(|reason| **reason == "claim-expired").count();
        assert!(stolen == before.len() && (losing || stolen == 0), "{fault}: {reasons:?}\n{}", worker.stderr());
    }
    assert_eq!(worker.code().await, Some(0), "{fault}");
    let (gzip, identity) = (queue.artifact(&tasks[0].1, "public/gzip"), queue.artifact(&tasks[0].1, "public/identity"));
    assert!(gzip.is_some() && gzip == identity && gzip.is_some_and(|bytes| bytes.len() == 2_000_000), "{fault}");
    assert!(queue.log(&tasks[1].1).contains("Exit Code: 1"), "{fault}: {}", queue.log(&tasks[1].1));
    let met = queue.server.faults_met();
    assert!(met.iter().all(|met| *met == 1), "{fault}: {met:?} of {rules:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_do_not_arrive_are_repeated() {
    for fault in ["drop request", "status 503", "status 429 retry after 1s", "delay 1s"] {
        once_everywhere(fault, ROAD, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_get_lost_cost_a_claim_at_most() {
    for fault in ["drop answer", "late status 504"] {
        once_everywhere(fault, ROAD, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_none_cost_a_claim_at_most() {
    for fault in ["garbage", "garbage http"] {
        once_everywhere(fault, ROAD, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_half_cost_a_claim_at_most() {
    for fault in ["cut answer after half", "wrong length"] {
        once_everywhere(fault, ROAD, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_are_cut_refused_or_too_late_are_repeated() {
    for fault in ["cut after 1MB", "half body", "status 400", "expired", "status 500"] {
        once_everywhere(fault, UPLOADS, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_claim_ends_the_run_and_the_next_one_has_the_task() {
    for place in ["claimWork", "reclaimTask", "createArtifact", "reportCompleted"] {
        let queue = deployment(1, &[format!("{place}: stolen, first 1")]).await;
        let go = queue.dir.path().join("go");
        let task = queue.create(two_megabytes(&go)).await;
        let mut worker = worker(&queue, 0, 1);
        // A lost claim is noticed at the latest when it is to be renewed; with the first run held until then, nothing else is in its way.
        if ["claimWork", "reclaimTask"].contains(&place) {
            worker.says("is not ours any more: task aborted - the claim on it was lost").await;
        }
        std::fs::write(&go, "").expect("the task goes on");
        let status = queue.wait_for(&task, &format!("the task is resolved with {place} stolen"), is_resolved).await;
        assert_eq!(reasons(&status), ["claim-expired", "completed"], "{place}\n{}", worker.stderr());
        worker.signal(SIGINT);
        assert_eq!(worker.code().await, Some(71), "{place}");
        let (gzip, identity) = (queue.artifact(&task, "public/gzip"), queue.artifact(&task, "public/identity"));
        assert!(gzip.is_some() && gzip == identity && gzip.is_some_and(|bytes| bytes.len() == 2_000_000), "{place}");
        assert_eq!(queue.server.faults_met(), [1], "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_claim_without_retries_is_the_end() {
    let queue = deployment(1, &["claimWork: stolen".to_owned()]).await;
    let task = queue.create_with(script("sleep 300"), json!({ "retries": 1 })).await;
    let mut worker = worker(&queue, 2, 1);
    assert_eq!(worker.code().await, Some(0));
    assert_eq!(reasons(&queue.status(&task).await), ["claim-expired", "claim-expired"]);
}

/// Everything at once, here and there.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_tasks_survive_a_bad_day() {
    const RULES: &[&str] = &[
        "*: delay 200ms, 5%",
        "*: drop, 2%",
        "*: status 503, 1%",
        "*: status 429 retry after 1s, 1%",
        "*: late status 502, 1%",
        "*: garbage, 1%",
        "*: garbage http, 1%",
        "*: half body, 1%",
        "*: wrong length, 1%",
        "PUT artifact: expired, 3%",
        "PUT artifact: cut after 10, 3%",
        "report*: stolen, 2%",
        "reclaimTask: stolen, 5%",
        "claimWork: stolen, 5%",
    ];
    // Another seed is another day.
    let seed = std::env::var("TC_FAULTS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(5);
    let rules: Vec<String> = RULES.iter().map(|rule| (*rule).to_owned()).collect();
    let queue = deployment(seed, &rules).await;
    let mut tasks = Vec::new();
    for n in 0..60 {
        let mut payload = script(&format!("echo {n} > n.txt"));
        payload["artifacts"] = json!([{ "type": "file", "path": "n.txt", "name": "public/n" }]);
        tasks.push(queue.create(payload).await);
    }
    let mut worker = worker(&queue, 0, 8);
    for (n, task) in tasks.iter().enumerate() {
        let status = queue.wait_for(task, &format!("task {n} is resolved, seed {seed}"), is_resolved).await;
        let reasons = reasons(&status);
        let (last, before) = reasons.split_last().expect("a run");
        assert!(before.iter().all(|reason| *reason == "claim-expired"), "seed {seed}, task {n} {task}: {reasons:?}");
        // Six runs, none of which could keep its claim, are what the task's retries allow.
        assert!(
            *last == "completed" || (*last == "claim-expired" && reasons.len() == 6),
            "seed {seed}, task {n} {task}: {reasons:?}"
        );
        if *last == "completed" {
            assert_eq!(queue.artifact(task, "public/n"), Some(format!("{n}\n").into_bytes()), "seed {seed}, task {n} {task}");
            assert!(queue.log(task).contains("Exit Code: 0"), "seed {seed}, task {n} {task}");
        }
    }
    worker.signal(SIGINT);
    assert_eq!(worker.code().await, Some(71), "seed {seed}");
    let met = queue.server.faults_met();
    assert!(met.iter().sum::<u64>() > 30, "seed {seed}: {met:?}");
}
