//! Graphs over HTTP: groups, dependencies, and what people ask of tasks. Every answer has the shape that clients rely on.

use super::{shapes::*, *};

impl Rig {
    async fn get_shaped(&self, path: &str, shape: &Shape) -> Value {
        let answer = self.get(path).await.ok();
        assert_shape(&answer, shape);
        answer
    }

    async fn post_shaped(&self, path: &str, body: &Value, shape: &Shape) -> Value {
        let answer = self.post(path, body).await.ok();
        assert_shape(&answer, shape);
        answer
    }

    /// All pages of a list, each with at most `limit` entries.
    async fn pages(&self, path: &str, key: &str, limit: usize, shape: &Shape) -> Vec<Value> {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let page = self.get_shaped(&format!("{path}?limit={limit}{token}"), shape).await;
            let entries = page[key].as_array().expect("a list");
            assert!(entries.len() <= limit);
            found.extend(entries.clone());
            match page["continuationToken"].as_str() {
                Some(next) => token = format!("&continuationToken={next}"),
                None => return found,
            }
        }
    }

    async fn group_of(&self, tasks: usize) -> (String, Vec<String>) {
        let group = slugid(&SystemRandom);
        let mut ids = Vec::new();
        for _ in 0..tasks {
            ids.push(self.create(|body| (body["taskGroupId"], body["schedulerId"]) = (json!(group), json!("s"))).await);
        }
        ids.sort();
        (group, ids)
    }
}

