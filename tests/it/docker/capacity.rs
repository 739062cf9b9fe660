//! Several containers at once.

use serde_json::json;

use super::bench::{Bench, script};
use crate::support::until;

on_newest!(four_run_at_once);
async fn four_run_at_once(bench: Bench) {
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(bench.create(script("until [ -e /go ]; do usleep 10000; done"), json!({})).await);
    }
    for _ in 0..8 {
        tasks.push(bench.create(script("echo $TASK_ID"), json!({})).await);
    }
    let before = bench.engine.running();
    let mut worker = bench.worker(&json!({ "capacity": 4, "numberOfTasksToRun": tasks.len() }));
    let new = || bench.engine.running().difference(&before).cloned().collect::<Vec<_>>();
    until("four containers run", async || new().len() == 4).await;
    for id in new() {
        bench.engine.docker(&["exec", &id, "touch", "/go"]);
    }
    assert_eq!(worker.code().await, Some(0), "{}", worker.stderr());
    for (n, task) in tasks.iter().enumerate() {
        let done = bench.done(task).await.expect("completed/completed");
        assert!(n < 4 || done.log.contains(&format!("\n{task}\r\n")), "{}", done.log);
    }
    bench.close();
}
