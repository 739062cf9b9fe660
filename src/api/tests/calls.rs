//! Signing, trying again, and giving up, on a paused clock.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{DATE, TASK, credentials, queue};
use crate::api::{
    ErrorKind, NewArtifact, Reason, Resolution, Response, TransportError,
    scripted::{Scripted, Step},
};

/// What answers every call: that of runs 0 and 1 is known to be over, and the rest is empty.
fn answer() -> Value {
    let runs = json!([{ "runId": 0, "state": "completed" }, { "runId": 1, "state": "failed" }]);
    json!({ "tasks": [], "statuses": [], "storageType": "link", "status": { "taskId": TASK, "state": "failed", "runs": runs } })
}

fn good() -> Step {
    Step::answer(200, answer().to_string())
}

fn expires() -> jiff::Timestamp {
    "2026-12-01T00:00:00Z".parse().expect("a date")
}

fn field(headers: &HeaderMap, name: &str) -> String {
    let header = headers[header::AUTHORIZATION].to_str().expect("text").to_owned();
    let (_, rest) = header.split_once(&format!("{name}=\"")).expect("the field");
    rest.split_once('"').expect("an end").0.to_owned()
}

#[tokio::test(start_paused = true)]
async fn requests_are_those_of_the_reference() {
    let transport = Arc::new(Scripted::new(|_| good()));
    let (queue, _) = queue(&transport);
    queue.claim_work("p/t", "g", "w", 32).await.expect("an answer");
    queue.report(TASK, 0, Resolution::Completed).await.expect("reported");
    queue.report(TASK, 0, Resolution::Failed).await.expect("reported");
    queue.report(TASK, 0, Resolution::Exception(Reason::MalformedPayload)).await.expect("reported");
    let link = NewArtifact::Link { artifact: "b".to_owned(), content_type: "text/plain".to_owned(), expires: expires() };
    queue.create_artifact(TASK, 0, "public/a b%c/ä.log", &link).await.expect("created");
    queue.statuses(&[TASK.to_owned()]).await.expect("statuses");
    let seen: Vec<(String, String, Value)> = transport
        .seen()
        .into_iter()
        .map(|seen| {
            assert_eq!(seen.headers.contains_key(header::CONTENT_TYPE), !seen.body.is_empty(), "{}", seen.url);
            (seen.method.to_string(), seen.url, serde_json::from_slice(&seen.body).unwrap_or_default())
        })
        .collect();
    let base = "https://tc.example.com/api/queue/v1";
    let run = format!("{base}/task/{TASK}/runs/0");
    let post = "POST".to_owned();
    assert_eq!(
        seen,
        [
            (post.clone(), format!("{base}/claim-work/p%2Ft"), json!({ "workerGroup": "g", "workerId": "w", "tasks": 32 })),
            (post.clone(), format!("{run}/completed"), Value::Null),
            (post.clone(), format!("{run}/failed"), Value::Null),
            (post.clone(), format!("{run}/exception"), json!({ "reason": "malformed-payload" })),
            (
                post.clone(),
                format!("{run}/artifacts/public%2Fa%20b%25c%2F%C3%A4.log"),
                json!({
                    "storageType": "link", "artifact": "b", "contentType": "text/plain", "expires": "2026-12-01T00:00:00.000Z"
                }),
            ),
            (post, format!("{base}/tasks/status"), json!({ "taskIds": [TASK] })),
        ]
    );
    assert!(!transport.seen()[5].headers.contains_key(header::AUTHORIZATION), "statuses are asked for unsigned");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_would_become_another_call_is_not_sent() {
    let transport = Arc::new(Scripted::in_order([]));
    let (queue, _) = queue(&transport);
    for name in [".", ".."] {
        let link = NewArtifact::Link { artifact: "b".to_owned(), content_type: String::new(), expires: expires() };
        let error = queue.create_artifact(TASK, 0, name, &link).await.expect_err("refused");
        assert!(matches!(error.kind, ErrorKind::Request(_)), "{error}");
    }
    assert!(transport.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_signed_anew_with_the_newest_credentials() {
    let transport = Arc::new(Scripted::in_order([Step::answer(500, ""), Step::cut(), good()]));
    let (queue, cell) = queue(&transport);
    let report = queue.report(TASK, 0, Resolution::Completed);
    let renew = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut renewed = credentials("two");
        renewed.client_id = "renewed".to_owned();
        cell.set(renewed);
    };
    tokio::join!(async { report.await.expect("reported") }, renew);
    let seen = transport.seen();
    let ids: Vec<String> = seen.iter().map(|seen| field(&seen.headers, "id")).collect();
    assert_eq!(ids, ["me", "renewed", "renewed"]);
    let distinct = |name: &str| {
        let mut values: Vec<String> = seen.iter().map(|seen| field(&seen.headers, name)).collect();
        values.sort();
        values.dedup();
        values.len()
    };
    assert_eq!((distinct("nonce"), distinct("mac")), (3, 3));
    let start: jiff::Timestamp = DATE.parse().expect("a date");
    assert_eq!(field(&seen[0].headers, "ts"), start.as_second().to_string());
    assert!(seen.iter().all(|seen| !format!("{:?}", seen.headers).contains("mac=")), "signatures are not for logs");
}

#[tokio::test(start_paused = true)]
async fn waits_grow_with_jitter_until_patience_ends() {
    let transport = Arc::new(Scripted::new(|_| Step::answer(503, "{\"message\": \"down\"}")));
    let (queue, _) = queue(&transport);
    let began = Instant::now();
    let error = queue.report(TASK, 0, Resolution::Completed).await.expect_err("the service is down");
    assert_eq!(error.status(), Some(503));
    assert_eq!(error.to_string(), "queue.reportCompleted: HTTP status 503: down");
    let took = began.elapsed();
    assert!(took <= Duration::from_secs(900) && took > Duration::from_secs(780), "{took:?}");
    let at: Vec<Duration> = transport.seen().iter().map(|seen| seen.at - began).collect();
    let mut base = Duration::from_millis(500);
    for pair in at.windows(2) {
        let wait = pair[1].saturating_sub(pair[0]);
        assert!(wait >= base.mul_f64(0.5) && wait <= base.mul_f64(1.5) + Duration::from_millis(1), "{wait:?} of {base:?}");
        base = base.mul_f64(1.5).min(Duration::from_secs(60));
    }
    assert!((20..40).contains(&at.len()), "{}", at.len());
}

#[tokio::test(start_paused = true)]
async fn a_service_may_ask_for_a_pause_in_seconds_or_by_date() {
    let headers = HeaderMap::from_iter([
        (header::DATE, HeaderValue::from_static("Tue, 24 Nov 2026 12:00:00 GMT")),
        (header::RETRY_AFTER, HeaderValue::from_static("Tue, 24 Nov 2026 12:01:30 GMT")),
    ]);
    let by_date = Step::Answer(Response { status: 429, headers, body: "".into() });
    let seconds = Step::answer_with(429, "", header::RETRY_AFTER, HeaderValue::from_static("90"));
    let far = Step::answer_with(429, "", header::RETRY_AFTER, HeaderValue::from_static("86400"));
    for (step, secs) in [(by_date, 90), (seconds, 90), (far, 600)] {
        let transport = Arc::new(Scripted::in_order([step, good()]));
        let began = Instant::now();
        queue(&transport).0.report(TASK, 0, Resolution::Completed).await.expect("reported");
        assert_eq!(began.elapsed().as_secs(), secs);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_get_better_is_not_tried_again() {
    for step in [
        Step::answer(400, "{\"code\": \"InputError\"}"),
        Step::answer(401, ""),
        Step::answer(403, "no JSON"),
        Step::answer(404, "[]"),
        Step::answer(409, "{\"code\": \"RequestConflict\", \"message\": \"a\\n\\n  b\\n---\\n\\n* method: x\"}"),
        Step::Fail(TransportError::TooLarge),
        Step::Fail(TransportError::Request("no".to_owned())),
    ] {
        let transport = Arc::new(Scripted::in_order([step.clone()]));
        let error = queue(&transport).0.report(TASK, 0, Resolution::Completed).await.expect_err("an error");
        assert_eq!(transport.seen().len(), 1, "{step:?}");
        if error.is_conflict() {
            assert_eq!(error.to_string(), "queue.reportCompleted: HTTP status 409: a b");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn claims_and_renewals_are_asked_for_once_and_in_bounded_time() {
    let transport = Arc::new(Scripted::new(|_| Step::Silence));
    let (queue, _) = queue(&transport);
    let began = Instant::now();
    queue.claim_work("p/t", "g", "w", 1).await.expect_err("nothing came");
    assert!(began.elapsed() > Duration::from_secs(25) && began.elapsed() <= Duration::from_secs(60));
    let began = Instant::now();
    queue.reclaim(TASK, 0, Duration::from_secs(30)).await.expect_err("nothing came");
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    assert_eq!(transport.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_json_is_asked_for_again() {
    let created = json!({ "storageType": "s3", "putUrl": "https://s3/hush", "contentType": "a/b", "expires": "x" }).to_string();
    let transport = Arc::new(Scripted::in_order([Step::answer(200, &b"<html>"[..]), Step::answer(200, created)]));
    let s3 = NewArtifact::S3 { content_type: "a/b".to_owned(), content_length: 3, expires: expires() };
    let answer = queue(&transport).0.create_artifact(TASK, 0, "a", &s3).await.expect("created");
    assert_eq!(answer.put_url.as_ref().expect("a URL").expose(), "https://s3/hush");
    assert!(!format!("{answer:?}").contains("hush"));
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_an_answer_and_lists_have_pages() {
    let page = |name: &str, token: Value| {
        let one = json!({ "name": name, "storageType": "s3", "contentType": "a/b", "expires": "2026-12-01T00:00:00Z" });
        Step::answer(200, json!({ "artifacts": [one], "continuationToken": token }).to_string())
    };
    let transport = Arc::new(Scripted::in_order([Step::answer(303, "{}"), page("a", json!("t/1")), page("b", Value::Null)]));
    let (queue, _) = queue(&transport);
    queue.cancel_task(TASK).await.expect("a redirect is no error");
    let names: Vec<String> =
        queue.list_artifacts(TASK, 0).await.expect("a list").into_iter().map(|artifact| artifact.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(transport.seen()[2].url.ends_with("/artifacts?continuationToken=t%2F1"));
    let url = queue.artifact_url(TASK, 0, "public/x", Duration::from_secs(60)).expect("a URL");
    assert!(url.expose().contains("/runs/0/artifact-content/public%2Fx?bewit="), "{}", url.expose());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_is_corrected_by_the_services() {
    let refusal = |date: &'static str| Step::answer_with(401, "", header::DATE, HeaderValue::from_static(date));
    let transport = Arc::new(Scripted::in_order([
        refusal("Tue, 24 Nov 2026 15:00:00 GMT"),
        good(),
        good(),
        refusal("Tue, 24 Nov 2026 15:00:10 GMT"),
    ]));
    let (queue, _) = queue(&transport);
    queue.report(TASK, 0, Resolution::Completed).await.expect("reported at the second attempt");
    queue.report(TASK, 1, Resolution::Completed).await.expect("reported");
    let error = queue.report(TASK, 2, Resolution::Completed).await.expect_err("it is not the clock this time");
    assert_eq!(error.status(), Some(401));
    let start: jiff::Timestamp = DATE.parse().expect("a date");
    let ahead: Vec<i64> = transport
        .seen()
        .iter()
        .map(|seen| field(&seen.headers, "ts").parse::<i64>().expect("a number") - start.as_second())
        .collect();
    assert_eq!(ahead, [0, 3 * 3600, 3 * 3600, 3 * 3600]);
}

#[tokio::test(start_paused = true)]
async fn scopes_are_expanded_as_a_set_and_refusals_are_told_from_silence() {
    let expanded = json!({ "scopes": ["a", "assume:role", "b"] }).to_string();
    let transport = Arc::new(Scripted::in_order([Step::answer(500, ""), Step::answer(200, expanded), Step::answer(403, "{}")]));
    let (queue, cell) = queue(&transport);
    let auth = queue.services().auth(cell);
    let asked = ["b", "assume:role", "b"].map(str::to_owned);
    assert_eq!(auth.expand_scopes(&asked).await.expect("expanded"), ["a", "assume:role", "b"]);
    let seen = transport.seen();
    assert_eq!((seen[1].method.as_str(), seen[1].url.as_str()), ("POST", "https://tc.example.com/api/auth/v1/scopes/expand"));
    assert_eq!(serde_json::from_slice::<Value>(&seen[1].body).expect("JSON"), json!({ "scopes": ["assume:role", "b"] }));
    assert!(seen[1].headers.contains_key(header::AUTHORIZATION));
    assert!(!auth.expand_scopes(&asked).await.expect_err("refused").is_temporary());
}
