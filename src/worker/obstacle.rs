//! What stands in the way of claims, and who is told: the status file, and at the end the pool's owners.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use tokio::sync::watch;
use tracing::warn;

use super::gate::Gate;
use crate::{
    api::{CredentialsCell, WorkerError},
    observe::status::{self, Standing},
    run::context::Workshop,
};

/// What is wrong, as far as it is known.
pub(super) struct Obstacle {
    status_file: Option<PathBuf>,
    is_native_only: bool,
    /// What is wrong with the container engine.
    trouble: watch::Receiver<Option<String>>,
    /// Why nothing is claimed although it should be.
    why: Option<String>,
    /// Whether the pool's owners were told that this worker cannot work.
    reported: bool,
}

impl Obstacle {
    /// None yet, as far as this gate knows.
    pub(super) fn new(gate: &Gate, status_file: Option<PathBuf>) -> Self {
        let (is_native_only, trouble) = (gate.is_native_only(), gate.trouble());
        Self { status_file, is_native_only, trouble, why: None, reported: false }
    }

    /// Notes why nothing is claimed.
    pub(super) fn note(&mut self, why: String) {
        self.why = Some(why);
    }

    /// Nothing stands in the way any more. Returns whether something did.
    pub(super) fn clear(&mut self) -> bool {
        self.why.take().is_some()
    }

    /// Why nothing is claimed, if nobody was told.
    pub(super) fn unreported(&self) -> Option<String> {
        self.why.clone().filter(|_| !self.reported)
    }

    /// Returns when the container engine is in another mood. May be dropped.
    pub(super) async fn trouble_changed(&mut self) {
        if self.trouble.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tells the pool's owners that this worker cannot work. Nothing waits for it for long, and nothing depends on it.
    pub(super) fn report(
        &mut self,
        shop: &Arc<Workshop>,
        credentials: CredentialsCell,
        why: &str,
    ) -> impl Future<Output = ()> + Send + use<> {
        self.reported = true;
        let (shop, config) = (Arc::clone(shop), &shop.config);
        let report = WorkerError {
            pool: config.task_queue_id(),
            worker_group: config.worker_group.clone(),
            worker_id: config.worker_id.clone(),
            kind: "worker-unusable",
            title: "The worker cannot take tasks",
            description: why.to_owned(),
        };
        async move {
            if let Err(error) = shop.services.report_worker_error(&report, &credentials).await {
                warn!("Could not report that this worker is unusable. {error}");
            }
        }
    }

    /// Writes down which tasks run and how the worker is.
    pub(super) fn write_status(&self, shop: &Workshop, task_ids: &BTreeSet<String>) {
        let Some(file) = &self.status_file else { return };
        let trouble = self.trouble.borrow();
        let standing = match (self.why.as_deref(), trouble.as_deref()) {
            (None, Some(why)) if self.is_native_only => Standing::NativeOnly(why),
            (Some(why), _) | (None, Some(why)) => Standing::NotClaiming(why),
            (None, None) => Standing::Claiming,
        };
        if let Err(error) = status::write(shop.disk.as_ref(), file, task_ids, standing) {
            warn!("Could not write which tasks run now to {}: {error}", file.display());
        }
    }
}
