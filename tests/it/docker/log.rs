//! Names and switches of the logs of container tasks.

use serde_json::{Value, json};

use super::bench::{Bench, script, with};

on_newest!(logs_have_the_names_of_the_payload);
async fn logs_have_the_names_of_the_payload(bench: Bench) {
    let done = bench.run(with(script("echo hello"), "log", Value::from("public/apple/banana.log.txt"))).await;
    let artifacts = bench.queue.artifacts(&done.task_id);
    let names: Vec<&str> = artifacts.keys().map(String::as_str).collect();
    assert_eq!(names, ["public/apple/banana.log.txt", "public/apple/banana.log_backing.txt"], "{}", done.log);
    for name in names {
        let text = bench.queue.artifact(&done.task_id, name).expect("both lead to the log");
        assert!(String::from_utf8_lossy(&text).contains("\nhello\r\n"), "{name}");
    }
    bench.close();
}

on_newest!(each_log_can_be_switched_off);
async fn each_log_can_be_switched_off(bench: Bench) {
    let features = |value: Value| with(script("echo hello"), "features", value);
    let done = bench
        .run_all(vec![features(json!({ "localLiveLog": false })), features(json!({ "bulkLog": false }))], &json!({}))
        .await;
    let names = |n: usize| bench.queue.artifacts(&done[n].task_id).into_keys().collect::<Vec<_>>();
    assert_eq!(names(0), ["public/logs/live_backing.log"]);
    assert!(!names(1).contains(&"public/logs/live_backing.log".to_owned()), "{:?}", names(1));
    assert_eq!([done[0].resolution.as_str(), done[1].resolution.as_str()], ["completed/completed"; 2]);
    bench.close();
}
