use super::*;

#[tokio::test]
async fn a_task_goes_from_creation_to_resolution() {
    let rig = Rig::start().await;
    let (id, claim) = rig.running().await;
    assert_eq!(claim["status"]["taskId"], *id);
    assert_eq!(claim["status"]["runs"][0]["workerId"], "w");
    assert_eq!(claim["task"], rig.get(&format!("/task/{id}")).await.ok());
    let credentials = &claim["credentials"];
    let until: Timestamp = claim["takenUntil"].as_str().and_then(|text| text.parse().ok()).expect("a date");
    let client_id = format!("task-client/{id}/0/on/g/w/until/{}", until.as_second());
    assert_eq!(credentials["clientId"], client_id);
    let certificate: Value = serde_json::from_str(credentials["certificate"].as_str().expect("a certificate")).expect("JSON");
    assert_eq!(certificate["expiry"].as_i64(), Some(until.as_millisecond()));
    let scopes = ["reclaim-task", "resolve-task", "create-artifact"].map(|verb| format!("queue:{verb}:{id}/0"));
    assert_eq!(certificate["scopes"], json!([scopes[0], scopes[1], scopes[2], "own:scope"]));

    let run = format!("/task/{id}/runs/0");
    let call = async |path: &str| rig.call_as(As::Task(credentials), Method::POST, path, None).await;
    assert!(call(&format!("{run}/reclaim")).await.ok()["credentials"]["certificate"].is_string());
    assert_eq!(call(&format!("{run}/completed")).await.ok()["status"]["state"], "completed");
    assert_eq!(call(&format!("{run}/completed")).await.ok()["status"]["runs"][0]["reasonResolved"], "completed");
    call(&format!("{run}/failed")).await.refused(409, "RequestConflict");
    call(&format!("{run}/reclaim")).await.refused(409, "RequestConflict");
    call(&format!("/task/{id}/runs/1/completed")).await.refused(403, "InsufficientScopes");
}

#[tokio::test]
async fn a_run_s_credentials_are_for_that_run_and_end_with_its_claim() {
    // Signatures of this test carry the machine's date, so the server's clock starts there, too.
    let clock = Arc::new(TestClock::starting_at(Timestamp::now()));
    let rig = Rig::with(|options| {
        options.claim_timeout = Duration::from_secs(60);
        options.clock = clock.clone();
    })
    .await;
    let (mine, claim) = rig.running().await;
    let (other, _) = rig.running().await;
    let credentials = &claim["credentials"];
    let call = async |path: &str| rig.call_as(As::Task(credentials), Method::POST, path, None).await;
    for verb in ["reclaim", "completed", "failed"] {
        call(&format!("/task/{other}/runs/0/{verb}")).await.refused(403, "InsufficientScopes");
    }
    call(&format!("/task/{mine}/cancel")).await.refused(403, "InsufficientScopes");
    call(&format!("/task/{mine}/runs/0/reclaim")).await.ok();
    clock.jump(SignedDuration::from_secs(30));
    let renewed = call(&format!("/task/{mine}/runs/0/reclaim")).await.ok();
    clock.jump(SignedDuration::from_secs(31));
    let message = call(&format!("/task/{mine}/runs/0/reclaim")).await.refused(401, "AuthenticationFailed");
    assert!(message.contains("expired"), "{message}");
    let path = format!("/task/{mine}/runs/0/completed");
    rig.call_as(As::Task(&renewed["credentials"]), Method::POST, &path, None).await.ok();
}

#[tokio::test]
async fn scopes_decide() {
    let rig = Rig::start().await;
    let id = rig.create(|_| {}).await;
    for path in [format!("/task/{id}"), format!("/task/{id}/status")] {
        rig.call_as(As::Nobody, Method::GET, &path, None).await.ok();
    }
    rig.call_as(As::Nobody, Method::POST, "/tasks/status", Some(&json!({ "taskIds": [id] }))).await.ok();
    let claim = json!({ "workerGroup": "g", "workerId": "w", "tasks": 1 });
    for (method, path, body) in [
        (Method::PUT, format!("/task/{}", slugid(&SystemRandom)), definition(Timestamp::now())),
        (Method::POST, format!("/task/{id}/cancel"), json!({})),
        (Method::POST, "/claim-work/p%2Fw".to_owned(), claim),
        (Method::POST, format!("/task/{id}/runs/0/completed"), json!({})),
        (Method::POST, format!("/task/{id}/runs/0/reclaim"), json!({})),
    ] {
        rig.call_as(As::Nobody, method, &path, Some(&body)).await.refused(403, "InsufficientScopes");
    }
    assert_eq!(rig.state_of(&id).await, "pending");

    // A task cannot give to another what it does not have.
    let giver = rig.create(|body| body["scopes"] = json!(["queue:create-task:*", "queue:scheduler-id:*", "mine:*"])).await;
    rig.call_as(As::Root, Method::POST, &format!("/task/{id}/cancel"), None).await.ok();
    let claim = rig.claim("w", 1).await.pop().expect("a claim");
    assert_eq!(claim["status"]["taskId"], *giver);
    let create = async |scope: &str| {
        let mut body = definition(Timestamp::now());
        body["scopes"] = json!([scope]);
        let path = format!("/task/{}", slugid(&SystemRandom));
        rig.call_as(As::Task(&claim["credentials"]), Method::PUT, &path, Some(&body)).await
    };
    create("mine:x").await.ok();
    assert!(create("yours:x").await.refused(403, "InsufficientScopes").contains("yours:x"));
}

