//! One call for work: what it brings, or why it brings nothing.

use std::time::Duration;

use tokio::{select, time::timeout};
use tokio_util::sync::CancellationToken;

use super::gate::{Closed, Gate};
use crate::{
    api::{Claim, Queue},
    run::context::Workshop,
};

/// How long a call that is broken off may still take to hand over an answer that has come. What is not here then is given up
/// together with its connection, so that the queue sees that nobody is in line any more.
const LAST_WORD: Duration = Duration::from_millis(100);

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
    /// The worker goes, and nothing has come.
    fn in_vain() -> Self {
        Self { why: "The call for work was broken off".to_owned(), machine: None, pause: None }
    }

    fn by_machine(closed: Closed) -> Self {
        Self { why: format!("Not claiming any task: {}", closed.why), machine: Some(closed), pause: None }
    }
}

/// One call for work, unless this machine cannot take tasks now, or the call is broken off before it is answered.
pub(super) async fn ask(shop: &Workshop, gate: &Gate, queue: &Queue, tasks: u8, broken_off: &CancellationToken) -> Answer {
    select! {
        biased; // Nothing is asked for any more by a worker that goes.
        () = broken_off.cancelled() => return Err(NotAsked::in_vain()),
        passed = gate.pass() => passed.map_err(NotAsked::by_machine)?,
    }
    let config = &shop.config;
    let pool = format!("{}/{}", config.provisioner_id, config.worker_type);
    let claiming = queue.claim_work(&pool, &config.worker_group, &config.worker_id, tasks);
    tokio::pin!(claiming);
    let answer = select! {
        biased; // An answer that is here counts.
        answer = &mut claiming => answer,
        () = broken_off.cancelled() => match timeout(LAST_WORD, claiming).await {
            Ok(answer) => answer,
            Err(_) => return Err(NotAsked::in_vain()),
        },
    };
    answer.map_err(|error| NotAsked {
        why: format!("Could not claim work. {error}"),
        machine: None,
        pause: error.retry_after(),
    })
}
