//! How long a task may take, and how it is ended from outside.

use std::time::{Duration, Instant};

use serde_json::json;

use super::bench::{Bench, script, with};
use crate::support::{
    proxy::{Fate, Proxy},
    until,
};

on_all!(the_longest_run_time_ends_the_container);
async fn the_longest_run_time_ends_the_container(bench: Bench) {
    // What ignores SIGTERM is killed all the same.
    let text = "trap '' TERM; echo begun; mkdir /out; echo early > /out/f; while :; do sleep 1; done";
    let payload = with(script(text), "maxRunTime", json!(2));
    let payload = with(payload, "artifacts", json!({ "public/out": { "type": "directory", "path": "/out" } }));
    let began = Instant::now();
    let done = bench.run(payload).await.expect("failed/failed").says("\nbegun\r\n");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(done.log.contains("max run time exceeded"), "{}", done.log);
    assert_eq!(bench.queue.artifact(&done.task_id, "public/out/f").as_deref(), Some(&b"early\n"[..]));
    bench.close();
}

on_newest!(the_run_time_does_not_count_the_image);
async fn the_run_time_does_not_count_the_image(bench: Bench) {
    let publisher = bench.publish(&["stacked.tar"]).await;
    let task = bench.create_in(&publisher, "stacked.tar", &["true"]).await;
    let image = json!({ "type": "task-image", "taskId": publisher, "path": "public/stacked.tar" });
    let payload = with(with(script("sleep 1"), "image", image), "maxRunTime", json!(3));
    let limited = bench.create(payload, json!({ "dependencies": [publisher] })).await;
    let proxy = Proxy::start(bench.queue.address(), |method, path| {
        let slow = method == "GET" && path.contains("stacked.tar");
        if slow { Fate::Delay(Duration::from_secs(4)) } else { Fate::Pass }
    })
    .await;
    let settings = json!({ "d2gConfig": { "enableD2G": true }, "numberOfTasksToRun": 2, "capacity": 2 });
    let env = [("DOCKER_HOST", bench.engine.host.as_str())];
    let mut worker = bench.queue.worker_with(&proxy.root_url(), settings, &env);
    assert_eq!(worker.code().await, Some(0), "{}", worker.stderr());
    assert!(proxy.count("GET", "stacked.tar") > 0, "the image did not come through the proxy");
    bench.done(&task).await.expect("completed/completed");
    bench.done(&limited).await.expect("completed/completed");
    bench.close();
}

on_newest!(a_canceled_task_is_ended);
async fn a_canceled_task_is_ended(bench: Bench) {
    let task = bench.create(script("sleep 300"), json!({})).await;
    let before = bench.engine.running();
    let mut worker = bench.worker(&json!({ "tcWorker": { "cancelPollSecs": 1 } }));
    until("the container runs", async || bench.engine.running() != before).await;
    bench.queue.queue.cancel_task(&task).await.expect("the queue cancels it");
    until("the container has ended", async || bench.engine.running() == before).await;
    assert_eq!(worker.code().await, Some(0), "{}", worker.stderr());
    bench.done(&task).await.expect("exception/canceled");
    bench.close();
}

on_newest!(sigterm_hands_the_task_on);
async fn sigterm_hands_the_task_on(bench: Bench) {
    let task = bench.create(script("echo begun; sleep 300"), json!({})).await;
    let before = bench.engine.running();
    let mut worker = bench.worker(&json!({ "numberOfTasksToRun": 0 }));
    until("the container runs", async || bench.engine.running() != before).await;
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(worker.code().await, Some(72), "{}", worker.stderr());
    bench.done(&task).await.expect("exception/worker-shutdown");
    bench.close();
}

on_newest!(a_container_that_dies_just_before_the_worker_has_to_go_is_no_failed_task);
async fn a_container_that_dies_just_before_the_worker_has_to_go_is_no_failed_task(bench: Bench) {
    let before = bench.engine.running();
    for (signal, code, resolution) in [(true, 72, "exception/worker-shutdown"), (false, 0, "failed/failed")] {
        let task = bench.create(script("sleep 300"), json!({})).await;
        let mut worker = bench.worker(&json!({ "numberOfTasksToRun": u8::from(!signal) }));
        let new = || bench.engine.running().difference(&before).next().cloned();
        until("the container runs", async || new().is_some()).await;
        // As a service manager does with all that the machine has, each in its own time.
        bench.engine.docker(&["kill", &new().expect("it runs")]);
        if signal {
            worker.signal(nix::sys::signal::Signal::SIGTERM);
        }
        assert_eq!(worker.code().await, Some(code), "{}", worker.stderr());
        bench.done(&task).await.expect(resolution);
    }
    bench.close();
}
