//! Answers to claims and renewals, odd ones above all.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, header};
use serde_json::{Value, json};

use super::{TASK, queue};
use crate::api::{
    Claim, DEFAULT_LEASE,
    scripted::{Scripted, Step},
};

/// As servers write it; three quarters of a second of it are cut off.
const NOW: &str = "Tue, 24 Nov 2026 12:00:00 GMT";

fn entry(changes: &[(&str, Value)]) -> Value {
    let mut entry = json!({
        "status": {
            "taskId": TASK, "state": "running",
            "runs": [
                { "runId": 0, "state": "exception", "reasonResolved": "claim-expired", "started": "2026-11-24T11:00:00.000Z" },
                { "runId": 1, "state": "running", "started": "2026-11-24T12:00:00.500Z", "takenUntil": "2026-11-24T12:20:00.500Z" },
            ],
        },
        "runId": 1,
        "workerGroup": "g",
        "workerId": "w",
        "takenUntil": "2026-11-24T12:20:00.500Z",
        "task": {
            "provisionerId": "p", "workerType": "t", "taskQueueId": "p/t", "taskGroupId": TASK, "dependencies": [],
            "scopes": ["a", "b:*"], "created": "2026-11-24T11:59:00.000Z", "deadline": "2026-11-24T13:00:00.000Z",
            "expires": "2026-12-24T12:00:00.000Z", "payload": { "z": 1, "a": 2 },
        },
        "credentials": { "clientId": "task-client/x", "accessToken": "hush", "certificate": "{\"version\":1}" },
    });
    for (pointer, value) in changes {
        *entry.pointer_mut(pointer).expect("a place") = value.clone();
    }
    entry
}

async fn claimed(tasks: Value) -> Vec<Claim> {
    let date = HeaderValue::from_static(NOW);
    let answer = Step::answer_with(200, json!({ "tasks": tasks }).to_string(), header::DATE, date);
    let transport = Arc::new(Scripted::in_order([answer]));
    queue(&transport).0.claim_work("p/t", "g", "w", 2).await.expect("claims")
}

async fn lease(changes: &[(&str, Value)]) -> Duration {
    claimed(json!([entry(changes)])).await.pop().expect("a claim").lease
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_read_whole() {
    let claim = claimed(json!([entry(&[])])).await.pop().expect("a claim");
    assert_eq!((claim.task_id.as_str(), claim.run_id), (TASK, 1));
    assert_eq!(claim.lease, Duration::from_secs(1200));
    assert_eq!(claim.task.raw.to_string(), entry(&[])["task"].to_string(), "in the author's order");
    assert_eq!(claim.task.scopes, ["a", "b:*"]);
    assert_eq!(claim.task.deadline.to_string(), "2026-11-24T13:00:00Z");
    assert_eq!(claim.status.runs.len(), 2);
    assert_eq!(claim.credentials.certificate.as_ref().expect("one").expose(), "{\"version\":1}");
    assert!(!format!("{claim:?}").contains("hush"));
}

#[tokio::test(start_paused = true)]
async fn the_length_of_a_lease_comes_from_the_answers_own_dates() {
    let short = ("/takenUntil", json!("2026-11-24T12:00:10.500Z"));
    assert_eq!(lease(std::slice::from_ref(&short)).await, Duration::from_secs(10));
    // Without a start the header's date counts, which may be almost a second too early.
    let no_start = ("/status/runs", json!([]));
    assert_eq!(lease(&[short, no_start.clone()]).await, Duration::from_millis(9500));
    for odd in ["2026-11-24T11:59:59.000Z", "0001-01-01T00:00:00.000Z", "soon", ""] {
        assert_eq!(lease(&[("/takenUntil", json!(odd))]).await, DEFAULT_LEASE, "{odd}");
        assert_eq!(lease(&[("/takenUntil", json!(odd)), no_start.clone()]).await, DEFAULT_LEASE, "{odd}");
    }
    assert_eq!(lease(&[("/takenUntil", json!("9998-12-31T23:59:59Z"))]).await, Duration::from_secs(7 * 24 * 3600));
}

#[tokio::test(start_paused = true)]
async fn no_run_that_can_be_resolved_is_lost_because_its_task_is_odd() {
    for changes in [
        vec![("/task", Value::Null)],
        vec![("/task", json!("no object"))],
        vec![("/task/payload", json!([])), ("/task/scopes", json!({})), ("/task/dependencies", json!([1, null]))],
        vec![("/task/deadline", json!("tomorrow")), ("/task/expires", json!(7)), ("/task/created", Value::Null)],
        vec![("/status/state", Value::Null), ("/status/runs", json!("none"))],
        vec![("/takenUntil", json!({}))],
        vec![("/credentials/certificate", json!({ "version": 1 }))],
    ] {
        let claims = claimed(json!([entry(&changes), entry(&[])])).await;
        assert_eq!(claims.len(), 2, "{changes:?}");
        assert_eq!((claims[0].task_id.as_str(), claims[0].run_id), (TASK, 1), "{changes:?}");
        assert!(claims[0].task.deadline.to_string().starts_with("2026-11-2"), "{changes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_without_identity_does_not_hide_the_others() {
    for broken in [
        json!("text"),
        json!(null),
        json!([1]),
        json!({}),
        entry(&[("/runId", json!(-1))]),
        entry(&[("/credentials", json!({}))]),
        entry(&[("/status/taskId", json!("../../etc/passwd"))]),
        entry(&[("/status", json!([]))]),
    ] {
        assert_eq!(claimed(json!([broken.clone(), entry(&[])])).await.len(), 1, "{broken}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_tells_its_length_and_credentials() {
    for (body, date, lease) in [
        (entry(&[("/takenUntil", json!("2026-11-24T12:00:10.000Z"))]), Some(NOW), Some(Duration::from_secs(9))),
        (entry(&[("/takenUntil", json!("0001-01-01T00:00:00.000Z"))]), Some(NOW), Some(DEFAULT_LEASE)),
        (entry(&[("/takenUntil", json!("2026-11-24T12:00:10.000Z"))]), None, None),
        (entry(&[("/takenUntil", json!("never")), ("/status", Value::Null)]), None, None),
    ] {
        let answer = match date {
            Some(date) => Step::answer_with(200, body.to_string(), header::DATE, HeaderValue::from_static(date)),
            None => Step::answer(200, body.to_string()),
        };
        let transport = Arc::new(Scripted::in_order([answer]));
        let renewed = queue(&transport).0.reclaim(TASK, 1, Duration::from_secs(30)).await.expect("renewed");
        assert_eq!(renewed.lease, lease, "{body}");
        assert_eq!(renewed.credentials.client_id, "task-client/x");
    }
    let transport = Arc::new(Scripted::in_order([Step::answer(200, "{}")]));
    assert!(
        queue(&transport).0.reclaim(TASK, 1, Duration::from_secs(30)).await.is_err(),
        "without credentials there is no renewal"
    );
}
