//! One call for work: what it brings, or why it brings nothing.

use std::time::Duration;

use super::gate::{Closed, Gate};
use crate::{
    api::{Claim, Queue},
    run::context::Workshop,
};

/// What a call brought.
pub(super) type Answer = Result<Vec<Claim>, NotAsked>;

/// Why a call brought nothing.
pub(super) struct NotAsked {
    /// A sentence for the log.
    pub(super) why: String,
    /// The machine stands in the way, not the service; perhaps for good.
    pub(super) machine: Option<Closed>,
    /// How long the service wants a pause.
    pub(super) pause: Option<Duration>,
}

impl NotAsked {
    fn by_machine(closed: Closed) -> Self {
        Self { why: format!("Not claiming any task: {}", closed.why), machine: Some(closed), pause: None }
    }
}

/// One call for work, unless this machine cannot take tasks now.
pub(super) async fn ask(shop: &Workshop, gate: &Gate, queue: &Queue, tasks: u8) -> Answer {
    gate.pass().await.map_err(NotAsked::by_machine)?;
    let config = &shop.config;
    let pool = format!("{}/{}", config.provisioner_id, config.worker_type);
    queue.claim_work(&pool, &config.worker_group, &config.worker_id, tasks).await.map_err(|error| NotAsked {
        why: format!("Could not claim work. {error}"),
        machine: None,
        pause: error.retry_after(),
    })
}
