//! Telling the worker to go, in every combination of signal, claim and running task.

use nix::sys::signal::Signal::{SIGINT, SIGTERM};
use serde_json::json;

use crate::support::{Deployment, script};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_running_tasks_and_hands_them_on() {
    let queue = Deployment::start().await;
    let task = queue.create_with(script("sleep 300"), json!({ "retries": 1 })).await;
    let mut worker = queue.worker(json!({ "numberOfTasksToRun": 0 }));
    worker.says("Executing command 0").await;
    worker.signal(SIGTERM);
    assert_eq!(worker.code().await, Some(72));
    let status = queue.status(&task).await;
    assert_eq!(status.runs[0].reason_resolved.as_deref(), Some("worker-shutdown"));
    assert_eq!(status.runs.len(), 2, "the queue gives it to another worker");
    let log = String::from_utf8_lossy(&queue.artifact(&task, "public/logs/live_backing.log").expect("a log")).into_owned();
    assert_eq!(log.lines().last(), Some("[taskcluster:error] graceful termination requested, without time to finish tasks"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_goes_does_not_claim_again_what_it_hands_back() {
    let queue = Deployment::start().await;
    let mut worker = queue.worker(json!({ "numberOfTasksToRun": 0, "capacity": 3 }));
    let mut tasks = Vec::new();
    for _ in 0..2 {
        tasks.push(queue.create_with(script("sleep 300"), json!({ "retries": 1 })).await);
        worker.says("Executing command 0").await;
    }
    // The third slot waits for work.
    worker.signal(SIGTERM);
    assert_eq!(worker.code().await, Some(72));
    for task in tasks {
        let status = queue.status(&task).await;
        let runs: Vec<_> = status.runs.iter().map(|run| (run.state.as_str(), run.reason_resolved.as_deref())).collect();
        assert_eq!(runs, [("exception", Some("worker-shutdown")), ("pending", None)]);
    }
    assert!(!worker.stderr().contains("back unstarted"), "{}", worker.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_lets_running_tasks_finish() {
    let queue = Deployment::start().await;
    let go = queue.dir.path().join("go");
    let task = queue.create(script(&format!("until [ -e {} ]; do sleep 0.01; done", go.display()))).await;
    let mut worker = queue.worker(json!({ "numberOfTasksToRun": 0 }));
    worker.says("Executing command 0").await;
    worker.signal(SIGINT);
    worker.says("once the running tasks are done").await;
    std::fs::write(&go, "").expect("the task goes on");
    assert_eq!(worker.code().await, Some(71));
    assert_eq!(queue.resolution(&task).await, "completed/completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_of_either_kind_aborts() {
    for (first, second) in [(SIGINT, SIGINT), (SIGINT, SIGTERM), (SIGTERM, SIGINT)] {
        let queue = Deployment::start().await;
        let task = queue.create_with(script("sleep 300"), json!({ "retries": 0 })).await;
        let mut worker = queue.worker(json!({ "numberOfTasksToRun": 0 }));
        worker.says("Executing command 0").await;
        worker.signal(first);
        worker.says("Told to go").await;
        worker.signal(second);
        assert_eq!(worker.code().await, Some(72), "{first} {second}");
        assert_eq!(queue.resolution(&task).await, "exception/worker-shutdown", "{first} {second}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_goes_as_soon_as_its_call_is_answered() {
    let queue = Deployment::start().await;
    let mut worker = queue.worker(json!({ "numberOfTasksToRun": 0 }));
    worker.says("workerReady").await;
    worker.signal(SIGINT);
    worker.says("Told to go").await;
    // The call for work is still open; what it brings is handed back unstarted.
    let task = queue.create_with(script("echo never"), json!({ "retries": 0 })).await;
    assert_eq!(worker.code().await, Some(71));
    assert_eq!(queue.resolution(&task).await, "exception/worker-shutdown");
    assert!(!worker.stderr().contains("Executing command"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_that_has_to_go_at_once_takes_no_task_with_it() {
    let queue = Deployment::start().await;
    let mut worker = queue.worker(json!({ "numberOfTasksToRun": 0 }));
    worker.says("workerReady").await;
    worker.signal(SIGTERM);
    assert_eq!(worker.code().await, Some(72));
    let task = queue.create_with(script("echo never"), json!({ "retries": 0 })).await;
    assert_eq!(queue.status(&task).await.state, "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_signal_ends_the_worker_at_once() {
    let queue = Deployment::start().await;
    queue.create(script("sleep 300")).await;
    // A queue that answers nothing any more: without the third signal the worker would try to report for long.
    let proxy = crate::support::proxy::Proxy::start(queue.address(), |_, path| {
        if path.contains("/exception") { crate::support::proxy::Fate::Hang } else { crate::support::proxy::Fate::Pass }
    })
    .await;
    let mut worker = queue.worker_at(&proxy.root_url(), json!({ "numberOfTasksToRun": 0 }));
    worker.says("Executing command 0").await;
    worker.signal(SIGTERM);
    worker.says("Told to go").await;
    crate::support::until("the report hangs", async || proxy.count("POST", "/exception") > 0).await;
    // Signals that come together count as one, so they are sent until the worker has counted enough.
    let mut sent = 1;
    while !worker.has_ended() {
        worker.signal(SIGTERM);
        sent += 1;
        crate::support::pause().await;
        assert!(sent < 1000, "the worker does not end");
    }
    assert_eq!(worker.code().await, Some(72));
}
