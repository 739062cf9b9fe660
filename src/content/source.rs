//! Where content is.

use async_trait::async_trait;
use tokio::time::Instant;

use super::ContentError;
use crate::api::{ArtifactContent, Queue, Secret, Services};

/// Something whose bytes can be fetched by URL.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Names it in errors, for instance `artifact "public/x" of task …`.
    fn shown(&self) -> String;

    /// Finds out where the bytes are now. Asked again when a URL is not taken any more.
    async fn locate(&self) -> Result<Located, ContentError>;

    /// Whose network, randomness and patience is used.
    fn services(&self) -> &Services;
}

/// A place to fetch from.
#[derive(Debug, Clone)]
pub struct Located {
    /// The URL, which may expire.
    pub url: Secret,
    /// The SHA-256 that the content must have, if the place says so.
    pub sha256: Option<[u8; 32]>,
    /// When it was located.
    pub since: Instant,
}

/// An artifact of a run.
#[derive(Clone)]
pub struct Artifact {
    /// The queue, with the credentials of whoever wants it.
    pub queue: Queue,
    /// The task.
    pub task_id: String,
    /// Its run.
    pub run_id: u32,
    /// The artifact's name.
    pub name: String,
}

impl Artifact {
    /// What the queue's answer about content means to somebody who needs the content.
    pub fn present(shown: &str, content: ArtifactContent) -> Result<ArtifactContent, ContentError> {
        match content {
            ArtifactContent::Error { reason, message } => Err(ContentError::task(format!("{shown}: {message}: {reason}"))),
            there => Ok(there),
        }
    }
}

#[async_trait]
impl Source for Artifact {
    fn shown(&self) -> String {
        format!("artifact {:?} of task {} run {}", self.name, self.task_id, self.run_id)
    }

    async fn locate(&self) -> Result<Located, ContentError> {
        let shown = self.shown();
        let failed = |error| ContentError::call(&shown, &error);
        let since = Instant::now();
        let content = self.queue.artifact_content(&self.task_id, Some(self.run_id), &self.name).await.map_err(failed)?;
        let (url, sha256) = match Self::present(&shown, content)? {
            ArtifactContent::Object { name, credentials } => {
                let object = self.queue.start_download(&name, &credentials).await.map_err(failed)?;
                (object.url, object.sha256)
            }
            ArtifactContent::Url(url) => (url, None),
            ArtifactContent::Error { .. } => return Err(ContentError::task(format!("{shown}: there is none"))),
        };
        let sha256 = match sha256.map(|text| from_hex(&text)) {
            Some(None) => {
                return Err(ContentError::unreachable(format!("{shown}: the object service gave no SHA-256 for one")));
            }
            Some(found) => found,
            None => None,
        };
        Ok(Located { url, sha256, since })
    }

    fn services(&self) -> &Services {
        self.queue.services()
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
