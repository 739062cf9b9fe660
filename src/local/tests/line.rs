use super::*;

fn worker_body(worker: &str) -> Value {
    json!({ "workerGroup": "g", "workerId": worker, "tasks": 1 })
}

/// A claim in the background, in line once this returns.
async fn in_line(rig: &Arc<Rig>, worker: &'static str) -> tokio::task::JoinHandle<Vec<Value>> {
    let waiting = rig.server.desk.waiting();
    let claim = tokio::spawn({
        let rig = rig.clone();
        async move { rig.claim(worker, 1).await }
    });
    eventually("the claim did not get in line", async || rig.server.desk.waiting() == waiting + 1).await;
    claim
}

#[tokio::test]
async fn long_polls_are_answered_in_order_as_soon_as_a_task_arrives() {
    let rig = Arc::new(Rig::start().await);
    let first = in_line(&rig, "first").await;
    let second = in_line(&rig, "second").await;
    let started = tokio::time::Instant::now();
    let one = rig.create(|_| {}).await;
    assert_eq!(first.await.expect("a claim")[0]["status"]["taskId"], *one);
    let two = rig.create(|_| {}).await;
    assert_eq!(second.await.expect("a claim")[0]["status"]["taskId"], *two);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "a long poll waited although a task was there: {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_worker_that_goes_away_takes_no_task_with_it() {
    let rig = Arc::new(Rig::start().await);
    let url = rig.url("/claim-work/p%2Fw");
    let gone = tokio::spawn({
        let request = rig.http.post(url.clone()).header("authorization", sign(("root", TOKEN), None, &Method::POST, &url));
        request.body(worker_body("gone").to_string()).send()
    });
    eventually("the claim did not get in line", async || rig.server.desk.waiting() == 1).await;
    gone.abort();
    eventually("the worker is still in line", async || rig.server.desk.waiting() == 0).await;
    let id = rig.create(|_| {}).await;
    assert_eq!(rig.state_of(&id).await, "pending");
    assert_eq!(rig.claim("there", 1).await[0]["status"]["taskId"], *id);
}

#[tokio::test]
async fn runs_that_no_one_took_from_a_seat_are_pending_again() {
    let rig = Rig::start().await;
    let worker = Arc::new(state::Worker { group: "g".into(), id: "w".into() });
    let Err(seat) = rig.server.desk.claim_or_wait(&POOL.into(), &worker, 1) else { panic!("there is nothing to claim") };
    let id = rig.create(|_| {}).await;
    assert_eq!(rig.state_of(&id).await, "running");
    drop(seat);
    assert_eq!(rig.state_of(&id).await, "pending");
    assert_eq!(rig.claim("w", 1).await[0]["runId"], 0);
}

#[tokio::test]
async fn closing_ends_long_polls_at_once() {
    let rig = Arc::new(Rig::start().await);
    let claim = in_line(&rig, "w").await;
    let started = tokio::time::Instant::now();
    rig.server.shutdown().await;
    assert!(claim.await.expect("an answer").is_empty());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(rig.http.get(rig.url("/ping")).send().await.is_err(), "it still answers");
}

#[tokio::test]
async fn a_claim_that_is_not_renewed_expires_by_itself() {
    let rig = Arc::new(Rig::with(|options| options.claim_timeout = Duration::from_millis(300)).await);
    let id = rig.create(|body| body["retries"] = json!(1)).await;
    assert_eq!(rig.claim("w", 1).await[0]["runId"], 0);
    // Nobody calls in between: the server's own clockwork gives the retry to the worker in line.
    let again = in_line(&rig, "next").await.await.expect("a claim");
    assert_eq!((&again[0]["status"]["taskId"], &again[0]["runId"]), (&json!(id), &json!(1)));
    eventually("the second claim did not expire", async || rig.state_of(&id).await == "exception").await;
}
