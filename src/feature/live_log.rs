//! The live log: the task log is readable while the task runs, behind a secret path of the worker's own server.
//!
//! ```text
//! start: secret path ─▶ reference artifact, in the background: a task does not wait for it
//! stop:  reference answered ─▶ link artifact to the backing log ─▶ path withdrawn
//! ```
//!
//! It is best effort: what goes wrong with it is said in the worker log and never fails a task.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::SignedDuration;
use tc_engine::Quiet;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::{switched_off, table::Part};
use crate::{
    api::NewArtifact,
    log::Published,
    run::{
        context::RunContext,
        outcome::{Phase, RunError},
    },
};

/// A live log's reference outlives `maxRunTime` by this much.
const GRACE: SignedDuration = SignedDuration::from_secs(900);
/// Media type of logs.
const CONTENT_TYPE: &str = "text/plain; charset=utf-8";
/// Longest wait at the end for the answer to the reference artifact.
const REFERENCE_BOUND: Duration = Duration::from_secs(60);

/// The live log of one run.
#[derive(Default)]
pub struct LiveLog(Mutex<Option<Serving>>);

struct Serving {
    _published: Published,
    reference: AbortOnDropHandle<()>,
}

#[async_trait]
impl Part<RunContext> for LiveLog {
    fn name(&self) -> &'static str {
        "Live Log"
    }

    fn stops_in(&self) -> Phase {
        Phase::Seal
    }

    fn admit(&self, cx: &RunContext) -> Result<(), RunError> {
        if cx.shop.config.enable_live_log { Ok(()) } else { Err(switched_off(cx, self.name())) }
    }

    fn reserves(&self, cx: &RunContext) -> Vec<String> {
        vec![cx.payload.logs.live.clone()]
    }

    async fn start(&self, cx: &RunContext) -> Result<(), RunError> {
        let Some(live) = &cx.shop.live else { return Ok(()) };
        let published = live.server.publish(&cx.log);
        let wanted = cx.shop.clock.wall().saturating_add(
            SignedDuration::from_secs(i64::try_from(cx.payload.max_run_time_secs).unwrap_or(i64::MAX)).saturating_add(GRACE),
        );
        let artifact = NewArtifact::Reference {
            url: format!("{}{}", live.base_url, published.path()),
            content_type: CONTENT_TYPE.to_owned(),
            // The queue refuses artifacts that outlive their task.
            expires: wanted.map_or(cx.task.expires, |wanted| wanted.min(cx.task.expires)),
        };
        let (queue, task_id, run_id) = (cx.queue.clone(), cx.task_id.clone(), cx.run_id);
        let name = cx.payload.logs.live.clone();
        let reference = tokio::spawn(async move {
            if let Err(error) = queue.create_artifact(&task_id, run_id, &name, &artifact).await {
                warn!("Could not publish the live log of task {task_id}: {error}");
            }
        });
        let reference = AbortOnDropHandle::new(reference);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Serving { _published: published, reference });
        Ok(())
    }

    async fn stop(&self, cx: &RunContext, _quiet: Option<&dyn Quiet>) -> Vec<RunError> {
        let serving = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut serving) = serving else { return Vec::new() };
        // The link comes after the reference, and also where the answer to that was lost.
        drop(tokio::time::timeout(REFERENCE_BOUND, &mut serving.reference).await);
        if cx.payload.features.backing_log {
            let link = NewArtifact::Link {
                artifact: cx.payload.logs.backing.clone(),
                content_type: CONTENT_TYPE.to_owned(),
                expires: cx.task.expires,
            };
            if let Err(error) = cx.queue.create_artifact(&cx.task_id, cx.run_id, &cx.payload.logs.live, &link).await {
                warn!("Could not link the live log of task {} to its backing log: {error}", cx.task_id);
            }
        }
        Vec::new()
    }
}
