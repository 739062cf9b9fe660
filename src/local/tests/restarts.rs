//! A server that was closed and started again on its data directory.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::*;
use crate::local::ledger::secrets::access_token;

struct Data(tempfile::TempDir);

impl Data {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data")
    }

    async fn start(&self) -> Rig {
        Rig::with(|options| options.data_dir = Some(self.path())).await
    }

    fn artifacts(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path().join("artifacts")).expect("the store");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

async fn as_task(rig: &Rig, claim: &Value, method: Method, path: &str, body: &Value) -> Answer {
    rig.call_as(As::Task(&claim["credentials"]), method, path, Some(body)).await
}

/// Creates an artifact and returns where to upload it.
async fn artifact(rig: &Rig, id: &str, claim: &Value, name: &str) -> Url {
    let body = json!({ "storageType": "s3", "contentType": "text/plain", "expires": claim["task"]["expires"] });
    let path = format!("/task/{id}/runs/0/artifacts/{name}");
    let answer = as_task(rig, claim, Method::POST, &path, &body).await.ok();
    answer["putUrl"].as_str().expect("a URL").parse().expect("a URL")
}

/// The same URL at a server that listens elsewhere now.
fn moved(url: &Url, rig: &Rig) -> Url {
    let mut url = url.clone();
    url.set_port(Some(rig.server.address().port())).expect("a port");
    url
}

async fn put(rig: &Rig, url: Url, body: &'static str) -> StatusCode {
    rig.http.put(url).header("content-type", "text/plain").body(body).send().await.expect("an answer").status()
}

async fn content(rig: &Rig, id: &str, name: &str) -> (StatusCode, String) {
    let found = rig.get(&format!("/task/{id}/artifacts/{name}")).await;
    let url = found.headers["location"].to_str().expect("a URL").to_owned();
    let answer = rig.http.get(url).send().await.expect("an answer");
    (answer.status(), answer.text().await.expect("text"))
}

#[tokio::test]
async fn everything_is_answered_as_before() {
    let data = Data::new();
    let rig = data.start().await;
    let pending = rig.create(|task| task["priority"] = json!("low")).await;
    let urgent = rig.create(|task| task["priority"] = json!("high")).await;
    let blocked = rig.create(|task| task["dependencies"] = json!([pending])).await;
    let done = rig
        .create(|task| {
            task["priority"] = json!("highest");
            task["routes"] = json!(["index.a.done"]);
            task["extra"] = json!({ "index": { "rank": 3, "data": { "deep": [1, { "a": null }] } }, "z": 1.50, "a": "ü\n\"" });
        })
        .await;
    let claim = rig.claim("w", 1).await.pop().expect("a claim");
    assert_eq!(claim["status"]["taskId"], done.as_str());
    put(&rig, artifact(&rig, &done, &claim, "public/a.txt").await, "first").await;
    put(&rig, artifact(&rig, &done, &claim, "public/a.txt").await, "second").await;
    let link = json!({ "storageType": "link", "artifact": "public/a.txt", "expires": claim["task"]["expires"] });
    as_task(&rig, &claim, Method::POST, &format!("/task/{done}/runs/0/artifacts/public%2Flink"), &link).await.ok();
    as_task(&rig, &claim, Method::POST, &format!("/task/{done}/runs/0/completed"), &json!({})).await.ok();
    let expires = &claim["task"]["expires"];
    let entry = json!({ "taskId": done, "rank": 1.5, "data": {}, "expires": expires });
    rig.call_as(As::Root, Method::PUT, "/api/index/v1/task/a.b", Some(&entry)).await.ok();
    rig.post("/api/purge-cache/v1/purge-cache/p%2Fw", &json!({ "cacheName": "one/two three" })).await.ok();
    let paths: Vec<String> = [&pending, &urgent, &blocked, &done]
        .iter()
        .flat_map(|id| [format!("/task/{id}"), format!("/task/{id}/status")])
        .chain([
            format!("/task/{done}/artifacts"),
            format!("/task/{done}/runs/0/artifact-info/public%2Fa.txt"),
            "/api/index/v1/task/a.done".into(),
            "/api/index/v1/task/a.b".into(),
            "/api/purge-cache/v1/purge-cache/list".into(),
            "/api/purge-cache/v1/purge-cache/p%2Fw".into(),
        ])
        .collect();
    let mut before = Vec::new();
    for path in &paths {
        before.push(rig.get(path).await.ok());
    }
    rig.server.shutdown().await;

    let rig = data.start().await;
    for (path, before) in paths.iter().zip(before) {
        let after = rig.get(path).await.ok();
        assert_eq!(after.to_string(), before.to_string(), "{path}");
    }
    assert_eq!(content(&rig, &done, "public%2Flink").await, (StatusCode::OK, "second".to_owned()));
    let claimed: Vec<Value> = rig.claim("w", 3).await.iter().map(|claim| claim["status"]["taskId"].clone()).collect();
    assert_eq!(claimed, [json!(urgent), json!(pending)], "the same runs in the same order");
    assert_eq!(rig.state_of(&blocked).await, "unscheduled");
}

