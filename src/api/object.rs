//! Uploads to the object service, on behalf of the queue.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ANSWER_BYTES, ApiError, CredentialsCell, Secret, Services,
    queue::CALL_BOUND,
    services::{Call, segment},
};

/// An object that may be uploaded, as the queue says when an artifact is created.
#[derive(Debug, Clone)]
pub struct ObjectPlace {
    /// Its name.
    pub name: String,
    /// The project that it belongs to.
    pub project_id: String,
    /// What makes this upload the only one under that name.
    pub upload_id: String,
    /// When it is forgotten, as the queue wrote it.
    pub expires: String,
    /// What opens it.
    pub credentials: CredentialsCell,
}

/// Where to put an object's bytes.
#[derive(Debug, Clone)]
pub struct ObjectUpload {
    /// The URL, which expires.
    pub url: Secret,
    /// Headers that have to be sent, with their values.
    pub headers: Vec<(String, String)>,
}

fn call<'a>(name: &'static str, method: Method, route: &str, object: &str, body: &'a Value) -> Call<'a> {
    let resource = format!("/api/object/v1/{route}/{}", segment(object));
    Call { name, method, resource, body: Some(body), timeout: CALL_BOUND, answer_bytes: ANSWER_BYTES }
}

impl Services {
    /// `createUpload`, for a PUT of exactly this many bytes. Repeating it gives a fresh URL; nothing if the service has no such method.
    pub async fn create_upload(
        &self,
        place: &ObjectPlace,
        content_type: &str,
        bytes: u64,
    ) -> Result<Option<ObjectUpload>, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            upload_method: UploadMethod,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct UploadMethod {
            put_url: Option<PutUrl>,
        }
        #[derive(Deserialize)]
        struct PutUrl {
            url: String,
            #[serde(default)]
            headers: std::collections::BTreeMap<String, String>,
        }
        let body = json!({
            "projectId": place.project_id, "uploadId": place.upload_id, "expires": place.expires,
            "proposedUploadMethods": { "putUrl": { "contentType": content_type, "contentLength": bytes } },
        });
        let call = call("object.createUpload", Method::PUT, "upload", &place.name, &body);
        let answer: Answer = self.call_json(&call, &place.credentials).await?;
        Ok(answer
            .upload_method
            .put_url
            .map(|put| ObjectUpload { url: Secret::new(put.url), headers: put.headers.into_iter().collect() }))
    }

    /// `finishUpload`: all bytes have arrived, and this is their SHA-256 in hexadecimal. Repeating it changes nothing.
    pub async fn finish_upload(&self, place: &ObjectPlace, sha256: &str) -> Result<(), ApiError> {
        let body = json!({ "projectId": place.project_id, "uploadId": place.upload_id, "hashes": { "sha256": sha256 } });
        let call = call("object.finishUpload", Method::POST, "finish-upload", &place.name, &body);
        self.call(&call, &place.credentials).await.map(drop)
    }
}
