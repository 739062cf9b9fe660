//! Calls of worker-manager.

use std::time::Duration;

use http::Method;
use serde_json::json;

use super::{
    ANSWER_BYTES, ApiError, CredentialsCell, Services,
    services::{Call, segment},
};

/// One attempt. Nobody waits long for news about a worker that ends.
const CALL_BOUND: Duration = Duration::from_secs(10);
/// Longest description that the service takes, in characters.
const DESCRIPTION_CHARS: usize = 10_240;

/// What a worker says about itself before it ends.
#[derive(Debug, Clone)]
pub struct WorkerError {
    /// `<provisionerId>/<workerType>`
    pub pool: String,
    /// The worker's group.
    pub worker_group: String,
    /// The worker's id.
    pub worker_id: String,
    /// For programs: `[-a-z0-9]+`.
    pub kind: &'static str,
    /// The same for people.
    pub title: &'static str,
    /// What happened.
    pub description: String,
}

impl Services {
    /// `reportWorkerError`: shows up beside the pool. Asks once.
    pub async fn report_worker_error(&self, error: &WorkerError, credentials: &CredentialsCell) -> Result<(), ApiError> {
        let body = json!({
            "workerGroup": error.worker_group,
            "workerId": error.worker_id,
            "kind": error.kind,
            "title": error.title,
            "description": error.description.chars().take(DESCRIPTION_CHARS).collect::<String>(),
            "extra": {},
        });
        let call = Call {
            name: "workerManager.reportWorkerError",
            method: Method::POST,
            resource: format!("/api/worker-manager/v1/worker-pool-errors/{}", segment(&error.pool)),
            body: Some(&body),
            timeout: CALL_BOUND,
            answer_bytes: ANSWER_BYTES,
        };
        self.attempt(&call, credentials).await.map(drop)
    }
}
