//! Task queues and workers over HTTP.

use super::{shapes::*, *};

async fn shaped(rig: &Rig, path: &str, shape: &Shape) -> Value {
    let answer = rig.get(path).await.ok();
    assert_shape(&answer, shape);
    answer
}

#[tokio::test]
async fn counts_and_lists_follow_tasks_from_pending_to_claimed() {
    let rig = Rig::start().await;
    let queue = "/task-queues/p%2Fw";
    for _ in 0..3 {
        rig.create(|_| {}).await;
    }
    rig.create(|body| body["taskQueueId"] = json!("p/other")).await;
    let claim = rig.claim("w", 1).await.pop().expect("a claim");
    let id = claim["status"]["taskId"].as_str().expect("an id");
    let counts = shaped(&rig, &format!("{queue}/counts"), &COUNTS).await;
    assert_eq!((&counts["pendingTasks"], &counts["claimedTasks"]), (&json!(2), &json!(1)));
    assert_eq!(shaped(&rig, "/pending/p%2Fw", &PENDING_COUNT).await["pendingTasks"], 2);
    assert_eq!(shaped(&rig, &format!("{queue}/pending"), &PENDING_LIST).await["tasks"].as_array().map(Vec::len), Some(2));
    let claimed = shaped(&rig, &format!("{queue}/claimed"), &CLAIMED_LIST).await;
    assert_eq!((&claimed["tasks"][0]["taskId"], &claimed["tasks"][0]["workerId"]), (&json!(id), &json!("w")));
    rig.post(&format!("/task/{id}/runs/0/completed"), &Value::Null).await.ok();
    let counts = shaped(&rig, &format!("{queue}/counts"), &COUNTS).await;
    assert_eq!((&counts["pendingTasks"], &counts["claimedTasks"]), (&json!(2), &json!(0)));
    let first = shaped(&rig, &format!("{queue}/pending?limit=1"), &PENDING_LIST).await;
    let token = first["continuationToken"].as_str().expect("a token");
    let second = shaped(&rig, &format!("{queue}/pending?limit=1&continuationToken={token}"), &PENDING_LIST).await;
    assert_ne!(first["tasks"][0]["taskId"], second["tasks"][0]["taskId"]);
    assert!(second.get("continuationToken").is_none());
    for token in ["x", "bm90LWEtcGxhY2U"] {
        rig.get(&format!("{queue}/pending?continuationToken={token}")).await.refused(400, "InvalidRequestArguments");
    }
    let nobody = shaped(&rig, "/task-queues/no%2Fbody/counts", &COUNTS).await;
    assert_eq!((&nobody["pendingTasks"], &nobody["claimedTasks"]), (&json!(0), &json!(0)));
    rig.get("/task-queues/nonsense/counts").await.refused(400, "InvalidRequestArguments");
}

#[tokio::test]
async fn queues_are_known_once_they_were_used() {
    let rig = Rig::start().await;
    rig.get("/task-queues/p%2Fw").await.refused(404, "ResourceNotFound");
    rig.get("/provisioners/p").await.refused(404, "ResourceNotFound");
    rig.get("/provisioners/p/worker-types/w").await.refused(404, "ResourceNotFound");
    for queue in ["p/w", "p/other", "p-2/w", "a/w"] {
        rig.create(|body| body["taskQueueId"] = json!(queue)).await;
    }
    let names = |answer: &Value, key: &str, name: &str| -> Vec<String> {
        let entries = answer[key].as_array().expect("a list");
        entries.iter().map(|entry| entry[name].as_str().expect("a name").to_owned()).collect()
    };
    let all = shaped(&rig, "/task-queues", &TASK_QUEUES).await;
    assert_eq!(names(&all, "taskQueues", "taskQueueId"), ["a/w", "p-2/w", "p/other", "p/w"]);
    let first = shaped(&rig, "/task-queues?limit=3", &TASK_QUEUES).await;
    let token = first["continuationToken"].as_str().expect("a token");
    let rest = shaped(&rig, &format!("/task-queues?continuationToken={token}"), &TASK_QUEUES).await;
    assert_eq!(names(&rest, "taskQueues", "taskQueueId"), ["p/w"]);
    shaped(&rig, "/task-queues/p%2Fw", &TASK_QUEUE).await;
    let provisioners = shaped(&rig, "/provisioners", &PROVISIONERS).await;
    assert_eq!(names(&provisioners, "provisioners", "provisionerId"), ["a", "p", "p-2"]);
    shaped(&rig, "/provisioners/p", &PROVISIONER).await;
    let types = shaped(&rig, "/provisioners/p/worker-types", &WORKER_TYPES).await;
    assert_eq!(names(&types, "workerTypes", "workerType"), ["other", "w"]);
    shaped(&rig, "/provisioners/p/worker-types/w", &WORKER_TYPE).await;
}

