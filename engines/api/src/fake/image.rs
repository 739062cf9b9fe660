//! Images of the fake engine: it keeps names and digests, and reads archives to their end without looking into them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use super::{Journal, lock};
use crate::{EngineError, Fault, Image, ImageBytes, ImageWant, Progress};

/// What becomes of a wanted image.
#[derive(Debug, Clone, Default)]
pub enum Fate {
    /// The engine brings it, or has it.
    #[default]
    Brought,
    /// The engine fails.
    Fails(Fault, String),
    /// It takes for ever.
    Hangs,
}

/// The images of one engine.
#[derive(Debug, Clone, Default)]
pub(super) struct Images {
    pub(super) fate: Arc<Mutex<Fate>>,
    there: Arc<Mutex<BTreeMap<String, Image>>>,
}

/// Writes down when an acquisition is dropped before its end.
struct Acquisition {
    journal: Journal,
    want: String,
    ended: bool,
}

impl Drop for Acquisition {
    fn drop(&mut self) {
        if !self.ended {
            lock(&self.journal).push(format!("drop {}", self.want));
        }
    }
}

impl Images {
    pub(super) async fn bring(
        &self,
        journal: &Journal,
        want: &ImageWant,
        bytes: Option<Arc<dyn ImageBytes>>,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, EngineError> {
        lock(journal).push(format!("want {want}"));
        let mut acquisition = Acquisition { journal: Arc::clone(journal), want: want.to_string(), ended: false };
        let fate = lock(&self.fate).clone();
        let result = match fate {
            Fate::Hangs => std::future::pending().await,
            Fate::Fails(fault, message) => Err(EngineError::new(fault, message)),
            Fate::Brought => self.brought(want, bytes, progress.as_ref()).await,
        };
        acquisition.ended = true;
        result
    }

    async fn brought(
        &self,
        want: &ImageWant,
        bytes: Option<Arc<dyn ImageBytes>>,
        progress: &dyn Progress,
    ) -> Result<Image, EngineError> {
        let key = match want {
            ImageWant::Registry { name, .. } => name,
            ImageWant::Artifact { key, .. } => key,
        };
        if let Some(image) = lock(&self.there).get(key) {
            return Ok(Image { was_there: true, ..image.clone() });
        }
        let image = match (want, bytes) {
            (ImageWant::Artifact { .. }, Some(bytes)) => {
                let mut stream = bytes.open().await?;
                let mut length = 0;
                while let Some(piece) = stream.next().await? {
                    length += piece.len();
                }
                progress.line(&format!("{length} bytes of {want}"));
                let sha256 = stream.sha256();
                let mut id = "sha256:".to_owned();
                for byte in sha256.unwrap_or_default() {
                    // Writing to a string does not fail.
                    let _ = write!(id, "{byte:02x}");
                }
                Image { id, name: None, artifact_sha256: sha256, was_there: false }
            }
            (ImageWant::Artifact { .. }, None) => return Err(EngineError::new(Fault::Worker, "no bytes were given")),
            (ImageWant::Registry { name, shown, .. }, _) => {
                Image { id: format!("id of {name}"), name: Some(shown.clone()), artifact_sha256: None, was_there: false }
            }
        };
        lock(&self.there).insert(key.clone(), image.clone());
        Ok(image)
    }
}
