//! What the services keep over a restart.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::*;

const FAR: &str = "2099-01-01T00:00:00.000Z";
const SECRET: &str = "no-real-secret-no-real-secret-no-real-secret";

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let data = tempfile::tempdir().expect("a directory");
    let dir = data.path().join("data");
    let start = async || Rig::with(|options| options.data_dir = Some(dir.clone())).await;
    let rig = start().await;
    let put = async |path: &str, body: Value| rig.root(Method::PUT, path, Some(&body)).await.ok();
    let auth = |path: &str| format!("/api/auth/v1/{path}");
    let manager = |path: &str| format!("/api/worker-manager/v1/{path}");
    put("/api/secrets/v1/secret/a", json!({ "secret": { "v": 1 }, "expires": FAR })).await;
    put("/api/secrets/v1/secret/b", json!({ "secret": { "v": 2 }, "expires": FAR })).await;
    rig.root(Method::DELETE, "/api/secrets/v1/secret/b", None).await.ok();
    put(&auth("roles/r"), json!({ "scopes": ["auth:current-scopes", "of:role"], "description": "" })).await;
    let client = json!({ "expires": FAR, "description": "", "scopes": ["assume:r"] });
    let token = put(&auth("clients/made"), client).await["accessToken"].as_str().expect("a token").to_owned();
    let pool = json!({ "providerId": "static", "description": "", "owner": "a@b.c", "emailOnError": false, "config": {} });
    put(&manager("worker-pool/p%2Fw"), pool).await;
    let worker = json!({ "expires": FAR, "providerInfo": { "staticSecret": SECRET } });
    put(&manager("workers/p%2Fw/g/w"), worker).await;
    let id = slugid(&SystemRandom);
    let methods = json!({ "dataInline": { "contentType": "text/plain", "objectData": BASE64_STANDARD.encode("12345") } });
    let object = json!({ "projectId": "p", "uploadId": id, "expires": FAR, "proposedUploadMethods": methods });
    put("/api/object/v1/upload/o", object).await;
    let done = json!({ "projectId": "p", "uploadId": id });
    rig.root(Method::POST, "/api/object/v1/finish-upload/o", Some(&done)).await.ok();
    // Of an upload that was cut off, only the file is left.
    let objects = rig.server.desk.store.objects_dir();
    std::fs::write(objects.join("left"), "x").expect("written");
    rig.server.shutdown().await;
    let store = rig.store;
    drop(rig.server);

    let rig = Rig::with(|options| {
        options.data_dir = Some(dir.clone());
        options.store = store.path().join("artifacts");
    })
    .await;
    assert_eq!(rig.get("/api/secrets/v1/secret/a").await.ok()["secret"], json!({ "v": 1 }));
    assert_eq!(rig.get("/api/secrets/v1/secrets").await.ok(), json!({ "secrets": ["a"] }));
    let current = rig.call_as(As::Client("made", &token), Method::GET, &auth("scopes/current"), None).await.ok();
    assert!(current["scopes"].as_array().expect("scopes").contains(&json!("of:role")), "{current}");
    assert_eq!(rig.get(&manager("worker-pool/p%2Fw")).await.ok()["requestedCount"], 1);
    let proof = json!({ "staticSecret": SECRET });
    let register = json!({
        "workerPoolId": POOL, "providerId": "static", "workerGroup": "g", "workerId": "w", "workerIdentityProof": proof,
    });
    rig.root(Method::POST, &manager("worker/register"), Some(&register)).await.ok();
    let redirect = rig.get("/api/object/v1/download/o").await;
    let bytes = rig.http.get(redirect.headers["location"].to_str().expect("a URL")).send().await.expect("an answer");
    assert_eq!(bytes.text().await.expect("a body"), "12345");
    assert_eq!(std::fs::read_dir(rig.server.desk.store.objects_dir()).expect("a list").count(), 1, "what was left is removed");
    rig.server.shutdown().await;
}

