//! Where the content of an artifact is: calls of the queue and, for objects, of the object service.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{
    ANSWER_BYTES, ApiError, Credentials, CredentialsCell, Queue, Secret,
    queue::{CALL_BOUND, run_path},
    services::{Call, segment},
};

/// What the queue says about the content of an artifact. Links are followed by the queue.
#[derive(Debug, Clone)]
pub enum ArtifactContent {
    /// It is behind a URL, which may expire.
    Url(Secret),
    /// The object service has it.
    Object {
        /// Its name there.
        name: String,
        /// What opens it, for an hour.
        credentials: CredentialsCell,
    },
    /// There is none, for a reason.
    Error {
        /// A word for the reason.
        reason: String,
        /// A sentence.
        message: String,
    },
}

/// Where an object is.
#[derive(Debug, Clone)]
pub struct ObjectUrl {
    /// The URL, which may expire.
    pub url: Secret,
    /// SHA-256 of the object in hexadecimal, if the service knows it.
    pub sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "storageType", rename_all = "lowercase")]
enum Answer {
    S3 { url: String },
    Reference { url: String },
    Object { name: String, credentials: ObjectCredentials },
    Error { reason: String, message: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectCredentials {
    client_id: String,
    access_token: String,
    certificate: Option<String>,
}

impl ObjectCredentials {
    pub(super) fn into_cell(self) -> CredentialsCell {
        let Self { client_id, access_token, certificate } = self;
        let (access_token, certificate) = (Secret::new(access_token), certificate.map(Secret::new));
        CredentialsCell::new(Credentials { client_id, access_token, certificate })
    }
}

impl Queue {
    /// `artifact`, or without a run `latestArtifact`. The queue checks each time that the caller may read the artifact.
    pub async fn artifact_content(&self, task_id: &str, run_id: Option<u32>, name: &str) -> Result<ArtifactContent, ApiError> {
        let (call_name, of) = match run_id {
            Some(run_id) => ("queue.artifact", run_path(task_id, run_id)),
            None => ("queue.latestArtifact", format!("/task/{}", segment(task_id))),
        };
        let path = format!("{of}/artifact-content/{}", segment(name));
        let call = Self::call(call_name, Method::GET, &path, None);
        Ok(match self.services.call_json(&call, &self.credentials).await? {
            Answer::S3 { url } | Answer::Reference { url } => ArtifactContent::Url(Secret::new(url)),
            Answer::Object { name, credentials } => ArtifactContent::Object { name, credentials: credentials.into_cell() },
            Answer::Error { reason, message } => ArtifactContent::Error { reason, message },
        })
    }

    /// The object service's `startDownload`.
    pub async fn start_download(&self, name: &str, credentials: &CredentialsCell) -> Result<ObjectUrl, ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            url: String,
            #[serde(default)]
            hashes: Hashes,
        }
        #[derive(Deserialize, Default)]
        struct Hashes {
            sha256: Option<String>,
        }
        let body = json!({ "acceptDownloadMethods": { "getUrl": true, "simple": true } });
        let call = Call {
            name: "object.startDownload",
            method: Method::PUT,
            resource: format!("/api/object/v1/start-download/{}", segment(name)),
            body: Some(&body),
            timeout: CALL_BOUND,
            answer_bytes: ANSWER_BYTES,
        };
        let answer: Answer = self.services.call_json(&call, credentials).await?;
        Ok(ObjectUrl { url: Secret::new(answer.url), sha256: answer.hashes.sha256 })
    }
}
