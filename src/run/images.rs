//! What runs and the prefetch tell each other about images: which one a run asks for now, and which were used lately.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};
use tc_engine::ImageWant;
use tc_payload::docker::ImageForm;
use tokio::sync::watch;
use tracing::warn;

use crate::seam::{Disk, Lasting};

/// Name of the file in the state directory.
pub const FILE_NAME: &str = "recent-images.json";
/// As many images are remembered.
const MOST: usize = 20;
/// Longer names are not remembered.
const LONGEST_NAME: usize = 1024;

/// The desk at which images are asked for.
pub struct ImageDesk {
    /// Whether an image from a registry that is there is taken as it is, as `docker run` does.
    pub as_they_are: bool,
    asked: watch::Sender<Option<ImageWant>>,
    recent: Mutex<Vec<ImageForm>>,
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl ImageDesk {
    /// A desk that remembers in this directory. What cannot be read there is forgotten.
    pub fn open(as_they_are: bool, disk: Arc<dyn Disk>, state_dir: &Path) -> Self {
        let path = state_dir.join(FILE_NAME);
        let recent = match disk.read(&path) {
            Ok(None) => Vec::new(),
            Ok(Some(bytes)) => read(&bytes).unwrap_or_else(|| {
                warn!("{} is not understood, the images in it are forgotten", path.display());
                Vec::new()
            }),
            Err(error) => {
                warn!("Could not read {}: {error}", path.display());
                Vec::new()
            }
        };
        Self { as_they_are, asked: watch::Sender::new(None), recent: Mutex::new(recent), disk, path }
    }

    /// A run is about to ask the engine for this.
    pub fn ask(&self, want: &ImageWant) {
        self.asked.send_replace(Some(want.clone()));
    }

    /// What runs ask for from now on.
    pub fn asked(&self) -> watch::Receiver<Option<ImageWant>> {
        let mut asked = self.asked.subscribe();
        asked.mark_unchanged();
        asked
    }

    /// The images that were used lately, the last first.
    pub fn recent(&self) -> Vec<ImageForm> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers an image that a run has got. Only such as everybody may have: a private one is nothing to bring before
    /// somebody with the right to it asks.
    pub fn used(&self, form: &ImageForm) {
        if !is_public(form) {
            return;
        }
        let content = {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            // An image takes one place, however many names it has.
            let canonical = form.canonical();
            if recent.first().is_some_and(|known| known.canonical() == canonical) {
                return;
            }
            recent.retain(|known| known.canonical() != canonical);
            recent.insert(0, form.clone());
            recent.truncate(MOST);
            write(&recent)
        };
        // It only saves time; nothing depends on it.
        if let Err(error) = self.disk.replace(&self.path, content.as_bytes(), 0o600, Lasting::Process) {
            warn!("Could not write {}: {error}", self.path.display());
        }
    }
}

fn is_public(form: &ImageForm) -> bool {
    match form {
        ImageForm::Registry(name) => name.len() <= LONGEST_NAME,
        ImageForm::Indexed { namespace, path } => path.starts_with("public/") && namespace.len() + path.len() <= LONGEST_NAME,
        ImageForm::Task { path, .. } => path.starts_with("public/") && path.len() <= LONGEST_NAME,
    }
}

fn write(forms: &[ImageForm]) -> String {
    let rows: Vec<Value> = forms
        .iter()
        .map(|form| match form {
            ImageForm::Registry(name) => json!({ "name": name }),
            ImageForm::Indexed { namespace, path } => json!({ "namespace": namespace, "path": path }),
            ImageForm::Task { task_id, path } => json!({ "taskId": task_id, "path": path }),
        })
        .collect();
    format!("{:#}\n", Value::Array(rows))
}

fn read(bytes: &[u8]) -> Option<Vec<ImageForm>> {
    let rows: Value = serde_json::from_slice(bytes).ok()?;
    let form = |row: &Value| {
        let text = |key: &str| row.get(key)?.as_str().map(str::to_owned);
        match (text("name"), text("namespace"), text("taskId"), text("path")) {
            (Some(name), None, None, None) => Some(ImageForm::Registry(name)),
            (None, Some(namespace), None, Some(path)) => Some(ImageForm::Indexed { namespace, path }),
            (None, None, Some(task_id), Some(path)) => Some(ImageForm::Task { task_id, path }),
            _ => None,
        }
    };
    rows.as_array()?.iter().take(MOST).map(form).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::SystemDisk;

    fn name(n: usize) -> ImageForm {
        ImageForm::Registry(format!("image:{n}"))
    }

    #[test]
    fn the_last_twenty_public_images_are_remembered_over_restarts() {
        let dir = tempfile::tempdir().expect("a directory");
        let desk = || ImageDesk::open(false, Arc::new(SystemDisk), dir.path());
        let first = desk();
        for n in 0..30 {
            first.used(&name(n));
        }
        first.used(&name(15));
        let indexed = ImageForm::Indexed { namespace: "a.b".into(), path: "public/image.tar".into() };
        let task = ImageForm::Task { task_id: "fZ42HVdDQ-KFFycr9PxptA".into(), path: "public/image.tar".into() };
        for form in [&task, &indexed] {
            first.used(form);
        }
        first.used(&ImageForm::Task { task_id: "fZ42HVdDQ-KFFycr9PxptA".into(), path: "private/image.tar".into() });
        first.used(&ImageForm::Registry("x".repeat(5000)));
        let recent = desk().recent();
        assert_eq!(recent.len(), MOST);
        assert_eq!(recent[..4], [indexed, task, name(15), name(29)]);
        assert_eq!(recent.iter().filter(|form| **form == name(15)).count(), 1);
    }

    #[test]
    fn an_image_takes_one_place_whatever_it_is_called() {
        let dir = tempfile::tempdir().expect("a directory");
        let desk = ImageDesk::open(false, Arc::new(SystemDisk), dir.path());
        for text in ["debian:12", "index.docker.io/library/debian:12", "quay.io/debian:12", "docker.io/library/debian:12"] {
            desk.used(&ImageForm::Registry(text.to_owned()));
        }
        let recent = desk.recent();
        assert_eq!(
            recent,
            ["docker.io/library/debian:12", "quay.io/debian:12"].map(|text| ImageForm::Registry(text.to_owned()))
        );
    }

    #[test]
    fn a_file_that_is_none_is_a_miss() {
        let dir = tempfile::tempdir().expect("a directory");
        for content in ["", "{}", "[{\"name\": 1}]", "[{\"name\": \"a\", \"path\": \"b\"}]", "\u{0}"] {
            std::fs::write(dir.path().join(FILE_NAME), content).expect("written");
            let desk = ImageDesk::open(false, Arc::new(SystemDisk), dir.path());
            assert!(desk.recent().is_empty(), "{content}");
            desk.used(&name(1));
            assert_eq!(desk.recent(), [name(1)]);
        }
    }
}
