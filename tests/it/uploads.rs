//! Uploads: the bytes in the store are the bytes of the file, or the task says that they are not.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;

use crate::support::{
    Deployment,
    proxy::{Fate, Proxy},
    script,
};

/// A payload that publishes 3 MB that do not compress, twice: as they are and compressed.
fn three_megabytes() -> serde_json::Value {
    let mut payload = script("head -c 3000000 /dev/urandom > a.bin; cp a.bin b.zip");
    payload["artifacts"] = json!([
        { "type": "file", "path": "a.bin", "name": "public/gzip" }, { "type": "file", "path": "b.zip", "name": "public/identity" }
    ]);
    payload
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_lost_and_refused_uploads_are_repeated_until_the_store_has_every_byte() {
    for fate in
        [Fate::CutUpload(1_000_000), Fate::LoseAnswer, Fate::Answer(500, ""), Fate::Answer(400, ""), Fate::Answer(403, "")]
    {
        let queue = Deployment::start().await;
        let puts = Arc::new(AtomicUsize::new(0));
        let proxy = Proxy::start(queue.address(), {
            let (puts, fate) = (Arc::clone(&puts), fate.clone());
            move |method, path| {
                let spoiled = method == "PUT" && path.contains("/storage/") && puts.fetch_add(1, Ordering::SeqCst) < 3;
                if spoiled { fate.clone() } else { Fate::Pass }
            }
        })
        .await;
        let task = queue.create(three_megabytes()).await;
        let mut worker = queue.worker_at(&proxy.root_url(), json!({}));
        assert_eq!(worker.code().await, Some(0), "{fate:?}");
        assert_eq!(queue.resolution(&task).await, "completed/completed", "{fate:?}\n{}", worker.stderr());
        // Three bodies at least, and three that were spoiled.
        assert!(puts.load(Ordering::SeqCst) >= 6, "{fate:?}: the uploads did not go through the proxy");
        let (gzip, identity) = (queue.artifact(&task, "public/gzip"), queue.artifact(&task, "public/identity"));
        assert!(gzip.is_some() && gzip == identity && gzip.is_some_and(|bytes| bytes.len() == 3_000_000), "{fate:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stays_closed_is_no_success() {
    let queue = Deployment::start().await;
    let proxy = Proxy::start(queue.address(), |method, path| {
        if method == "PUT" && path.contains("identity") { Fate::Answer(403, "") } else { Fate::Pass }
    })
    .await;
    let task = queue.create(three_megabytes()).await;
    queue.worker_at(&proxy.root_url(), json!({})).wait().await;
    assert_eq!(queue.resolution(&task).await, "exception/resource-unavailable");
    let log = queue.log(&task);
    assert!(log.lines().last().unwrap_or_default().contains("public/identity"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_another_process_shrinks_is_an_error() {
    // The task's own processes are gone when artifacts are read; somebody else's may still write.
    let queue = Deployment::start().await;
    let file = queue.dir.path().join("shared.zip");
    std::fs::write(&file, vec![7_u8; 8_000_000]).expect("written");
    let proxy = Proxy::start(queue.address(), {
        let file = file.clone();
        move |method, path| {
            if method == "POST" && path.contains("shared") {
                // The worker has opened the file by now and knows its size.
                std::fs::OpenOptions::new().write(true).open(&file).and_then(|f| f.set_len(1000)).expect("truncated");
            }
            Fate::Pass
        }
    })
    .await;
    let mut payload = script("true");
    payload["artifacts"] = json!([{ "type": "file", "path": file, "name": "public/shared" }]);
    let task = queue.create(payload).await;
    queue.worker_at(&proxy.root_url(), json!({})).wait().await;
    assert_eq!(queue.resolution(&task).await, "failed/failed");
    assert!(queue.log(&task).contains("shrank"), "{}", queue.log(&task));
    assert!(queue.artifact(&task, "public/shared").is_none(), "half a file was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_outlive_their_lease_because_it_is_renewed() {
    let queue = Deployment::with_claim_timeout(std::time::Duration::from_secs(2)).await;
    let proxy = Proxy::start(queue.address(), |method, path| {
        if method == "PUT" && path.contains("identity") { Fate::Delay(std::time::Duration::from_secs(5)) } else { Fate::Pass }
    })
    .await;
    let task = queue.create(three_megabytes()).await;
    queue.worker_at(&proxy.root_url(), json!({})).wait().await;
    let status = queue.status(&task).await;
    assert_eq!((status.runs.len(), status.state.as_str()), (1, "completed"));
    assert!(proxy.count("POST", "/reclaim") >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn types_encodings_and_expiry_are_those_of_the_payload() {
    let queue = Deployment::start().await;
    let mut payload = script("echo x > a.txt; echo x > b.png; echo x > c.jsonl; echo x > d; : > empty.log");
    payload["artifacts"] = json!([
        { "type": "file", "path": "a.txt" },
        { "type": "file", "path": "b.png" },
        { "type": "file", "path": "c.jsonl", "contentEncoding": "identity" },
        { "type": "file", "path": "d", "contentType": "application/x-test", "contentEncoding": "gzip" },
        { "type": "file", "path": "empty.log" },
        { "type": "directory", "path": "generic-worker", "name": "nothing" },
    ]);
    let task = queue.create(payload).await;
    queue.worker(json!({})).wait().await;
    assert_eq!(queue.resolution(&task).await, "completed/completed");
    let stored = queue.server.published(&task);
    let shape = |name: &str| {
        let artifact = stored.iter().find(|a| a.name == name).unwrap_or_else(|| panic!("no {name}"));
        let encoding = artifact.content_encoding.as_deref().filter(|e| *e != "identity").unwrap_or("-").to_owned();
        (artifact.content_type.clone(), encoding)
    };
    let expected = [
        ("a.txt", "text/plain; charset=utf-8", "gzip"),
        ("b.png", "image/png", "-"),
        ("c.jsonl", "application/jsonl", "-"),
        ("d", "application/x-test", "gzip"),
        ("empty.log", "text/plain", "gzip"),
    ];
    for (name, content_type, encoding) in expected {
        assert_eq!(shape(name), (content_type.to_owned(), encoding.to_owned()), "{name}");
    }
    assert_eq!(queue.artifact(&task, "empty.log").expect("published"), b"");
    assert_eq!(stored.len(), expected.len() + 2, "the logs and nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_a_line_break_begins_no_line_of_a_log() {
    let queue = Deployment::start().await;
    let mut payload = script("echo x > f");
    let name = |end: &str| format!("public/x\n[taskcluster:error] forged {end}\r");
    payload["artifacts"] = json!([
        { "type": "file", "path": "f", "name": name("there") },
        { "type": "file", "path": "nothing", "name": name("missing") },
    ]);
    let task = queue.create_with(payload, json!({ "retries": 0 })).await;
    let mut worker = queue.worker(json!({}));
    worker.code().await;
    let (log, own) = (queue.log(&task), worker.stderr());
    for text in [&log, &own] {
        assert!(text.contains("public/x\\n[taskcluster:error] forged there\\r"), "{text}");
        let forged = |line: &&str| line.contains("[taskcluster:error] forged") && !line.contains("public/x");
        assert_eq!(text.lines().find(forged), None, "{text}");
        assert!(!text.contains('\r'), "{text:?}");
    }
}