#[tokio::test]
async fn credentials_and_urls_that_were_given_out_stay_good() {
    let data = Data::new();
    let rig = data.start().await;
    let (id, claim) = rig.running().await;
    let url = artifact(&rig, &id, &claim, "public/a.txt").await;
    rig.server.shutdown().await;
    let rig = data.start().await;
    assert_eq!(put(&rig, moved(&url, &rig), "hello").await, StatusCode::OK);
    as_task(&rig, &claim, Method::POST, &format!("/task/{id}/runs/0/reclaim"), &json!({})).await.ok();
    as_task(&rig, &claim, Method::POST, &format!("/task/{id}/runs/0/completed"), &json!({})).await.ok();
    assert_eq!(content(&rig, &id, "public%2Fa.txt").await, (StatusCode::OK, "hello".to_owned()));
}

#[tokio::test]
async fn an_upload_whose_file_is_not_whole_counts_as_none_and_other_files_are_removed() {
    let data = Data::new();
    let rig = data.start().await;
    let (id, claim) = rig.running().await;
    for name in ["whole", "short", "missing"] {
        let url = artifact(&rig, &id, &claim, name).await;
        assert_eq!(put(&rig, url, name).await, StatusCode::OK);
    }
    rig.server.shutdown().await;
    for file in data.artifacts() {
        match std::fs::read_to_string(&file).expect("text").as_str() {
            "short" => std::fs::write(&file, "sho").expect("written"),
            "missing" => std::fs::remove_file(&file).expect("removed"),
            _ => {}
        }
    }
    let store = data.path().join("artifacts");
    std::fs::write(store.join(".upload-x"), "cut off").expect("written");
    std::fs::write(store.join(format!("{id}-0-77")), "never heard of").expect("written");
    std::fs::write(store.join("mine"), "not ours").expect("written");
    let rig = data.start().await;
    assert_eq!(content(&rig, &id, "whole").await, (StatusCode::OK, "whole".to_owned()));
    for name in ["short", "missing"] {
        assert_eq!(content(&rig, &id, name).await.0, StatusCode::NOT_FOUND);
        let url = artifact(&rig, &id, &claim, name).await;
        assert_eq!(put(&rig, url, "again").await, StatusCode::OK);
        assert_eq!(content(&rig, &id, name).await, (StatusCode::OK, "again".to_owned()));
    }
    assert_eq!(data.artifacts().len(), 4, "three artifacts, and what is not ours: {:?}", data.artifacts());
}

