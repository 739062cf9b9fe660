//! What faults look like on real connections.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::local::{
    Faults,
    tests::{As, Rig, signed},
};

const PING: &str = "GET /api/queue/v1/ping HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn rig(rules: &[&str]) -> Rig {
    let faults = Faults::parse(1, rules.iter().copied()).unwrap_or_else(|error| panic!("{error}"));
    Rig::with(|options| options.faults = faults).await
}

/// A connection as it is.
struct Raw(TcpStream);

impl Raw {
    async fn to(rig: &Rig) -> Self {
        Self(TcpStream::connect(rig.server.address()).await.expect("a connection"))
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("sent");
    }

    /// One answer: its head, and the body that it announces.
    async fn answer(&mut self) -> (String, Vec<u8>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("more of the head"));
        }
        let head = String::from_utf8(head).expect("text");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        self.0.read_exact(&mut body).await.expect("the body");
        (head, body)
    }

    /// Everything until the connection ends.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), self.0.read_to_end(&mut rest)).await;
        // It may end by a reset, too.
        let _ = read.expect("the connection ends");
        rest
    }
}

/// What a client that sends this gets until the connection ends.
async fn raw(rules: &[&str], request: &str) -> String {
    let rig = rig(rules).await;
    let mut connection = Raw::to(&rig).await;
    connection.send(request).await;
    let rest = connection.rest().await;
    assert_eq!(rig.server.faults_met(), [1], "{rules:?}");
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn refusals_and_garbage_leave_the_connection_open() {
    let rig =
        rig(&["ping: status 503 retry after 3s, first 1", "ping: garbage, first 1", "ping: late status 400, first 1"]).await;
    let mut connection = Raw::to(&rig).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        connection.send(PING).await;
        answers.push(connection.answer().await);
    }
    let starts = |n: usize| answers[n].0.lines().next().expect("a line").to_owned();
    assert_eq!(
        [0, 1, 2, 3].map(starts),
        ["HTTP/1.1 503 Service Unavailable", "HTTP/1.1 200 OK", "HTTP/1.1 400 Bad Request", "HTTP/1.1 200 OK"]
    );
    assert!(answers[0].0.contains("retry-after: 3\r\n"));
    let json = |n: usize| serde_json::from_slice::<Value>(&answers[n].1);
    assert_eq!(json(0).expect("JSON")["code"], "InternalServerError");
    assert!(json(0).expect("JSON")["message"].as_str().is_some_and(|text| text.contains("* statusCode: 503")));
    assert!(json(1).is_err());
    assert_eq!(json(2).expect("JSON")["code"], "InputError");
    assert!(json(3).expect("JSON")["alive"].is_boolean());
    assert_eq!(rig.server.faults_met(), [1, 1, 1]);
}

