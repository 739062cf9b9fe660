//! Images that go when the engine's disk is short.

use serde_json::{Value, json};

use super::{
    bench::{Bench, Engine, script},
    spare::Spare,
};

/// An image that somebody else brings.
const OTHERS: &str = "somebody/elses:1";

fn bring(engine: &Engine) {
    let image = "tc-test/busybox:latest";
    engine.docker(&["run", "--name", "it-big", image, "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=60"]);
    engine.docker(&["commit", "it-big", OTHERS]);
    engine.docker(&["rm", "it-big"]);
    // A container that never ran keeps the image of the task.
    engine.docker(&["create", "--name", "it-keeps", image, "true"]);
    let fill = "free=$(df -m /v | tail -n 1 | awk '{print $4}'); dd if=/dev/zero of=/v/fill bs=1M count=$((free - 20))";
    engine.docker(&["run", "--rm", "--volume", "it-full:/v", image, "sh", "-c", fill]);
}

async fn images_of_others_go_if_the_settings_say_so(kind: &'static str) {
    let Some(spare) = Spare::with_disk(kind, 300) else { return };
    bring(&spare.engine);
    let there = |name: &str| spare.engine.command(&["image", "inspect", name]).status.success();
    let bench = Bench::alone(spare.engine.clone()).await;
    let mut payload = script("echo there is room");
    payload["image"] = Value::from("tc-test/busybox:latest");
    let task = bench.create(payload, json!({})).await;
    let settings =
        |gc: &str| json!({ "numberOfTasksToRun": 1, "requiredDiskSpaceMegabytes": 50, "tcWorker": { "docker": { "gc": gc } } });

    let own = bench.worker(&settings("own"));
    own.says("the Docker engine's disk is full").await;
    assert!(there(OTHERS), "{kind}: it is not ours");
    assert_eq!(bench.queue.status(&task).await.state, "pending");
    drop(own);

    let mut host = bench.worker(&settings("host"));
    assert_eq!(host.code().await, Some(0), "{kind}: {}", host.stderr());
    bench.done(&task).await.expect("completed/completed").says("\nthere is room\r\n");
    assert!(host.stderr().contains(&format!("removed image {OTHERS}")), "{kind}: {}", host.stderr());
    assert!(!there(OTHERS), "{kind}");
    assert!(there("tc-test/busybox:latest"), "{kind}: a container was made from it");
    bench.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_others_go_from_the_store_of_containerd() {
    images_of_others_go_if_the_settings_say_so("containerd").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_others_go_from_that_of_the_graph_driver() {
    images_of_others_go_if_the_settings_say_so("graph").await;
}