#[tokio::test]
async fn what_has_expired_in_the_meantime_is_noticed_at_once() {
    let data = Data::new();
    let rig = data.start().await;
    let (lost, _) = rig.running().await;
    let late = rig.create(|_| {}).await;
    rig.server.shutdown().await;
    let now = rig.server.desk.now();
    let later = |minutes| {
        let path = data.path();
        Rig::with(move |options| {
            options.data_dir = Some(path);
            let wall = now.saturating_add(SignedDuration::from_mins(minutes)).expect("a date");
            options.clock = Arc::new(TestClock::starting_at(wall));
        })
    };
    let rig = later(30).await;
    let status = rig.server.desk.books(|state, now| state.status(now, lost.parse_id()).expect("a task"));
    assert_eq!(status.runs.len(), 2, "the claim has expired: {:?}", status.runs);
    rig.server.shutdown().await;
    let rig = later(61).await;
    let status = rig.server.desk.books(|state, now| state.status(now, late.parse_id()).expect("a task"));
    assert_eq!(status.runs[0].resolved.as_ref().map(|(why, _)| *why), Some(state::WhyResolved::DeadlineExceeded));
    rig.server.shutdown().await;
    let rig = later(121).await;
    assert!(rig.server.desk.books(|state, now| state.status(now, late.parse_id()).is_err()), "the task has expired");
    rig.server.shutdown().await;
    let ledger = Ledger::open(&data.path()).expect("the ledger");
    for kind in ["definition", "task"] {
        assert!(ledger.load(kind).expect("records").is_empty(), "{kind}");
    }
}

trait ParseId {
    fn parse_id(&self) -> TaskId;
}

impl ParseId for String {
    fn parse_id(&self) -> TaskId {
        TaskId::parse(self).expect("a task id")
    }
}

#[tokio::test]
async fn a_directory_serves_one_server_at_a_time_and_is_for_its_owner_only() {
    let data = Data::new();
    let rig = data.start().await;
    let mut options = Options::new(data.path(), ("a".into(), "b".into()));
    options.data_dir = Some(data.path());
    let refusal = Server::start(options).await.err().expect("a refusal").to_string();
    assert!(refusal.contains("in use by another queue"), "{refusal}");
    rig.server.shutdown().await;
    let mode = |path: &Path| path.metadata().expect("stat").permissions().mode() & 0o777;
    assert_eq!(mode(&data.path()), 0o700);
    assert_eq!(mode(&data.path().join("ledger.redb")), 0o600);
    let token = access_token(&data.path(), &SystemRandom).expect("a token");
    assert_eq!(access_token(&data.path(), &SystemRandom).expect("a token"), token, "the same for good");
    assert_eq!(mode(&data.path().join("access-token")), 0o600);
}

#[tokio::test]
async fn records_that_make_no_sense_do_not_keep_the_others_away() {
    let data = Data::new();
    let rig = data.start().await;
    let good = rig.create(|_| {}).await;
    let bad = rig.create(|_| {}).await;
    rig.server.shutdown().await;
    let ledger = Ledger::open(&data.path()).expect("the ledger");
    ledger.put("task", &bad, b"{\"runs\": 7}".to_vec());
    ledger.put("definition", "no id", b"{}".to_vec());
    ledger.put("artifact", "no/id/at/all", b"{}".to_vec());
    ledger.put("indexed", "a.b", b"\xff".to_vec());
    for kind in ["purge", "secret", "client", "role", "worker-pool", "worker", "worker-pool-error", "object"] {
        ledger.put(kind, "p/w/x", b"{".to_vec());
    }
    let mut record: Value = {
        let (_, bytes) = ledger.load("task").expect("records").into_iter().find(|(key, _)| *key == good).expect("the task");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    record["from the future"] = json!([1]);
    ledger.put("task", &good, record.to_string().into_bytes());
    ledger.settled().await.expect("written");
    drop(ledger);
    // Whose file this is may stand in what cannot be read.
    let files =
        ["artifacts".to_owned(), "artifacts/objects".to_owned()].map(|dir| data.path().join(dir).join(format!("{good}-0-7")));
    for file in &files {
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        std::fs::write(file, "x").expect("written");
    }
    let rig = data.start().await;
    assert!(files.iter().all(|file| file.exists()));
    assert_eq!(rig.state_of(&good).await, "pending");
    assert_eq!(rig.get(&format!("/task/{bad}/status")).await.status, StatusCode::NOT_FOUND);
}
