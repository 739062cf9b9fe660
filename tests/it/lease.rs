//! A run is ours for as long as its lease lasts, and no longer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;

use crate::support::{
    Deployment,
    proxy::{Fate, Proxy},
    script, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn short_leases_are_renewed_while_the_task_runs() {
    let queue = Deployment::with_claim_timeout(Duration::from_secs(2)).await;
    let proxy = Proxy::start(queue.address(), |_, _| Fate::Pass).await;
    let go = queue.dir.path().join("go");
    let task = queue.create(script(&format!("until [ -e {} ]; do sleep 0.01; done", go.display()))).await;
    let mut worker = queue.worker_at(&proxy.root_url(), json!({}));
    until("the lease was renewed four times", async || proxy.count("POST", "/reclaim") >= 4).await;
    std::fs::write(&go, "").expect("the task goes on");
    assert_eq!(worker.code().await, Some(0));
    let status = queue.status(&task).await;
    assert_eq!((status.runs.len(), status.state.as_str()), (1, "completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_renewals_are_repeated_and_do_not_hurt() {
    let queue = Deployment::with_claim_timeout(Duration::from_secs(8)).await;
    let refused = Arc::new(AtomicUsize::new(0));
    let proxy = Proxy::start(queue.address(), {
        let refused = Arc::clone(&refused);
        move |_, path| {
            if path.contains("/reclaim") && refused.fetch_add(1, Ordering::SeqCst) < 2 {
                Fate::Answer(500, "{}")
            } else {
                Fate::Pass
            }
        }
    })
    .await;
    let go = queue.dir.path().join("go");
    let task = queue.create(script(&format!("until [ -e {} ]; do sleep 0.01; done", go.display()))).await;
    let mut worker = queue.worker_at(&proxy.root_url(), json!({}));
    until("the lease was renewed after all", async || refused.load(Ordering::SeqCst) >= 3).await;
    std::fs::write(&go, "").expect("the task goes on");
    worker.wait().await;
    let status = queue.status(&task).await;
    assert_eq!((status.runs.len(), status.state.as_str()), (1, "completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_cannot_be_renewed_ends_the_task_and_nothing_is_reported() {
    let queue = Deployment::with_claim_timeout(Duration::from_secs(3)).await;
    let proxy = Proxy::start(queue.address(), |_, path| if path.contains("/reclaim") { Fate::Cut } else { Fate::Pass }).await;
    let task = queue.create_with(script("sleep 300"), json!({ "retries": 0 })).await;
    let mut worker = queue.worker_at(&proxy.root_url(), json!({}));
    worker.wait().await;
    assert_eq!(queue.resolution(&task).await, "exception/claim-expired");
    assert_eq!(proxy.count("POST", "/failed") + proxy.count("POST", "/exception"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_task_is_ended_by_the_status_poll() {
    let queue = Deployment::start().await;
    let task = queue.create(script("sleep 300")).await;
    let mut worker = queue.worker(json!({ "tcWorker": { "cancelPollSecs": 1 } }));
    worker.says("Executing command 0").await;
    queue.queue.cancel_task(&task).await.expect("canceled");
    worker.wait().await;
    assert_eq!(queue.resolution(&task).await, "exception/canceled");
    assert!(queue.log(&task).contains("[taskcluster:error] task was canceled"), "{}", queue.log(&task));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_acted_on_at_once() {
    let queue = Deployment::start().await;
    let deadline = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3)).to_string();
    let task = queue.create_with(script("sleep 300"), json!({ "deadline": deadline })).await;
    let mut worker = queue.worker(json!({}));
    worker.wait().await;
    assert_eq!(queue.resolution(&task).await, "exception/deadline-exceeded");
    assert!(worker.stderr().contains("its deadline has passed"), "{}", worker.stderr());
}