#[tokio::test]
async fn a_refused_upload_leaves_the_connection_open() {
    let rig = rig(&["PUT artifact: status 500, first 1"]).await;
    let (id, _) = rig.running().await;
    let mut connection = Raw::to(&rig).await;
    let body = "x".repeat(3_000_000);
    let put = format!("PUT /storage/{id}/0/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    connection.send(&put).await;
    let (head, body) = connection.answer().await;
    assert!(head.starts_with("HTTP/1.1 500 ") && head.contains("application/xml"), "{head}");
    assert!(String::from_utf8_lossy(&body).contains("<Code>InternalError</Code>"));
    connection.send(PING).await;
    assert!(connection.answer().await.0.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn answers_break_as_they_were_told_to() {
    let whole = raw(&["ping: delay 1ms"], &PING.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await;
    let (head, body) = whole.split_once("\r\n\r\n").expect("an answer");
    let announced = |answer: &str| -> usize {
        let line = answer.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        line.parse().expect("a number")
    };
    assert_eq!(announced(head), body.len());
    for rule in ["ping: drop", "ping: drop request", "ping: drop answer"] {
        assert_eq!(raw(&[rule], PING).await, "", "{rule}");
    }
    let garbage = raw(&["ping: garbage http"], PING).await;
    assert!(!garbage.is_empty() && !garbage.starts_with("HTTP"), "{garbage}");
    for (rule, sent) in [("ping: cut after 3", Some(3)), ("ping: cut answer after 0", Some(0)), ("ping: half body", None)] {
        let answer = raw(&[rule], PING).await;
        let (head, part) = answer.split_once("\r\n\r\n").expect("an answer");
        let whole = announced(head);
        assert!(whole > 20, "{rule}: {head}");
        assert_eq!(part.len(), sent.unwrap_or(whole / 2), "{rule}");
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    }
    let wrong = raw(&["ping: wrong length"], PING).await;
    let (head, body) = wrong.split_once("\r\n\r\n").expect("an answer");
    assert!(body.starts_with('{') && body.ends_with('}'), "{body}");
    assert_ne!(announced(head), body.len());
}

#[tokio::test]
async fn a_length_is_wrong_in_both_directions() {
    let rig = rig(&["ping: wrong length"]).await;
    let (mut larger, mut smaller) = (false, false);
    for _ in 0..64 {
        let mut connection = Raw::to(&rig).await;
        connection.send(PING).await;
        let answer = String::from_utf8(connection.rest().await).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let announced: usize = announced.parse().expect("a number");
        larger |= announced > body.len();
        smaller |= announced < body.len();
    }
    assert!(larger && smaller);
}

#[tokio::test]
async fn what_takes_effect_and_what_does_not() {
    for (fault, effect) in [
        ("drop request", false),
        ("drop answer", true),
        ("status 500", false),
        ("late status 500", true),
        ("garbage", true),
        ("garbage http", true),
        ("cut after 5", true),
        ("wrong length", true),
        ("cut request after 5", false),
    ] {
        let rig = rig(&[&format!("reportException: {fault}")]).await;
        let (id, _) = rig.running().await;
        let path = format!("/task/{id}/runs/0/exception");
        let url = rig.url(&path);
        let body = json!({ "reason": "malformed-payload" }).to_string();
        let authorization = signed(&Method::POST, &url);
        let request = rig.http.post(url).header("authorization", authorization).header("content-type", "application/json");
        let answer = match request.body(body).send().await {
            Ok(answer) if answer.status().is_success() => answer.bytes().await.ok(),
            _ => None,
        };
        let understood = answer.is_some_and(|bytes| serde_json::from_slice::<Value>(&bytes).is_ok());
        assert!(!understood, "{fault}");
        assert_eq!(rig.server.faults_met(), [1], "{fault}");
        assert_eq!(rig.state_of(&id).await, if effect { "exception" } else { "running" }, "{fault}");
    }
}

/// A URL to upload to, as the run's worker gets it.
async fn put_url(rig: &Rig, id: &str, claim: &Value) -> String {
    let path = format!("/task/{id}/runs/0/artifacts/public%2Fa");
    let body = json!({ "storageType": "s3", "contentType": "text/plain", "expires": claim["task"]["expires"] });
    let answer = rig.call_as(As::Task(&claim["credentials"]), Method::POST, &path, Some(&body)).await.ok();
    answer["putUrl"].as_str().expect("a URL").to_owned()
}

#[tokio::test]
async fn an_answer_that_breaks_does_not_spend_its_signature() {
    for rule in ["status: half body, first 1", "status: wrong length, first 1"] {
        let rig = rig(&[rule]).await;
        let url = rig.url(&format!("/task/{}/status", rig.create(|_| {}).await));
        let authorization = signed(&Method::GET, &url);
        let ask = || rig.http.get(url.clone()).header("authorization", &authorization).send();
        let answer = match ask().await {
            Ok(response) => response.bytes().await.ok(),
            Err(_) => None,
        };
        let understood = answer.is_some_and(|bytes| serde_json::from_slice::<Value>(&bytes).is_ok());
        assert!(!understood, "{rule}");
        assert_eq!(ask().await.expect("an answer").status(), 200, "{rule}: a client that repeats its call");
        assert_eq!(ask().await.expect("an answer").status(), 401, "{rule}: it was answered");
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_stores_nothing() {
    let rig = rig(&["PUT artifact: cut after 1MB, first 1"]).await;
    let (id, claim) = rig.running().await;
    let url = put_url(&rig, &id, &claim).await;
    let put = async |bytes: usize| rig.http.put(&url).header("content-type", "text/plain").body(vec![7; bytes]).send().await;
    // Shorter than the cut: not met, and not counted.
    assert!(put(1_000_000).await.expect("an answer").status().is_success());
    assert!(put(3_000_000).await.is_err());
    assert_eq!(rig.server.published(&id)[0].bytes, Some(1_000_000), "half an upload replaced a whole one");
    assert!(put(3_000_000).await.expect("an answer").status().is_success());
    assert_eq!(rig.server.published(&id)[0].bytes, Some(3_000_000));
}

#[tokio::test]
async fn a_download_is_cut_where_it_says() {
    let rig = rig(&["GET artifact: cut after 1MB"]).await;
    let (id, claim) = rig.running().await;
    let url = put_url(&rig, &id, &claim).await;
    let upload = rig.http.put(&url).header("content-type", "text/plain").body(vec![7; 5_000_000]).send().await;
    assert!(upload.expect("an answer").status().is_success());
    let found = rig.get(&format!("/task/{id}/artifacts/public%2Fa")).await;
    let from: reqwest::Url = found.body["url"].as_str().and_then(|url| url.parse().ok()).expect("a URL");
    let mut connection = Raw::to(&rig).await;
    let target = format!("{}?{}", from.path(), from.query().expect("a query"));
    connection.send(&format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
    let answer = connection.rest().await;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    assert!(String::from_utf8_lossy(&answer[..end]).contains("content-length: 5000000\r\n"));
    assert_eq!(answer.len() - end, 1_000_000);
}

#[tokio::test]
async fn a_url_that_has_expired_stays_so_and_a_fresh_one_works() {
    let rig = rig(&["PUT artifact: expired, first 1"]).await;
    let (id, claim) = rig.running().await;
    let url = put_url(&rig, &id, &claim).await;
    let put = async |url: &str| {
        let answer = rig.http.put(url).header("content-type", "text/plain").body("x").send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    };
    for _ in 0..2 {
        let (status, body) = put(&url).await;
        assert_eq!(status, 403);
        assert!(body.starts_with("<?xml") && body.contains("<Code>AccessDenied</Code>"), "{body}");
    }
    assert_eq!(put(&put_url(&rig, &id, &claim).await).await.0, 200);
    assert_eq!(rig.server.faults_met(), [1]);
}

#[tokio::test]
async fn a_download_that_has_expired_works_with_a_url_of_the_same_second() {
    let rig = rig(&["GET artifact: expired, first 1"]).await;
    let (id, claim) = rig.running().await;
    let url = put_url(&rig, &id, &claim).await;
    let put = rig.http.put(url).header("content-type", "text/plain").body("x").send().await.expect("an answer");
    assert_eq!(put.status(), 200);
    let ask = async || {
        let answer = rig.get(&format!("/task/{id}/runs/0/artifacts/public%2Fa")).await;
        answer.headers["location"].to_str().expect("a URL").to_owned()
    };
    let get = async |url: &str| rig.http.get(url).send().await.expect("an answer").status().as_u16();
    let (first, second) = (ask().await, ask().await);
    assert_ne!(first, second);
    assert_eq!([get(&first).await, get(&second).await, get(&first).await], [403, 200, 403]);
}

#[tokio::test]
async fn a_claim_that_is_stolen_on_its_way_is_nobodys() {
    let rig = rig(&["claimWork: stolen, first 1"]).await;
    let (id, claim) = rig.running().await;
    let path = format!("/task/{id}/runs/0/reclaim");
    rig.call_as(As::Task(&claim["credentials"]), Method::POST, &path, None).await.refused(409, "RequestConflict");
    let status = rig.call_as(As::Nobody, Method::GET, &format!("/task/{id}/status"), None).await.ok();
    let runs = &status["status"]["runs"];
    assert_eq!((&runs[0]["reasonResolved"], &runs[1]["state"]), (&json!("claim-expired"), &json!("pending")));
    assert_eq!(rig.claim("other", 1).await[0]["runId"], 1);
}

#[tokio::test]
async fn a_run_is_stolen_before_the_call_that_needs_it() {
    for call in ["reclaim", "completed", "artifacts/public%2Fa"] {
        let rig = rig(&["reclaimTask: stolen", "report*: stolen", "createArtifact: stolen"]).await;
        let (id, claim) = rig.running().await;
        let path = format!("/task/{id}/runs/0/{call}");
        let body = json!({ "storageType": "s3", "contentType": "text/plain", "expires": claim["task"]["expires"] });
        let body = call.starts_with("artifacts").then_some(&body);
        let answer = rig.call_as(As::Task(&claim["credentials"]), Method::POST, &path, body).await;
        // Artifacts may still be added to a run for a while after it was lost.
        if body.is_none() {
            answer.refused(409, "RequestConflict");
        }
        assert_eq!(rig.state_of(&id).await, "pending", "{call}");
    }
}

#[tokio::test]
async fn faults_do_not_keep_the_server_open() {
    let rig = rig(&["ping: delay 24h", "queue.status: cut after 1"]).await;
    let mut delayed = Raw::to(&rig).await;
    delayed.send(PING).await;
    // A client that never takes its broken answer: it only sends.
    let mut broken = Raw::to(&rig).await;
    broken.send(&PING.replace("ping", "task/fN1SbArXTPSVFNUvaOlinQ/status")).await;
    crate::local::tests::eventually("both faults were met", async || rig.server.faults_met() == [1, 1]).await;
    let started = Instant::now();
    rig.server.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
}
