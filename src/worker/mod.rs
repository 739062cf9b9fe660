//! The worker: claims tasks, gives each a run, and ends with the right exit code.
//!
//! [`slots`] decides, [`claims`](self) and runs are effects. The loop below owns the slots; each run's own task owns that
//! run and only its end comes back here.
//!
//! ```text
//! signals ─▶ Control ─┐
//! claimWork answers ──┤                          ┌─▶ claimWork
//! ends of runs ───────┼─▶ Event ─▶ Slots ─▶ Effect ─▶ run::execute | hand back
//! time ───────────────┘                          └─▶ kill switches | the end
//! ```

mod call;
pub mod cancel;
mod control;
mod drive;
mod gate;
mod obstacle;
mod place;
pub mod prefetch;
mod returning;
pub mod slots;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tc_engine::Engine;
use tokio::sync::mpsc;

pub use self::{
    control::{Control, ControlInput},
    gate::owner,
};
use crate::{
    api::Transport,
    cache::CacheStore,
    config::Config,
    log::LogReader,
    observe::metrics::{self, event},
    seam::{Clock, Disk, HostActions, Random},
};

/// What a worker is made of.
pub struct Parts {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
    /// Small state files.
    pub disk: Arc<dyn Disk>,
    /// What may be done to the machine.
    pub host: Arc<dyn HostActions>,
    /// HTTP.
    pub transport: Arc<dyn Transport>,
    /// What runs the commands of native tasks.
    pub engine: Arc<dyn Engine>,
    /// What runs containers; none where container payloads are off.
    pub docker: Option<Arc<dyn Engine>>,
    /// Whether images from registries that are there are taken as they are, as `docker run` does.
    pub images_as_they_are: bool,
    /// Where to tell about runs, if anybody listens.
    pub events: Option<mpsc::UnboundedSender<WorkerEvent>>,
    /// Where to say which tasks run now, for `status`; a worker that is not the machine's says it nowhere.
    pub status_file: Option<PathBuf>,
    /// Whether log headers name the task's own queue instead of this worker's.
    pub log_header_from_task: bool,
}

/// What the worker tells whoever started it.
pub enum WorkerEvent {
    /// A run has a log.
    RunStarted {
        /// The task.
        task_id: String,
        /// Its run.
        run_id: u32,
        /// Its log, from the first byte.
        log: LogReader,
    },
    /// A run has ended.
    RunEnded {
        /// The task.
        task_id: String,
        /// Its run.
        run_id: u32,
        /// One word for how: `completed`, `failed`, `malformed-payload`, `lost` …
        outcome: String,
        /// The sentence that decided, unless it completed.
        why: Option<String>,
        /// From the claim to the resolution.
        took: Duration,
        /// The phases that it went through, by their names, and how long after the claim each began.
        phases: Vec<(&'static str, Duration)>,
    },
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit code for the process.
    pub code: u8,
    /// How many runs have ended.
    pub resolved: u64,
}

/// Longest wait for the deletion of caches that nobody will use again.
const DISCARD_BOUND: Duration = Duration::from_secs(20);

/// Leaves the caches, or deletes all of them if nobody will use them again.
async fn leave(caches: Arc<CacheStore>, is_last: bool) {
    let left = tokio::task::spawn_blocking(move || {
        let is_clear = !is_last || caches.clear(DISCARD_BOUND);
        caches.leave(DISCARD_BOUND);
        is_clear
    });
    match left.await {
        Ok(true) => {}
        Ok(false) => tracing::warn!("Not all caches could be deleted"),
        Err(error) => tracing::error!("Caches were not deleted: {error}"),
    }
}

/// Works until told to go, until idle for too long, or until the wanted number of tasks was run.
pub async fn run(parts: Parts, input: ControlInput) -> Ended {
    let (config, clock, host) = (Arc::clone(&parts.config), Arc::clone(&parts.clock), Arc::clone(&parts.host));
    let ended = match place::prepare(parts).await {
        Ok(ready) => {
            let caches = Arc::clone(&ready.shop.caches);
            let ended = drive::drive(ready, input).await;
            leave(caches, config.own.fresh_caches).await;
            ended
        }
        Err(error) => {
            tracing::error!("{error}");
            Ended { code: slots::INTERNAL_ERROR, resolved: 0 }
        }
    };
    let why = match ended.code {
        slots::IDLE_TIMEOUT if config.shutdown_machine_on_idle => "generic-worker idle timeout",
        slots::INTERNAL_ERROR if config.shutdown_machine_on_internal_error => "generic-worker internal error",
        _ => return ended,
    };
    metrics::emit(&config, event::INSTANCE_SHUTDOWN, clock.wall(), None);
    if let Err(error) = host.shutdown(why) {
        tracing::error!("Could not shut the machine down: {error}");
    }
    ended
}
