//! The worker dies, the engine dies, the engine is not there or full: nothing is left, nothing is claimed in vain.

use serde_json::{Value, json};

use super::{
    bench::{Bench, script, with},
    spare::Spare,
};
use crate::support::until;

on_all!(nothing_is_left_after_the_worker_was_killed);
async fn nothing_is_left_after_the_worker_was_killed(bench: Bench) {
    let cached = with(script("echo half > /cache/f; sleep 300"), "cache", json!({ "it-cache": "/cache" }));
    bench.create(cached, json!({})).await;
    let before = bench.engine.running();
    let mut worker = bench.worker(&json!({}));
    until("the container runs", async || bench.engine.running() != before).await;
    worker.signal(nix::sys::signal::Signal::SIGKILL);
    worker.wait().await;
    // A container of somebody else has to stay.
    let other =
        bench.engine.docker(&["run", "--detach", "--name", "it-somebody-elses", &super::bench::busybox(), "sleep", "300"]);
    let look = with(script("ls -A /cache | wc -l"), "cache", json!({ "it-cache": "/cache" }));
    let task = bench.create(look, json!({})).await;
    let mut second = worker.again();
    assert_eq!(second.code().await, Some(0), "{}", second.stderr());
    bench.done(&task).await.expect("completed/completed").says("\n0\r\n");
    assert!(bench.engine.running().iter().any(|id| other.starts_with(id.as_str())), "a container that was not ours is gone");
    bench.engine.docker(&["rm", "--force", "--volumes", "it-somebody-elses"]);
    bench.close();
}

fn in_spare(text: &str) -> Value {
    with(script(text), "image", Value::from("tc-test/busybox:latest"))
}

async fn engine_dies(kind: &'static str) {
    let Some(spare) = Spare::start(kind) else { return };
    let bench = Bench::on(spare.engine.clone()).await;
    let task = bench.create(in_spare("test $RUN_ID = 1 || sleep 300; echo second"), json!({ "retries": 1 })).await;
    let mut worker = bench.worker(&json!({ "numberOfTasksToRun": 2 }));
    until("the container runs", async || !bench.engine.running().is_empty()).await;
    spare.kill();
    // As a service manager does; before that nobody can say whether the container has ended.
    spare.again();
    assert_eq!(worker.code().await, Some(0), "{}", worker.stderr());
    let done = bench.done(&task).await.expect("completed/completed").says("\nsecond\r\n");
    assert_eq!(done.status.runs[0].reason_resolved.as_deref(), Some("worker-shutdown"));
    bench.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_task_is_handed_on_when_the_newest_engine_dies() {
    engine_dies("containerd").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_task_is_handed_on_when_the_classic_engine_dies() {
    engine_dies("classic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_claimed_while_there_is_no_engine() {
    let Some(spare) = Spare::start("graph") else { return };
    let bench = Bench::on(spare.engine.clone()).await;
    let task = bench.create(in_spare("echo at last"), json!({})).await;
    spare.stop();
    let mut worker = bench.worker(&json!({}));
    worker.says("docker.sock").await;
    let status = bench.queue.status(&task).await;
    assert_eq!((status.state.as_str(), status.runs.len()), ("pending", 1));
    spare.again();
    assert_eq!(worker.code().await, Some(0), "{}", worker.stderr());
    bench.done(&task).await.expect("completed/completed").says("\nat last\r\n");
    bench.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_claimed_while_the_disk_of_the_engine_is_full() {
    // Of its own: the disk of the tasks has room enough.
    let Some(spare) = Spare::with_disk("graph", 300) else { return };
    let bench = Bench::on(spare.engine.clone()).await;
    let fill = "dd if=/dev/zero of=/v/fill bs=1M; true";
    bench.engine.docker(&["run", "--rm", "--volume", "it-full:/v", "tc-test/busybox:latest", "sh", "-c", fill]);
    let task = bench.create(in_spare("echo at last"), json!({})).await;
    let mut worker = bench.worker(&json!({ "requiredDiskSpaceMegabytes": 50 }));
    worker.says("the Docker engine's disk is full").await;
    let status = bench.queue.status(&task).await;
    assert_eq!((status.state.as_str(), status.runs.len()), ("pending", 1));
    bench.engine.docker(&["volume", "rm", "it-full"]);
    assert_eq!(worker.code().await, Some(0), "{}", worker.stderr());
    bench.done(&task).await.expect("completed/completed").says("\nat last\r\n");
    bench.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_engine_is_told_while_a_task_runs_and_costs_it_nothing() {
    use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
    let Some(spare) = Spare::start("graph") else { return };
    let bench = Bench::on(spare.engine.clone()).await;
    let patient = with(in_spare("until [ -e /go ]; do usleep 10000; done; echo at last"), "maxRunTime", json!(600));
    let task = bench.create(patient, json!({})).await;
    let mut worker = bench.worker(&json!({}));
    until("the container runs", async || !bench.engine.running().is_empty()).await;
    let id = bench.engine.running().pop_first().expect("it runs");
    let file = worker.home().join("worker-status.json");
    let status = || serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap_or_default()).unwrap_or_default();
    until("the task is shown", async || status()["currentTaskIds"] == json!([task])).await;
    assert!(status().get("notClaiming").is_none(), "{}", status());
    spare.signal(SIGSTOP);
    until("it is noticed", async || status()["notClaiming"].as_str().is_some_and(|why| why.contains("Docker engine"))).await;
    assert_eq!(status()["currentTaskIds"], json!([task]));
    worker.says("Tasks run, and the Docker engine is not fit").await;
    spare.signal(SIGCONT);
    until("it is well again", async || status().get("notClaiming").is_none()).await;
    bench.engine.docker(&["exec", &id, "touch", "/go"]);
    assert_eq!(worker.code().await, Some(0), "{}", worker.stderr());
    bench.done(&task).await.expect("completed/completed").says("\nat last\r\n");
    bench.close();
}
