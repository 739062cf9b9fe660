//! Static workers.

use super::*;

const WORKERS: &str = "/api/worker-manager/v1";
const SECRET: &str = "no-real-secret-no-real-secret-no-real-secret";
const FAR: &str = "2099-01-01T00:00:00.000Z";

fn pool(config: impl Into<Value>) -> Value {
    let config = config.into();
    json!({ "providerId": "static", "description": "d", "owner": "me@example.com", "emailOnError": false, "config": config })
}

impl Rig {
    async fn manager(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.root(method, &format!("{WORKERS}{path}"), body).await
    }

    async fn register(&self, worker: &str, secret: &str) -> Answer {
        let body = json!({
            "workerPoolId": POOL, "providerId": "static", "workerGroup": "g", "workerId": worker,
            "workerIdentityProof": { "staticSecret": secret },
        });
        self.call_as(As::Nobody, Method::POST, &format!("{WORKERS}/worker/register"), Some(&body)).await
    }
}

async fn with_worker() -> Rig {
    let rig = Rig::start().await;
    let config = json!({ "workerConfig": { "idle": 5 }, "lifecycle": { "reregistrationTimeout": 600 } });
    rig.manager(Method::PUT, "/worker-pool/p%2Fw", Some(&pool(config))).await.ok();
    let worker = json!({ "expires": FAR, "capacity": 2, "providerInfo": { "staticSecret": SECRET } });
    let made = rig.manager(Method::PUT, "/workers/p%2Fw/g/w", Some(&worker)).await.ok();
    assert_eq!((&made["state"], &made["capacity"]), (&json!("requested"), &json!(2)));
    rig
}

#[tokio::test]
async fn a_static_worker_registers_works_and_is_removed() {
    let rig = with_worker().await;
    let registered = rig.register("w", SECRET).await.ok();
    assert_eq!(registered["workerConfig"], json!({ "idle": 5 }));
    let credentials = &registered["credentials"];
    let claim = json!({ "workerGroup": "g", "workerId": "w", "tasks": 1 });
    let id = rig.create(|_| {}).await;
    let claims = rig.call_as(As::Task(credentials), Method::POST, "/claim-work/p%2Fw", Some(&claim)).await.ok();
    assert_eq!(claims["tasks"][0]["status"]["taskId"], json!(id));
    rig.call_as(As::Task(credentials), Method::POST, "/claim-work/p%2Fother", Some(&claim))
        .await
        .refused(403, "InsufficientScopes");

    let again = async |secret: &Value, who: &Value| {
        let body = json!({ "workerPoolId": POOL, "workerGroup": "g", "workerId": "w", "secret": secret });
        rig.call_as(As::Task(who), Method::POST, &format!("{WORKERS}/worker/reregister"), Some(&body)).await
    };
    let renewed = again(&registered["secret"], credentials).await.ok();
    assert_ne!(renewed["secret"], registered["secret"]);
    again(&registered["secret"], credentials).await.refused(400, "InputError");
    let wants = async |who: &Value| {
        let path = format!("{WORKERS}/workers/p%2Fw/g/w/should-terminate");
        rig.call_as(As::Task(who), Method::GET, &path, None).await.ok()["terminate"].clone()
    };
    assert_eq!(wants(&renewed["credentials"]).await, json!(false));
    let shown = rig.manager(Method::GET, "/worker-pool/p%2Fw", None).await.ok();
    assert_eq!((&shown["runningCount"], &shown["currentCapacity"]), (&json!(1), &json!(2)));

    // A pool with workers goes with them.
    assert_eq!(rig.manager(Method::DELETE, "/worker-pool/p%2Fw", None).await.ok()["providerId"], "null-provider");
    assert_eq!(rig.manager(Method::GET, "/worker-pool/p%2Fw", None).await.ok()["providerId"], "null-provider");
    let path = format!("{WORKERS}/workers/p%2Fw/g/w");
    rig.call_as(As::Task(&renewed["credentials"]), Method::DELETE, &path, None).await.ok();
    assert_eq!(wants(&renewed["credentials"]).await, json!(true));
    assert_eq!(rig.manager(Method::GET, "/workers/p%2Fw/g/w", None).await.ok()["state"], "stopped");
    again(&renewed["secret"], &renewed["credentials"]).await.refused(400, "InputError");
    rig.register("w", SECRET).await.refused(400, "InputError");
}

#[tokio::test]
async fn nobody_registers_without_proof() {
    let rig = with_worker().await;
    let wrong = "x".repeat(44);
    let for_known = rig.register("w", &wrong).await.refused(400, "InputError");
    let for_unknown = rig.register("nobody", SECRET).await.refused(400, "InputError");
    let first = |message: &str| message.lines().next().map(str::to_owned);
    assert_eq!(first(&for_known), first(&for_unknown), "names are not told by trying");
    let answer = rig.register("w", "short").await;
    assert!(!answer.body.to_string().contains("short"), "{}", answer.body);
    answer.refused(400, "InputValidationError");
    let body = json!({
        "workerPoolId": POOL, "providerId": "static", "workerGroup": "g", "workerId": "w",
        "workerIdentityProof": { "token": "t" },
    });
    rig.manager(Method::POST, "/worker/register", Some(&body)).await.refused(400, "InputError");
}

