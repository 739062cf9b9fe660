use super::*;

const NAME: &str = "/api/index/v1/task/project.images.build";

fn entry(id: &str, rank: impl Into<Value>, minutes: i64) -> Value {
    let expires = Timestamp::now().saturating_add(SignedDuration::from_mins(minutes)).expect("a date");
    json!({ "taskId": id, "rank": rank.into(), "data": { "a": 1 }, "expires": format!("{expires:.3}") })
}

async fn found(rig: &Rig) -> Value {
    rig.call_as(As::Nobody, Method::GET, NAME, None).await.ok()["taskId"].clone()
}

#[tokio::test]
async fn a_name_leads_to_the_task_of_the_highest_rank_that_came_last() {
    let rig = Rig::start().await;
    rig.call_as(As::Nobody, Method::GET, NAME, None).await.refused(404, "ResourceNotFound");
    let ids: Vec<String> = (0..4).map(|_| slugid(&SystemRandom)).collect();
    let insert = async |id: &str, rank: Value| rig.call_as(As::Root, Method::PUT, NAME, Some(&entry(id, rank, 60))).await.ok();
    let answer = insert(&ids[0], json!(5)).await;
    assert_eq!((&answer["namespace"], &answer["rank"]), (&json!("project.images.build"), &json!(5)));
    insert(&ids[1], json!(4.5)).await;
    assert_eq!(found(&rig).await, ids[0]);
    insert(&ids[2], json!(5)).await;
    assert_eq!(found(&rig).await, ids[2]);
    insert(&ids[3], json!(-1)).await;
    assert_eq!(found(&rig).await, ids[2]);
}

#[tokio::test]
async fn names_expire_and_bodies_are_checked() {
    let clock = Arc::new(TestClock::starting_at(Timestamp::now()));
    let rig = Rig::with(|options| options.clock = clock.clone()).await;
    let id = slugid(&SystemRandom);
    rig.call_as(As::Root, Method::PUT, NAME, Some(&entry(&id, json!(9), 5))).await.ok();
    // Not further than signatures may be off.
    clock.jump(SignedDuration::from_mins(10));
    rig.call_as(As::Root, Method::GET, NAME, None).await.refused(404, "ResourceNotFound");
    // What has expired is in nobody's way.
    rig.call_as(As::Root, Method::PUT, NAME, Some(&entry(&id, json!(1), 50))).await.ok();
    assert_eq!(found(&rig).await, id);
    for body in [json!({}), entry("no id", json!(1), 60), entry(&id, json!("1"), 60), {
        let mut entry = entry(&id, json!(1), 60);
        entry["data"] = json!([]);
        entry
    }] {
        rig.call_as(As::Root, Method::PUT, NAME, Some(&body)).await.refused(400, "InputValidationError");
    }
    let body = entry(&id, json!(1), 60);
    rig.call_as(As::Nobody, Method::PUT, NAME, Some(&body)).await.refused(403, "InsufficientScopes");
    for wrong in ["a..b", ".a", "a%2Fb", "a%20b", &"x".repeat(256)] {
        let path = format!("/api/index/v1/task/{wrong}");
        rig.call_as(As::Root, Method::PUT, &path, Some(&body)).await.refused(400, "InvalidRequestArguments");
    }
}

#[tokio::test]
async fn a_completed_task_is_indexed_by_its_routes_and_no_other() {
    let rig = Rig::start().await;
    let routed = async |end: &str, rank: u32| {
        let id = rig
            .create(|task| {
                task["routes"] = json!(["index.project.images.build", "index.not a name", "tc-treeherder.x"]);
                task["extra"] = json!({ "index": { "rank": rank, "data": { "end": end } } });
            })
            .await;
        let claim = rig.claim("w", 1).await.pop().expect("a claim");
        let body = json!({ "reason": "internal-error" });
        let path = format!("/task/{id}/runs/0/{end}");
        let body = (end == "exception").then_some(&body);
        rig.call_as(As::Task(&claim["credentials"]), Method::POST, &path, body).await.ok();
        id
    };
    routed("failed", 10).await;
    routed("exception", 10).await;
    rig.call_as(As::Nobody, Method::GET, NAME, None).await.refused(404, "ResourceNotFound");
    let good = routed("completed", 3).await;
    let answer = rig.call_as(As::Nobody, Method::GET, NAME, None).await.ok();
    assert_eq!(
        (&answer["taskId"], &answer["rank"], &answer["data"]),
        (&json!(good), &json!(3), &json!({ "end": "completed" }))
    );
    routed("completed", 2).await;
    assert_eq!(found(&rig).await, good);
}

