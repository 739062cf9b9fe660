//! Typed calls of the purge-cache service.

use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    ANSWER_BYTES, ApiError, CredentialsCell, RetryPolicy, Services,
    services::{Call, segment},
    types::date,
};

/// One attempt. A task waits for it.
const CALL_BOUND: Duration = Duration::from_secs(15);
/// All attempts: a service that is away for longer holds up no task, since the next one asks for the same again.
const PATIENCE: RetryPolicy =
    RetryPolicy { first: Duration::from_millis(500), longest: Duration::from_secs(5), total: Duration::from_secs(20) };

/// The purge-cache service, called with the credentials of one owner.
#[derive(Clone)]
pub struct PurgeCache {
    services: Services,
    credentials: CredentialsCell,
}

/// Somebody wants caches of a name to be made anew.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenPurgeRequest {
    /// The name of the caches.
    pub cache_name: String,
    /// Those that were made before are meant.
    pub before: Timestamp,
}

impl PurgeCache {
    /// The service of a deployment.
    pub fn new(services: &Services, credentials: CredentialsCell) -> Self {
        Self { services: services.with_retry(PATIENCE), credentials }
    }

    /// `purgeRequests`: requests for caches of a pool, those that came after `since` if that is given. Needs the scope
    /// `purge-cache:purge-requests::<pool>`.
    pub async fn requests(&self, pool: &str, since: Option<Timestamp>) -> Result<Vec<OpenPurgeRequest>, ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            requests: Vec<OpenPurgeRequest>,
        }
        let query = since.map(|since| format!("?since={}", segment(&date(since)))).unwrap_or_default();
        let call = Call {
            name: "purgeCache.purgeRequests",
            method: Method::GET,
            resource: format!("/api/purge-cache/v1/purge-cache/{}{query}", segment(pool)),
            body: None,
            timeout: CALL_BOUND,
            answer_bytes: ANSWER_BYTES,
        };
        let answer: Answer = self.services.call_json(&call, &self.credentials).await?;
        Ok(answer.requests)
    }
}
