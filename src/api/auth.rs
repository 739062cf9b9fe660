//! Typed calls of the auth service.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{ANSWER_BYTES, ApiError, CredentialsCell, Services, services::Call};

/// One attempt.
const CALL_BOUND: Duration = Duration::from_secs(30);

/// The auth service, called with the credentials of one owner.
#[derive(Clone)]
pub struct Auth {
    services: Services,
    credentials: CredentialsCell,
}

impl Auth {
    pub(super) fn new(services: Services, credentials: CredentialsCell) -> Self {
        Self { services, credentials }
    }

    /// `expandScopes`: these scopes, and those that the roles among them stand for.
    pub async fn expand_scopes(&self, scopes: &[String]) -> Result<Vec<String>, ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            scopes: Vec<String>,
        }
        // The service takes sets only.
        let mut set = scopes.to_vec();
        set.sort();
        set.dedup();
        let body = json!({ "scopes": set });
        let call = Call {
            name: "auth.expandScopes",
            method: Method::POST,
            resource: "/api/auth/v1/scopes/expand".to_owned(),
            body: Some(&body),
            timeout: CALL_BOUND,
            answer_bytes: ANSWER_BYTES,
        };
        let answer: Answer = self.services.call_json(&call, &self.credentials).await?;
        Ok(answer.scopes)
    }
}