#[tokio::test]
async fn bad_requests_are_refused_in_the_services_format() {
    let rig = Rig::start().await;
    let id = slugid(&SystemRandom);
    let task = format!("/task/{id}");
    rig.get("/task/not-a-slugid/status").await.refused(400, "InvalidRequestArguments");
    rig.get("/task/%FF/status").await.refused(400, "InvalidRequestArguments");
    rig.get(&format!("{task}/status")).await.refused(404, "ResourceNotFound");
    for run in ["x", "+0", "-1", "1001"] {
        rig.get(&format!("{task}/runs/{run}/artifacts")).await.refused(400, "InvalidRequestArguments");
    }
    rig.post("/claim-work/no-queue", &json!({})).await.refused(400, "InvalidRequestArguments");
    let message =
        rig.post("/claim-work/p%2Fw", &json!({ "tasks": 33, "workerId": "" })).await.refused(400, "InputValidationError");
    for part in ["workerGroup", "workerId", "tasks"] {
        assert!(message.contains(part), "{message}");
    }
    rig.post(&format!("{task}/runs/0/exception"), &json!({ "reason": "superseded" }))
        .await
        .refused(400, "InputValidationError");
    let put = async |body: &Value| rig.call_as(As::Root, Method::PUT, &task, Some(body)).await;
    put(&json!("text")).await.refused(400, "InputValidationError");
    put(&json!({})).await.refused(400, "InputValidationError");

    let raw = async |body: String| {
        let url = rig.url(&task);
        let response =
            rig.http.put(url.clone()).header("authorization", sign(("root", TOKEN), None, &Method::PUT, &url)).body(body);
        let response = response.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON") }
    };
    raw("{ no json".to_owned()).await.refused(400, "MalformedPayload");
    raw("[".repeat(100_000)).await.refused(400, "MalformedPayload");
    raw(format!("\"{}\"", "x".repeat(10 * 1024 * 1024))).await.refused(413, "InputTooLarge");

    let message = rig.get("/task-group/x/members").await.refused(404, "ResourceNotFound");
    assert!(message.contains("not offered"), "{message}");
    rig.call_as(As::Root, Method::DELETE, &task, None).await.refused(405, "MethodNotAllowed");
    let mut deep = definition(Timestamp::now());
    deep["payload"] = (0..100).fold(json!({}), |inner, _| json!({ "in": inner }));
    put(&deep).await.ok();
}

#[tokio::test]
async fn a_wrong_signature_is_a_401_and_not_an_anonymous_call() {
    let rig = Rig::start().await;
    let id = rig.create(|_| {}).await;
    let url = rig.url(&format!("/task/{id}/status"));
    for header in [
        sign(("root", "wrong"), None, &Method::GET, &url),
        sign(("nobody", TOKEN), None, &Method::GET, &url),
        "Basic eA==".to_owned(),
    ] {
        let response = rig.http.get(url.clone()).header("authorization", header).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["www-authenticate"], "Hawk");
    }
    assert!(rig.http.get(url).send().await.expect("an answer").status().is_success());
    // That a service is there is said to everybody, whatever they sign with.
    rig.call_as(As::Client("nobody", TOKEN), Method::GET, "/ping", None).await.ok();
}

#[tokio::test]
async fn many_tasks_are_asked_for_page_by_page() {
    let rig = Rig::start().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(rig.create(|_| {}).await);
    }
    // Named twice is shown once, also on a later page.
    let asked =
        json!({ "taskIds": [ids[0], "unknown", ids[1], ids[0], ids[2], slugid(&SystemRandom), ids[3], ids[0], ids[4]] });
    for (path, key) in [("/tasks/status", "statuses"), ("/tasks", "tasks")] {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let page = rig.post(&format!("{path}?limit=3{token}"), &asked).await.ok();
            found.extend(
                page[key].as_array().expect("a list").iter().map(|entry| entry["taskId"].as_str().expect("an id").to_owned()),
            );
            match page["continuationToken"].as_str() {
                Some(next) => token = format!("&continuationToken={next}"),
                None => break,
            }
        }
        assert_eq!(found, ids);
    }
}