#[tokio::test]
async fn pools_are_made_changed_listed_and_deleted() {
    let rig = Rig::start().await;
    let put = async |id: &str, body: &Value| rig.manager(Method::PUT, &format!("/worker-pool/{id}"), Some(body)).await;
    for id in ["p%2Fa", "p%2Fb", "p%2Fc"] {
        put(id, &pool(json!({}))).await.ok();
    }
    put("p%2Fa", &pool(json!({}))).await.ok();
    put("p%2Fa", &pool(json!({ "workerConfig": {} }))).await.refused(409, "RequestConflict");
    let mut read = rig.manager(Method::GET, "/worker-pool/p%2Fa", None).await.ok();
    for derived in ["currentCapacity", "requestedCount", "runningCount", "stoppingCount", "stoppedCount"] {
        assert_eq!(read.as_object_mut().expect("an object").remove(derived), Some(json!(0)), "{derived}");
    }
    for derived in ["requestedCapacity", "runningCapacity", "stoppingCapacity", "stoppedCapacity"] {
        read.as_object_mut().expect("an object").remove(derived);
    }
    read["description"] = json!("changed");
    let updated = rig.manager(Method::POST, "/worker-pool/p%2Fa", Some(&read)).await.ok();
    assert_eq!((&updated["description"], &updated["created"]), (&json!("changed"), &read["created"]));
    let list = rig.manager(Method::GET, "/worker-pools?limit=2", None).await.ok();
    let next = format!("/worker-pools?continuationToken={}", list["continuationToken"].as_str().expect("more"));
    let rest = rig.manager(Method::GET, &next, None).await.ok();
    assert_eq!(
        (list["workerPools"].as_array().map(Vec::len), &rest["workerPools"][0]["workerPoolId"]),
        (Some(2), &json!("p/c"))
    );
    assert_eq!(rig.manager(Method::DELETE, "/worker-pool/p%2Fc", None).await.ok()["providerId"], "null-provider");
    rig.manager(Method::GET, "/worker-pool/p%2Fc", None).await.refused(404, "ResourceNotFound");
    let providers = rig.manager(Method::GET, "/providers", None).await.ok();
    assert_eq!(providers["providers"][1], json!({ "providerId": "static", "providerType": "static" }));

    let mut cloud = pool(json!({}));
    cloud["providerId"] = json!("aws");
    assert!(put("p%2Fd", &cloud).await.refused(400, "InputError").contains("not offered"));
    put("p%2Fd", &pool(json!({ "minCapacity": 1 }))).await.refused(400, "InputValidationError");
    put("p%2Fd", &json!({})).await.refused(400, "InputValidationError");
    put("nopool", &pool(json!({}))).await.refused(400, "InvalidRequestArguments");
    rig.manager(Method::POST, "/worker-pool/p%2Fd", Some(&pool(json!({})))).await.refused(404, "ResourceNotFound");
    let path = format!("{WORKERS}/worker-pool/p%2Fd");
    rig.call_as(As::Nobody, Method::PUT, &path, Some(&pool(json!({})))).await.refused(403, "InsufficientScopes");
    rig.manager(Method::GET, "/worker-pools/stats", None).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn workers_complain_beside_their_pool() {
    let rig = with_worker().await;
    let credentials = rig.register("w", SECRET).await.ok()["credentials"].clone();
    let report = async |worker: &str, title: &str| {
        let body = json!({
            "workerGroup": "g", "workerId": worker, "kind": "worker-error", "title": title, "description": "why", "extra": { "a": 1 },
        });
        rig.call_as(As::Task(&credentials), Method::POST, &format!("{WORKERS}/worker-pool-errors/p%2Fw"), Some(&body)).await
    };
    let first = report("w", "first").await.ok();
    report("w", "second").await.ok();
    report("other", "x").await.refused(403, "InsufficientScopes");
    let list = rig.manager(Method::GET, "/worker-pool-errors/p%2Fw", None).await.ok();
    assert_eq!(list["workerPoolErrors"].as_array().map(Vec::len), Some(2));
    let one = format!("/worker-pool-errors/p%2Fw?errorId={}", first["errorId"].as_str().expect("an id"));
    assert_eq!(rig.manager(Method::GET, &one, None).await.ok()["workerPoolErrors"], json!([first]));
    let workers = rig.manager(Method::GET, "/workers/p%2Fw?state=running", None).await.ok();
    assert_eq!(workers["workers"][0]["workerId"], "w");
    let none = rig.manager(Method::GET, "/workers/p%2Fw/other", None).await.ok();
    assert_eq!(none["workers"], json!([]));
}
