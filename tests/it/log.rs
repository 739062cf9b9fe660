//! Every byte the task wrote is in its log, and readers change nothing about that.

use std::io::{Read as _, Write as _};

use serde_json::json;

use crate::support::{Deployment, script, until, until_some};

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_arrives_in_order_also_from_background_processes() {
    let queue = Deployment::start().await;
    let payload = json!({
        "command": [
            ["/bin/bash", "-c", "seq 1 2000000"],
            ["/bin/bash", "-c", "(sleep 0.3; echo late) & echo early"],
            ["/bin/bash", "-c", "echo next; sleep 1"],
        ],
        "maxRunTime": 60,
    });
    let task = queue.create(payload).await;
    queue.worker(json!({})).wait().await;
    assert_eq!(queue.resolution(&task).await, "completed/completed");
    let log = queue.log(&task);
    let numbers = log.lines().filter_map(|line| line.parse::<u64>().ok());
    assert!(numbers.eq(1..=2_000_000), "the numbers are not all there, or not in order");
    let place = |text: &str| log.lines().position(|line| line == text).unwrap_or_else(|| panic!("no {text:?}"));
    assert!(place("early") < place("next") && place("next") < place("late"));
    let second = log.lines().position(|line| line.contains("Executing command 2")).expect("it ran");
    assert!(second < place("late"), "the next command waited for a background process");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_log_is_read_while_the_task_runs_and_stalled_readers_do_not_slow_it() {
    let queue = Deployment::start().await;
    let go = queue.dir.path().join("go");
    let text = format!("echo begin; until [ -e {} ]; do sleep 0.01; done; seq 1 1000000; echo end", go.display());
    let task = queue.create(script(&text)).await;
    let mut worker = queue.worker(json!({}));
    let url = until_some("the live log is published", async || {
        let stored = queue.server.published(&task);
        stored.into_iter().find(|a| a.name == "public/logs/live.log" && a.storage_type == "reference").and_then(|a| a.target)
    })
    .await;
    let (address, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("an http URL");
    let open = |path: &str| {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        stream
            .write_all(format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
            .expect("written");
        stream
    };
    let stalled = open(path);
    let reader = open(path);
    let read = std::thread::spawn(move || {
        let mut reader = reader;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut wrong = String::new();
    open("log/wrong").read_to_string(&mut wrong).expect("an answer");
    assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");
    std::fs::write(&go, "").expect("the task goes on");
    worker.wait().await;
    drop(stalled);
    let bytes = read.join().expect("the reader ends").expect("read");
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 200"), "{}", &text[..100]);
    assert!(text.contains("Task ID: ") && text.contains("begin\n") && text.contains("\n1000000\n"), "not from the first byte");
    assert!(queue.log(&task).contains("\nend\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_stays_beside_kept_files_and_a_planted_link_is_not_followed() {
    let queue = Deployment::start().await;
    let elsewhere = queue.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a directory");
    let plain = queue.create(script("echo kept")).await;
    let planted = queue.create(script(&format!("rmdir generic-worker; ln -s {} generic-worker", elsewhere.display()))).await;
    let mut worker = queue.worker(json!({ "cleanUpTaskDirs": false, "numberOfTasksToRun": 2 }));
    worker.wait().await;
    assert_eq!(queue.resolution(&planted).await, "completed/completed");
    let directory = worker.home().join("tasks").join(format!("task_{}_0", &plain[..13]));
    let kept = std::fs::read_to_string(directory.join("generic-worker/live_backing.log")).expect("kept");
    assert_eq!(kept, queue.log(&plain));
    assert_eq!(std::fs::read_dir(&elsewhere).expect("readable").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_logs_that_are_switched_off_leave_no_trace() {
    let queue = Deployment::start().await;
    let task = queue.create(script("true")).await;
    queue.worker(json!({ "livelogExecutable": "/bin/false" })).wait().await;
    assert_eq!(queue.resolution(&task).await, "completed/completed");
    assert_eq!(queue.artifacts(&task).into_keys().collect::<Vec<_>>(), ["public/logs/live_backing.log"]);
    let other = queue.create(script("true")).await;
    queue.worker(json!({ "enableLiveLog": false })).wait().await;
    assert_eq!(queue.resolution(&other).await, "exception/malformed-payload");
    until("nothing is left", async || true).await;
}
