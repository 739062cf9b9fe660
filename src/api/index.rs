//! Typed calls of the index. Facts: the index's API reference, version 1.

use http::Method;
use serde::Deserialize;

use super::{
    ANSWER_BYTES, ApiError, CredentialsCell, Services,
    queue::CALL_BOUND,
    services::{Call, segment},
};

/// The index, called with the credentials of one owner.
#[derive(Clone)]
pub struct Index {
    services: Services,
    credentials: CredentialsCell,
}

impl Index {
    pub(super) fn new(services: Services, credentials: CredentialsCell) -> Self {
        Self { services, credentials }
    }

    /// `findTask`: the id of the task that has this name now.
    pub async fn find_task(&self, namespace: &str) -> Result<String, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            task_id: String,
        }
        let resource = format!("/api/index/v1/task/{}", segment(namespace));
        let call = Call {
            name: "index.findTask",
            method: Method::GET,
            resource,
            body: None,
            timeout: CALL_BOUND,
            answer_bytes: ANSWER_BYTES,
        };
        let answer: Answer = self.services.call_json(&call, &self.credentials).await?;
        Ok(answer.task_id)
    }
}
