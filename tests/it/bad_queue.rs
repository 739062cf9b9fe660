//! A queue that has a bad day: nothing is lost, nothing is resolved twice, and the worker does not hang.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal::SIGINT;
use serde_json::json;

use crate::support::{
    Deployment,
    proxy::{Fate, Proxy},
    script,
};

/// A proxy that spoils the first `times` requests whose path contains `part`.
async fn spoiled(queue: &Deployment, method: &'static str, part: &'static str, times: usize, fate: Fate) -> Proxy {
    let seen = AtomicUsize::new(0);
    Proxy::start(queue.address(), move |m, path| {
        if m == method && path.contains(part) && seen.fetch_add(1, Ordering::SeqCst) < times {
            fate.clone()
        } else {
            Fate::Pass
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_fail_are_tried_again() {
    for fate in [
        Fate::Answer(500, "{}"),
        Fate::Answer(403, "{\"code\": \"InsufficientScopes\", \"message\": \"no\"}"),
        Fate::Garbage,
        Fate::HalfBody,
        Fate::Cut,
    ] {
        let queue = Deployment::start().await;
        let proxy = spoiled(&queue, "POST", "/claim-work/", 1, fate.clone()).await;
        let task = queue.create(script("echo hello")).await;
        let mut worker = queue.worker_at(&proxy.root_url(), json!({}));
        assert_eq!(worker.code().await, Some(0), "{fate:?}");
        assert!(worker.stderr().contains("Could not claim work. "), "{fate:?}: {}", worker.stderr());
        assert_eq!(queue.resolution(&task).await, "completed/completed", "{fate:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_fails_is_repeated_until_the_queue_knows() {
    for fate in [Fate::Answer(500, "{}"), Fate::Answer(429, "{}"), Fate::Cut, Fate::HalfBody, Fate::LoseAnswer] {
        let queue = Deployment::start().await;
        let proxy = spoiled(&queue, "POST", "/completed", 2, fate.clone()).await;
        let task = queue.create(script("echo hello")).await;
        let mut worker = queue.worker_at(&proxy.root_url(), json!({}));
        assert_eq!(worker.code().await, Some(0), "{fate:?}");
        let status = queue.status(&task).await;
        assert_eq!((status.state.as_str(), status.runs.len()), ("completed", 1), "{fate:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_survive_refused_and_lost_calls() {
    for fate in [Fate::Answer(500, "{}"), Fate::Cut, Fate::LoseAnswer, Fate::Garbage] {
        let queue = Deployment::start().await;
        let proxy = spoiled(&queue, "POST", "/artifacts/", 3, fate.clone()).await;
        let mut payload = script("seq 1 1000 > numbers");
        payload["artifacts"] = json!([{ "type": "file", "path": "numbers", "name": "public/numbers" }]);
        let task = queue.create(payload).await;
        let mut worker = queue.worker_at(&proxy.root_url(), json!({}));
        assert_eq!(worker.code().await, Some(0), "{fate:?}");
        assert_eq!(queue.resolution(&task).await, "completed/completed", "{fate:?}");
        let bytes = queue.artifact(&task, "public/numbers").expect("published");
        assert_eq!(bytes.split(|b| *b == b'\n').count(), 1001, "{fate:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_on_an_artifact_of_our_own_run_is_the_payloads_fault() {
    let queue = Deployment::start().await;
    let proxy = Proxy::start(queue.address(), |method, path| {
        if method == "POST" && path.contains("numbers") {
            Fate::Answer(409, "{\"code\": \"RequestConflict\"}")
        } else {
            Fate::Pass
        }
    })
    .await;
    let mut payload = script("seq 1 10 > numbers");
    payload["artifacts"] = json!([{ "type": "file", "path": "numbers", "name": "public/numbers" }]);
    let task = queue.create(payload).await;
    queue.worker_at(&proxy.root_url(), json!({})).wait().await;
    assert_eq!(queue.resolution(&task).await, "exception/malformed-payload");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_comes_second_is_no_error() {
    let queue = Deployment::start().await;
    let task = queue.create(script("sleep 300")).await;
    let mut worker = queue.worker(json!({ "tcWorker": { "cancelPollSecs": 0 } }));
    worker.says("Executing command 0").await;
    queue.queue.cancel_task(&task).await.expect("canceled");
    // The worker learns of it only when it reports.
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(worker.code().await, Some(72));
    assert_eq!(queue.resolution(&task).await, "exception/canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_accepts_and_never_answers_does_not_stop_the_worker_from_going() {
    let queue = Deployment::start().await;
    let proxy = Proxy::start(queue.address(), |_, _| Fate::Hang).await;
    let mut worker = queue.worker_at(&proxy.root_url(), json!({}));
    worker.says("workerReady").await;
    worker.signal(SIGINT);
    assert_eq!(worker.code().await, Some(71));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_queue_ends_the_worker_with_69_after_the_configured_time() {
    let queue = Deployment::start().await;
    // Nobody listens on the port of a listener that is gone.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let mut worker = queue.worker_at(&format!("http://127.0.0.1:{port}"), json!({ "tcWorker": { "giveUpAfterSecs": 2 } }));
    assert_eq!(worker.code().await, Some(69));
    assert!(worker.stderr().matches("Could not claim work. ").count() >= 2, "{}", worker.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_ends_the_worker_with_69() {
    let queue = Deployment::start().await;
    let task = queue.create(script("true")).await;
    let mut worker = queue.worker(json!({ "requiredDiskSpaceMegabytes": 1_000_000_000, "tcWorker": { "giveUpAfterSecs": 2 } }));
    assert_eq!(worker.code().await, Some(69));
    let log = worker.stderr();
    assert!(log.contains("Not claiming any task: ") && log.contains("requiredDiskSpaceMegabytes"), "{log}");
    assert_eq!(queue.status(&task).await.state, "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_report_is_sent_twice_without_need() {
    let queue = Deployment::start().await;
    let reports = Arc::new(AtomicUsize::new(0));
    let proxy = Proxy::start(queue.address(), {
        let reports = Arc::clone(&reports);
        move |_, path| {
            if ["/completed", "/failed", "/exception"].iter().any(|end| path.ends_with(end)) {
                reports.fetch_add(1, Ordering::SeqCst);
            }
            Fate::Pass
        }
    })
    .await;
    for text in ["true", "false", "exit 2"] {
        queue.create(script(text)).await;
    }
    let mut worker = queue.worker_at(&proxy.root_url(), json!({ "numberOfTasksToRun": 3, "capacity": 3 }));
    assert_eq!(worker.code().await, Some(0));
    assert_eq!(reports.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_does_not_delay_the_first_instruction() {
    let queue = Deployment::start().await;
    // Every call but the claim takes a second; the task goes on until it was looked at.
    let proxy = Proxy::start(queue.address(), |_, path| {
        if path.contains("/claim-work/") { Fate::Pass } else { Fate::Delay(Duration::from_secs(1)) }
    })
    .await;
    let dir = tempfile::tempdir().expect("a directory");
    let seen = dir.path().join("seen");
    let task = queue.create(script(&format!("until test -e '{}'; do sleep 0.02; done", seen.display()))).await;
    let mut worker = queue.worker_at(&proxy.root_url(), json!({}));
    worker.says("Executing command 0").await;
    assert_eq!(proxy.count("POST", "/artifacts/"), proxy.seen().iter().filter(|s| s.contains("live.log")).count());
    std::fs::write(seen, "").expect("written");
    worker.wait().await;
    assert_eq!(queue.resolution(&task).await, "completed/completed");
}