fn ids(entries: &[Value]) -> Vec<String> {
    entries.iter().map(|entry| entry["status"]["taskId"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn a_group_is_listed_page_by_page_sealed_and_canceled() {
    let rig = Rig::start().await;
    let (group, members) = rig.group_of(5).await;
    let path = format!("/task-group/{group}");
    assert_eq!(ids(&rig.pages(&format!("{path}/list"), "tasks", 2, &GROUP_LIST).await), members);
    assert_eq!(rig.get_shaped(&path, &GROUP).await["schedulerId"], "s");
    rig.post(&format!("{path}/cancel"), &Value::Null).await.refused(409, "RequestConflict");
    let running = rig.claim("w", 1).await.pop().expect("a claim");
    let sealed = rig.post_shaped(&format!("{path}/seal"), &Value::Null, &GROUP).await;
    assert_eq!(rig.post_shaped(&format!("{path}/seal"), &Value::Null, &GROUP).await, sealed);
    let mut late = definition(Timestamp::now());
    (late["taskGroupId"], late["schedulerId"]) = (json!(group), json!("s"));
    let new = format!("/task/{}", slugid(&SystemRandom));
    let message = rig.root(Method::PUT, &new, Some(&late)).await.refused(409, "RequestConflict");
    assert!(message.contains("sealed"), "{message}");

    rig.post(&format!("/task/{}/cancel", members[0]), &Value::Null).await.ok();
    let canceled = rig.post_shaped(&format!("{path}/cancel"), &Value::Null, &GROUP_CANCELED).await;
    assert_eq!((&canceled["taskGroupSize"], &canceled["cancelledCount"]), (&json!(5), &json!(4)));
    for id in &members {
        assert_eq!(rig.state_of(id).await, "exception");
    }
    let run = format!("/task/{}/runs/0/completed", running["status"]["taskId"].as_str().expect("an id"));
    rig.post(&run, &Value::Null).await.refused(409, "RequestConflict");
    let again = rig.post_shaped(&format!("{path}/cancel"), &Value::Null, &GROUP_CANCELED).await;
    assert_eq!(again["cancelledCount"], 0);
}

#[tokio::test]
async fn seals_and_priorities_survive_a_restart() {
    let data = tempfile::tempdir().expect("a directory");
    let start = || Rig::with(|options| options.data_dir = Some(data.path().join("data")));
    let rig = start().await;
    let (group, members) = rig.group_of(2).await;
    let sealed = rig.post(&format!("/task-group/{group}/seal"), &Value::Null).await.ok();
    rig.post(&format!("/task/{}/priority", members[1]), &json!({ "newPriority": "high" })).await.ok();
    rig.server.shutdown().await;
    drop(rig);
    let rig = start().await;
    assert_eq!(rig.get_shaped(&format!("/task-group/{group}"), &GROUP).await, sealed);
    assert_eq!(rig.claim("w", 1).await[0]["status"]["taskId"], *members[1]);
    let canceled = rig.post(&format!("/task-group/{group}/cancel"), &Value::Null).await.ok();
    assert_eq!(canceled["cancelledCount"], 2);
}

#[tokio::test]
async fn all_tasks_of_a_group_have_one_scheduler() {
    let rig = Rig::start().await;
    let (group, _) = rig.group_of(1).await;
    let mut stranger = definition(Timestamp::now());
    (stranger["taskGroupId"], stranger["schedulerId"]) = (json!(group), json!("other"));
    let id = slugid(&SystemRandom);
    rig.root(Method::PUT, &format!("/task/{id}"), Some(&stranger)).await.refused(409, "RequestConflict");
    rig.get(&format!("/task/{id}")).await.refused(404, "ResourceNotFound");
    for path in ["", "/list"] {
        rig.get(&format!("/task-group/{id}{path}")).await.refused(404, "ResourceNotFound");
        rig.get(&format!("/task-group/short{path}")).await.refused(400, "InvalidRequestArguments");
    }
    for path in ["seal", "cancel"] {
        rig.post(&format!("/task-group/{id}/{path}"), &Value::Null).await.refused(404, "ResourceNotFound");
    }
}

#[tokio::test]
async fn a_group_s_priority_moves_what_is_pending() {
    let rig = Rig::start().await;
    let first = rig.create(|_| {}).await;
    let (group, members) = rig.group_of(3).await;
    let path = format!("/task-group/{group}/priority");
    for body in [json!({}), json!({ "newPriority": "normal" }), json!({ "newPriority": "high", "more": 1 }), json!([])] {
        rig.post(&path, &body).await.refused(400, "InputValidationError");
    }
    let answer = rig.post_shaped(&path, &json!({ "newPriority": "high" }), &GROUP_PRIORITY).await;
    assert_eq!((&answer["tasksAffected"], &answer["taskIds"]), (&json!(3), &json!(members)));
    let moved = rig.post_shaped(&format!("/task/{first}/priority"), &json!({ "newPriority": "highest" }), &STATUS_ANSWER).await;
    assert_eq!(moved["status"]["priority"], "highest");
    assert_eq!(rig.get(&format!("/task/{first}")).await.ok()["priority"], "highest");
    let pending = rig.pages("/task-queues/p%2Fw/pending", "tasks", 3, &PENDING_LIST).await;
    let order: Vec<_> = pending.iter().map(|entry| entry["taskId"].as_str().expect("an id")).collect();
    assert_eq!(order[0], first);
    let claims = rig.claim("w", 4).await;
    assert_eq!(claims[0]["status"]["taskId"], *first);
    assert_eq!(claims[0]["task"]["priority"], "highest");
    rig.post(&format!("/task/{first}/runs/0/failed"), &Value::Null).await.ok();
    let message =
        rig.post(&format!("/task/{first}/priority"), &json!({ "newPriority": "low" })).await.refused(409, "RequestConflict");
    assert!(message.contains("resolved"), "{message}");
}

#[tokio::test]
async fn dependents_are_listed_and_scheduled_when_a_rerun_completes() {
    let rig = Rig::start().await;
    let (first, _) = rig.running().await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(rig.create(|body| body["dependencies"] = json!([first])).await);
    }
    waiting.sort();
    assert_eq!(ids(&rig.pages(&format!("/task/{first}/dependents"), "tasks", 3, &DEPENDENTS).await), waiting);
    rig.post(&format!("/task/{first}/runs/0/failed"), &Value::Null).await.ok();
    assert_eq!(rig.state_of(&waiting[0]).await, "unscheduled");
    let scheduled = rig.post_shaped(&format!("/task/{}/schedule", waiting[0]), &Value::Null, &STATUS_ANSWER).await;
    assert_eq!(scheduled["status"]["state"], "pending");
    let rerun = rig.post_shaped(&format!("/task/{first}/rerun"), &Value::Null, &STATUS_ANSWER).await;
    assert_eq!(rerun["status"]["runs"][1]["reasonCreated"], "rerun");
    let body = json!({ "workerGroup": "g", "workerId": "w" });
    let claim = rig.post_shaped(&format!("/task/{first}/runs/1/claim"), &body, &CLAIM).await;
    assert_eq!(claim["status"]["taskId"], *first);
    rig.post(&format!("/task/{first}/runs/1/claim"), &body).await.refused(409, "RequestConflict");
    rig.post(&format!("/task/{first}/runs/1/completed"), &Value::Null).await.ok();
    for id in &waiting {
        assert_eq!(rig.state_of(id).await, "pending");
    }
    assert_eq!(ids(&rig.pages(&format!("/task/{first}/dependents"), "tasks", 3, &DEPENDENTS).await), waiting);
    for path in ["dependents", "status"] {
        rig.get(&format!("/task/{}/{path}", slugid(&SystemRandom))).await.refused(404, "ResourceNotFound");
    }
}

#[tokio::test]
async fn who_has_no_scopes_changes_nothing() {
    let rig = Rig::start().await;
    let (group, members) = rig.group_of(1).await;
    let id = &members[0];
    let priority = json!({ "newPriority": "high" });
    let until = json!({ "quarantineUntil": "2030-01-01T00:00:00Z" });
    let worker = "/provisioners/p/worker-types/w";
    rig.claim("w", 1).await;
    for (method, path, body) in [
        (Method::POST, format!("/task/{id}/schedule"), &Value::Null),
        (Method::POST, format!("/task/{id}/rerun"), &Value::Null),
        (Method::POST, format!("/task/{id}/priority"), &priority),
        (Method::POST, format!("/task/{id}/runs/0/claim"), &json!({ "workerGroup": "g", "workerId": "w" })),
        (Method::POST, format!("/task-group/{group}/seal"), &Value::Null),
        (Method::POST, format!("/task-group/{group}/cancel"), &Value::Null),
        (Method::POST, format!("/task-group/{group}/priority"), &priority),
        (Method::PUT, format!("{worker}/workers/g/w"), &until),
        (Method::PUT, format!("{worker}/g/w"), &json!({ "expires": "2030-01-01T00:00:00Z" })),
    ] {
        rig.call_as(As::Nobody, method, &path, Some(body)).await.refused(403, "InsufficientScopes");
    }
    assert_eq!(rig.state_of(id).await, "running");
}

#[tokio::test]
async fn dependencies_that_cannot_be_are_refused() {
    let rig = Rig::start().await;
    let create = async |change: &dyn Fn(&mut Value)| {
        let mut body = definition(Timestamp::now());
        change(&mut body);
        rig.root(Method::PUT, &format!("/task/{}", slugid(&SystemRandom)), Some(&body)).await
    };
    let unknown = slugid(&SystemRandom);
    let message = create(&|body| body["dependencies"] = json!([unknown])).await.refused(400, "InputError");
    assert!(message.contains(&unknown), "{message}");
    create(&|body| body["dependencies"] = json!([unknown, unknown])).await.refused(400, "InputValidationError");
    create(&|body| body["dependencies"] = json!(["not-a-slugid"])).await.refused(400, "InputValidationError");
    create(&|body| body["taskGroupId"] = json!("../../etc")).await.refused(400, "InputValidationError");
    let short = rig.create(|body| body["expires"] = body["deadline"].clone()).await;
    let later = format!("{:.3}", Timestamp::now().saturating_add(SignedDuration::from_hours(2)).expect("a date"));
    let message = create(&|body| {
        body["dependencies"] = json!([short]);
        (body["deadline"], body["expires"]) = (json!(later), json!(later));
    })
    .await
    .refused(400, "InputError");
    assert!(message.contains("expire before"), "{message}");
    // A task may wait for itself, and nothing but a person lets it go.
    let own = slugid(&SystemRandom);
    let mut body = definition(Timestamp::now());
    body["dependencies"] = json!([own]);
    rig.root(Method::PUT, &format!("/task/{own}"), Some(&body)).await.ok();
    assert_eq!(rig.state_of(&own).await, "unscheduled");
    rig.post(&format!("/task/{own}/schedule"), &Value::Null).await.ok();
    assert_eq!(rig.state_of(&own).await, "pending");
}

#[tokio::test]
async fn a_page_of_large_tasks_ends_early_and_a_conflict_shows_only_the_beginning() {
    let rig = Rig::start().await;
    let group = slugid(&SystemRandom);
    let large = |body: &mut Value| {
        body["taskGroupId"] = json!(group);
        body["payload"] = json!({ "large": "x".repeat(9 << 20) });
    };
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(rig.create(large).await);
    }
    all.sort();
    let first = rig.get(&format!("/task-group/{group}/list")).await.ok();
    assert_eq!(ids(first["tasks"].as_array().expect("a list")), all[..1]);
    assert_eq!(ids(&rig.pages(&format!("/task-group/{group}/list"), "tasks", 1000, &GROUP_LIST).await), all);
    let page = rig.post("/tasks", &json!({ "taskIds": all })).await.ok();
    assert_eq!((page["tasks"].as_array().expect("a list").len(), &page["continuationToken"]), (1, &json!("1")));
    let mut other = definition(Timestamp::now());
    large(&mut other);
    other["priority"] = json!("low");
    let message = rig.root(Method::PUT, &format!("/task/{}", all[0]), Some(&other)).await.refused(409, "RequestConflict");
    assert!(message.len() < 20_000, "{}", message.len());
}
