//! Claims that are taken away, as if they had expired.

use axum::{body::Body, response::Response};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use super::breach::Breach;
use crate::local::{desk::Desk, state::TaskId};

/// Largest answer that is looked into.
const ANSWER_BYTES: usize = 256 << 20;

/// Takes the runs away that an answer to claimWork gives, as if the claims had expired on the way.
pub(super) async fn steal_claims(desk: &Desk, response: Response) -> Response {
    let (head, body) = response.into_parts();
    // An answer of ours is whole, and not larger than what this server takes in.
    let Ok(body) = Limited::new(body, ANSWER_BYTES).collect().await else { return Breach::Silence.answer() };
    let bytes = body.to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    for task in answer["tasks"].as_array().into_iter().flatten() {
        let id = task["status"]["taskId"].as_str().and_then(TaskId::parse);
        steal(desk, id.zip(task["runId"].as_u64().and_then(|run| u32::try_from(run).ok())));
    }
    Response::from_parts(head, Body::from(bytes))
}

/// Takes the claim of this run away.
pub(super) fn steal(desk: &Desk, run: Option<(TaskId, u32)>) {
    if let Some((id, run)) = run {
        // A run that is not running cannot be stolen, and the call will say so.
        let _ = desk.books(|state, now| state.lapse(now, id, run));
    }
}

/// The run that a path is about: `…/task/<taskId>/runs/<runId>/…`
pub(super) fn run_in(path: &str) -> Option<(TaskId, u32)> {
    let mut parts = path.split('/').skip_while(|part| *part != "task").skip(1);
    let id = TaskId::parse(parts.next()?)?;
    (parts.next()? == "runs").then_some(())?;
    Some((id, parts.next()?.parse().ok()?))
}
