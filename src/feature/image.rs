//! `payload.image` of a container task: found, checked, and brought by the engine while the other parts get ready.
//!
//! ```text
//! name ───────────────────────────────────────────────────┐
//! namespace ─index─▶ task ─┬─ status ──▶ run ─┐           ▼
//! task id ─────────────────┴─ may it be read? ┴─▶ key ─▶ engine ─▶ image
//! ```
//!
//! Whether the task may read the artifact is asked each time, also when the engine has the image already: another task may
//! have brought it with scopes that this one lacks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tc_engine::{Engine, EngineError, Fault, Image as Brought, ImageBytes, ImageStream, ImageWant, Progress};
use tc_payload::{Reference, docker::ImageForm};
use tokio::time::{sleep, timeout};

use super::table::Part;
use crate::{
    api::{CredentialsCell, Services},
    content::{Artifact, ContentError, ImageArchive},
    log::{TaskLog, format::one_line},
    run::{
        context::RunContext,
        outcome::{Blame, RunError},
    },
};

/// Longest that a task waits for an engine that went away: as long as a restart takes. Then the queue has the
/// task run again, for which there are only so many retries.
const RETURN_BOUND: Duration = Duration::from_secs(20);
/// Between two looks whether it is back.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Brings the image of a container task.
pub struct Image;

#[async_trait]
impl Part<RunContext> for Image {
    fn name(&self) -> &'static str {
        "Docker Image"
    }

    fn admit(&self, cx: &RunContext) -> Result<(), RunError> {
        let Some(container) = &cx.container else { return Ok(()) };
        if cx.shop.docker.is_none() {
            return Err(no_engine());
        }
        match &container.image {
            ImageForm::Task { task_id, .. } if !cx.task.dependencies.contains(task_id) => Err(RunError::new(
                Blame::Payload,
                format!("[d2g] task.dependencies needs to include {task_id} since the task runs in an image of it"),
            )),
            _ => Ok(()),
        }
    }

    async fn start(&self, cx: &RunContext) -> Result<(), RunError> {
        let Some(container) = &cx.container else { return Ok(()) };
        let docker = cx.shop.docker.as_ref().ok_or_else(no_engine)?;
        let desk = &cx.shop.images;
        let found = find(&container.image, &cx.shop.services, &cx.credentials, desk.as_they_are).await?;
        let bytes = found.archive.map(|archive| {
            Arc::new(Announced { archive, log: Arc::clone(&cx.log), said: AtomicBool::new(false) }) as Arc<dyn ImageBytes>
        });
        desk.ask(&found.want);
        let bring = || docker.image(&found.want, bytes.clone(), Arc::new(Lines(Arc::clone(&cx.log))));
        let image = match bring().await {
            Err(error) if error.fault == Fault::Lost => {
                cx.log.warn(&one_line(&format!("[d2g] Waiting for the Docker engine to come back: {error}")));
                if !comes_back(docker.as_ref()).await {
                    return Err(error.into());
                }
                bring().await?
            }
            brought => brought?,
        };
        cx.log.info(&brought(&image));
        desk.used(&container.image);
        cx.set_image(image);
        Ok(())
    }
}

/// Whether an engine that went away is back in time.
async fn comes_back(docker: &dyn Engine) -> bool {
    let back = async {
        while docker.health().await.is_err() {
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(RETURN_BOUND, back).await.is_ok()
}

fn no_engine() -> RunError {
    RunError::new(Blame::Payload, "this worker runs no containers, and the payload asks for one")
}

/// The line that programs look for when an image is ready.
fn brought(image: &Brought) -> String {
    let name = image.name.as_deref().unwrap_or(&image.id);
    let how = if image.was_there { "Using cached" } else { "Loaded" };
    format!("[d2g] {how} docker image {name:?}")
}

/// An image, as an engine is asked for it.
pub struct Found {
    /// Which one it is.
    pub want: ImageWant,
    /// Where its archive is, if it comes from one.
    pub archive: Option<ImageArchive>,
}

/// Finds out which image a form stands for now, and that whoever has these credentials may read it.
pub async fn find(
    form: &ImageForm,
    services: &Services,
    credentials: &CredentialsCell,
    as_it_is: bool,
) -> Result<Found, RunError> {
    let (task_id, path) = match form {
        ImageForm::Registry(name) => {
            let (canonical, shown) = (Reference::parse(name).map(|name| name.canonical()), name.clone());
            let name = canonical.map_err(|why| RunError::new(Blame::Payload, format!("image {name:?}: {why}")))?;
            return Ok(Found { want: ImageWant::Registry { name, shown, as_it_is }, archive: None });
        }
        ImageForm::Task { task_id, path } => (task_id.clone(), path),
        ImageForm::Indexed { namespace, path } => {
            let task_id = services.index(credentials.clone()).find_task(namespace).await;
            (task_id.map_err(|e| failed(&ContentError::call(&format!("[d2g] image of {namespace:?} in the index"), &e)))?, path)
        }
    };
    let queue = services.queue(credentials.clone());
    let shown = format!("[d2g] artifact {path:?} of task {task_id}");
    // The permission does not depend on the run, so nothing has to be known for the question.
    let (content, status) = tokio::join!(queue.artifact_content(&task_id, None, path), queue.status(&task_id));
    let call_failed = |error| failed(&ContentError::call(&shown, &error));
    Artifact::present(&shown, content.map_err(call_failed)?).map_err(|e| failed(&e))?;
    let Some(run_id) = status.map_err(call_failed)?.runs.iter().map(|run| run.run_id).max() else {
        return Err(RunError::new(Blame::Task, format!("{shown}: the task has no runs")));
    };
    let key = format!("artifact:{task_id}/{run_id}/{path}");
    let artifact = Artifact { queue, task_id, run_id, name: path.clone() };
    let shown = format!("{path:?} of task {} run {run_id}", artifact.task_id);
    Ok(Found { want: ImageWant::Artifact { key, shown }, archive: Some(ImageArchive::new(artifact)) })
}

fn failed(error: &ContentError) -> RunError {
    EngineError::from(error.clone()).into()
}

/// An archive whose first opening is told in the task log.
struct Announced {
    archive: ImageArchive,
    log: Arc<TaskLog>,
    said: AtomicBool,
}

#[async_trait]
impl ImageBytes for Announced {
    async fn open(&self) -> Result<Box<dyn ImageStream>, EngineError> {
        if !self.said.swap(true, Ordering::Relaxed) {
            self.log.info("[d2g] Loading docker image");
        }
        self.archive.open().await
    }
}

/// Progress as lines of the task log.
struct Lines(Arc<TaskLog>);

impl Progress for Lines {
    fn line(&self, text: &str) {
        self.0.info(&one_line(&format!("[d2g] {text}")));
    }

    fn warning(&self, text: &str) {
        self.0.warn(&one_line(&format!("[d2g] {text}")));
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
pub(crate) mod tests;