#[tokio::test]
async fn an_artifact_is_found_by_name_by_those_who_may_have_it() {
    let rig = Rig::start().await;
    let (id, claim) = rig.running().await;
    for (name, url) in [("public%2Fx", "https://x/public"), ("private%2Fx", "https://x/private")] {
        let path = format!("/task/{id}/runs/0/artifacts/{name}");
        let body = json!({ "storageType": "reference", "contentType": "t", "url": url, "expires": claim["task"]["expires"] });
        rig.call_as(As::Task(&claim["credentials"]), Method::POST, &path, Some(&body)).await.ok();
    }
    rig.call_as(As::Root, Method::PUT, NAME, Some(&entry(&id, json!(0), 60))).await.ok();
    let public = rig.call_as(As::Nobody, Method::GET, &format!("{NAME}/artifacts/public/x"), None).await;
    assert_eq!((public.status.as_u16(), public.headers["location"].to_str().ok()), (303, Some("https://x/public")));
    assert_eq!(public.body, Value::Null, "clients that find JSON do not follow");
    let private = format!("{NAME}/artifacts/private/x");
    rig.call_as(As::Nobody, Method::GET, &private, None).await.refused(403, "InsufficientScopes");
    let private = rig.call_as(As::Root, Method::GET, &private, None).await;
    assert_eq!(private.headers["location"].to_str().ok(), Some("https://x/private"));
    let missing = "/api/index/v1/task/nobody/artifacts/public/x";
    rig.call_as(As::Nobody, Method::GET, missing, None).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn what_is_below_a_name_is_listed_in_pages() {
    const INDEX: &str = "/api/index/v1";
    let rig = Rig::start().await;
    let id = slugid(&SystemRandom);
    for (name, minutes) in [("a.b.one", 30), ("a.b.two", 60), ("a.b", 30), ("a.c.deep.x", 30), ("a-b", 30), ("z", 30)] {
        let path = format!("{INDEX}/task/{name}");
        rig.root(Method::PUT, &path, Some(&entry(&id, json!(1), minutes))).await.ok();
    }
    let names = |page: &Value, key: &str| {
        let list = page[key].as_array().expect("a list").iter();
        list.map(|entry| entry["namespace"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let list = async |path: &str| rig.call_as(As::Nobody, Method::GET, &format!("{INDEX}{path}"), None).await.ok();
    assert_eq!(names(&list("/tasks/a.b").await, "tasks"), ["a.b.one", "a.b.two"]);
    assert_eq!(names(&list("/tasks/a").await, "tasks"), ["a.b"]);
    assert_eq!(names(&list("/tasks/").await, "tasks"), ["a-b", "z"]);
    assert_eq!(names(&list("/namespaces/").await, "namespaces"), ["a"]);
    let below = list("/namespaces/a").await;
    assert_eq!(names(&below, "namespaces"), ["a.b", "a.c"]);
    assert_eq!(below["namespaces"][0]["name"], "b");
    let expiries = [list("/tasks/a.b").await["tasks"][1]["expires"].clone(), below["namespaces"][0]["expires"].clone()];
    assert_eq!(expiries[0], expiries[1], "a namespace lasts as long as what is in it");

    let first = list("/tasks/a.b?limit=1").await;
    let token = first["continuationToken"].as_str().expect("more").to_owned();
    assert_eq!(names(&first, "tasks"), ["a.b.one"]);
    let rest = list(&format!("/tasks/a.b?limit=1&continuationToken={token}")).await;
    assert_eq!((names(&rest, "tasks"), rest.get("continuationToken")), (vec!["a.b.two".to_owned()], None));
    // As older clients ask.
    let post =
        async |path: &str, body: Value| rig.call_as(As::Nobody, Method::POST, &format!("{INDEX}{path}"), Some(&body)).await;
    assert_eq!(names(&post("/tasks/a.b", json!({ "limit": 1, "continuationToken": token })).await.ok(), "tasks"), ["a.b.two"]);
    assert_eq!(names(&post("/namespaces/a", json!({})).await.ok(), "namespaces"), ["a.b", "a.c"]);
    post("/namespaces/a", json!({ "limit": 0 })).await.refused(400, "InputValidationError");

    let found = post("/tasks/indexes", json!({ "indexes": ["z", "nothing.here", "a.b"] })).await.ok();
    assert_eq!(names(&found, "tasks"), ["a.b", "z"]);
    post("/tasks/indexes", json!({ "indexes": ["a..b"] })).await.refused(400, "InputValidationError");
    let path = format!("{INDEX}/task/z");
    rig.call_as(As::Nobody, Method::DELETE, &path, None).await.refused(403, "InsufficientScopes");
    rig.root(Method::DELETE, &path, None).await.ok();
    rig.root(Method::DELETE, &path, None).await.refused(404, "ResourceNotFound");
    rig.call_as(As::Nobody, Method::GET, &path, None).await.refused(404, "ResourceNotFound");
}