#[tokio::test]
async fn a_worker_in_quarantine_gets_nothing_over_restarts_until_it_is_let_out() {
    let data = tempfile::tempdir().expect("a directory");
    let start = || Rig::with(|options| options.data_dir = Some(data.path().join("data")));
    let worker = "/provisioners/p/worker-types/w/workers/g/w";
    let until = |hours: i64| {
        let until = Timestamp::now().saturating_add(SignedDuration::from_hours(hours)).expect("a date");
        json!({ "quarantineUntil": format!("{until:.3}"), "quarantineInfo": "it smokes" })
    };
    let rig = start().await;
    let put = async |rig: &Rig, body: &Value| rig.root(Method::PUT, worker, Some(body)).await;
    put(&rig, &until(1)).await.refused(404, "ResourceNotFound");
    let (id, _) = rig.running().await;
    let seen = shaped(&rig, worker, &WORKER).await;
    assert_eq!(seen["recentTasks"], json!([{ "taskId": id, "runId": 0 }]));
    put(&rig, &json!({ "quarantineInfo": "no date" })).await.refused(400, "InputValidationError");
    let quarantined = put(&rig, &until(1)).await.ok();
    assert_shape(&quarantined, &WORKER);
    assert_eq!(quarantined["quarantineDetails"][0]["quarantineInfo"], "it smokes");
    assert_eq!(quarantined["quarantineDetails"][0]["clientId"], "root");
    rig.server.shutdown().await;
    drop(rig);

    let rig = start().await;
    rig.create(|_| {}).await;
    let path = "/provisioners/p/worker-types/w/workers";
    let list = shaped(&rig, &format!("{path}?quarantined=true"), &WORKERS).await;
    assert_eq!(list["workers"][0]["quarantineUntil"], quarantined["quarantineUntil"]);
    assert_eq!(shaped(&rig, &format!("{path}?quarantined=false"), &WORKERS).await["workers"], json!([]));
    rig.get(&format!("{path}?quarantined=maybe")).await.refused(400, "InvalidRequestArguments");
    let claims = async || {
        let body = json!({ "workerGroup": "g", "workerId": "w", "tasks": 1 });
        rig.post("/claim-work/p%2Fw", &body).await.ok()["tasks"].as_array().map(Vec::len)
    };
    // There is a task, but not for this worker.
    tokio::select! {
        biased;
        early = claims() => panic!("answered at once: {early:?}"),
        () = eventually("it waits", async || rig.server.desk.waiting() == 1) => {}
    }
    assert_eq!(shaped(&rig, "/pending/p%2Fw", &PENDING_COUNT).await["pendingTasks"], 1);
    put(&rig, &until(-1)).await.ok();
    assert_eq!(claims().await, Some(1));
}

#[tokio::test]
async fn a_worker_may_be_declared_before_it_claims() {
    let rig = Rig::start().await;
    let path = "/provisioners/p/worker-types/w";
    let body = json!({ "expires": "2100-01-01T00:00:00.000Z" });
    let declared = rig.root(Method::PUT, &format!("{path}/g/w"), Some(&body)).await.ok();
    assert_shape(&declared, &WORKER);
    assert_eq!(declared["expires"], body["expires"]);
    assert_eq!(shaped(&rig, &format!("{path}/workers/g/w"), &WORKER).await, declared);
    rig.get(&format!("{path}/workers/g/other")).await.refused(404, "ResourceNotFound");
    for wrong in
        ["/provisioners/p!/worker-types/w/g/w", "/provisioners/p/worker-types/W/g/w", "/provisioners/p/worker-types/w/g/.."]
    {
        let status = rig.root(Method::PUT, wrong, Some(&body)).await.status;
        assert!(status.is_client_error(), "{wrong}: {status}");
    }
}
