//! Where the bytes of an artifact are put: a URL that the queue gives, or one of the object service, which has to hear when they are there.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

use super::{
    body::Body,
    put::{Target, UploadError},
};
use crate::api::{NewArtifact, ObjectPlace, Secret};

/// A place to put bytes.
pub(super) struct Place {
    pub(super) url: Secret,
    /// What is sent with them, but their length.
    pub(super) headers: HeaderMap,
    pub(super) since: Instant,
    object: Option<ObjectPlace>,
}

/// Creates the artifact, or gets a fresh URL for it.
pub(super) async fn create(target: &Target, name: &str, artifact: &NewArtifact, body: &Body) -> Result<Place, UploadError> {
    let answer = target.queue.create_artifact(&target.task_id, target.run_id, name, artifact).await?;
    let since = Instant::now();
    let service = |what: &str| UploadError::Service(what.to_owned());
    let mut headers = HeaderMap::new();
    match artifact {
        NewArtifact::S3 { content_type, .. } => {
            let url = answer.put_url.ok_or_else(|| service("the queue gave no URL to upload to"))?;
            let content_type = answer.content_type.as_ref().unwrap_or(content_type);
            headers.insert(header::CONTENT_TYPE, value(content_type)?);
            // Stores sign the header, so it is sent also where it says nothing.
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(body.encoding()));
            Ok(Place { url, headers, since, object: None })
        }
        NewArtifact::Object { content_type, .. } => {
            let object = answer.object.ok_or_else(|| service("the queue named no object to upload"))?;
            let upload = target.queue.services().create_upload(&object, content_type, body.bytes()).await?;
            let upload = upload.ok_or_else(|| service("the object service takes no uploads to a URL"))?;
            headers.insert(header::CONTENT_TYPE, value(content_type)?);
            for (name, text) in &upload.headers {
                let name = HeaderName::try_from(name).map_err(|_| service("the object service wants a header that is none"))?;
                headers.insert(name, value(text)?);
            }
            // Said with the body, where it is known.
            headers.remove(header::CONTENT_LENGTH);
            Ok(Place { url: upload.url, headers, since, object: Some(object) })
        }
        _ => Err(service("only bytes have a place to be put")),
    }
}

fn value(text: &str) -> Result<HeaderValue, UploadError> {
    HeaderValue::try_from(text).map_err(|_| UploadError::Service(format!("header value {text:?} cannot be sent")))
}

impl Place {
    /// Tells those who have to know that all bytes are there, with their digest.
    pub(super) async fn finish(&self, target: &Target, name: &str, sha256: &[u8]) -> Result<(), UploadError> {
        let Some(object) = &self.object else { return Ok(()) };
        let hex = sha256.iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        target.queue.services().finish_upload(object, &hex).await?;
        Ok(target.queue.finish_artifact(&target.task_id, target.run_id, name, &object.upload_id).await?)
    }
}