#[tokio::test]
async fn a_record_that_nobody_understands_is_passed_over_and_stays() {
    let data = tempfile::tempdir().expect("a directory");
    let put = b"{\"value\": {\"v\": \"hidden\"}";
    let ledger = Ledger::open(data.path()).expect("a ledger");
    ledger.put("secret", "a", put.to_vec());
    ledger.close();
    drop(ledger);
    let rig = Rig::with(|options| options.data_dir = Some(data.path().to_owned())).await;
    rig.get("/api/secrets/v1/secret/a").await.refused(404, "ResourceNotFound");
    let secret = json!({ "secret": { "v": 1 }, "expires": FAR });
    rig.root(Method::PUT, "/api/secrets/v1/secret/b", Some(&secret)).await.ok();
    rig.server.shutdown().await;
    drop(rig.server);
    let ledger = Ledger::open(data.path()).expect("a ledger");
    let kept = ledger.load("secret").expect("records");
    assert_eq!(kept.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(kept[0].1, put);
}

#[tokio::test]
async fn who_was_seen_when_and_with_which_runs_is_there_after_a_restart() {
    let data = tempfile::tempdir().expect("a directory");
    let start = async || Rig::with(|options| options.data_dir = Some(data.path().to_owned())).await;
    let rig = start().await;
    rig.running().await;
    let declared = "/provisioners/p/worker-types/w/g/declared";
    rig.root(Method::PUT, declared, Some(&json!({ "expires": FAR }))).await.ok();
    let paths = ["/task-queues", "/provisioners", "/provisioners/p/worker-types/w/workers"].map(str::to_owned).into_iter();
    let workers = ["w", "declared"].map(|id| format!("/provisioners/p/worker-types/w/workers/g/{id}"));
    let paths: Vec<String> = paths.chain(workers).collect();
    let mut before = Vec::new();
    for path in &paths {
        before.push(rig.get(path).await.ok());
    }
    assert_eq!(before[3]["recentTasks"].as_array().map(Vec::len), Some(1), "{}", before[3]);
    rig.server.shutdown().await;
    let rig = start().await;
    for (path, before) in paths.iter().zip(before) {
        assert_eq!(rig.get(path).await.ok(), before, "{path}");
    }
}

#[tokio::test]
async fn an_artifact_that_expires_before_its_task_goes_with_its_bytes_whether_the_server_runs_or_not() {
    let data = tempfile::tempdir().expect("a directory");
    let start = SystemClock.wall();
    let minutes = |minutes| start.saturating_add(SignedDuration::from_mins(minutes)).expect("a date");
    let at = async |passed| {
        let clock = Arc::new(TestClock::starting_at(minutes(passed)));
        let shared = Arc::clone(&clock);
        let rig = Rig::with(|options| (options.data_dir, options.clock) = (Some(data.path().to_owned()), shared)).await;
        (rig, clock)
    };
    let (rig, clock) = at(0).await;
    let (id, claim) = rig.running().await;
    for (name, expires) in [("early", 5), ("later", 8), ("last", 60)] {
        let expires = format!("{:.3}", minutes(expires));
        let body = json!({ "storageType": "s3", "contentType": "t", "expires": expires });
        let path = format!("/task/{id}/runs/0/artifacts/{name}");
        let made = rig.call_as(As::Task(&claim["credentials"]), Method::POST, &path, Some(&body)).await.ok();
        let url = made["putUrl"].as_str().expect("a URL");
        let put = rig.http.put(url).header("content-type", "t").body(name).send().await.expect("an answer");
        assert!(put.status().is_success());
    }
    let names = async |rig: &Rig| {
        let listed = rig.get(&format!("/task/{id}/artifacts")).await.ok();
        let listed = listed["artifacts"].as_array().expect("a list").iter();
        listed.map(|one| one["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let files = || std::fs::read_dir(data.path().join("artifacts")).expect("a list").count();
    assert_eq!(names(&rig).await, ["early", "last", "later"]);
    clock.jump(SignedDuration::from_mins(6));
    assert_eq!(names(&rig).await, ["last", "later"]);
    for path in [format!("/task/{id}/artifacts/early"), format!("/task/{id}/runs/0/artifact-info/early")] {
        rig.get(&path).await.refused(404, "ResourceNotFound");
    }
    eventually("the bytes are gone", async || files() == 2).await;
    rig.server.shutdown().await;
    drop(rig);

    let (rig, _) = at(10).await;
    assert_eq!(names(&rig).await, ["last"]);
    rig.get(&format!("/task/{id}/runs/0/artifact-content/later")).await.refused(404, "ResourceNotFound");
    eventually("the bytes are gone", async || files() == 1).await;
    rig.server.shutdown().await;
    drop(rig);
    let ledger = Ledger::open(data.path()).expect("a ledger");
    assert_eq!(ledger.load("artifact").expect("records").len(), 1);
}
