//! What goes on beside the phases of a run: its lease is renewed, its deadline and its log are watched.
//!
//! Everything here ends in one of two ways: the run is over and the keeper is dropped, or the keeper flips the run's kill
//! switch and says why.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tc_engine::StopReason;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tracing::{info, warn};

use super::{
    kill::KillSwitch,
    lease::{Effect, Event, Lease, Loss},
    outcome::Kill,
};
use crate::{
    api::{CredentialsCell, Queue, TaskStatus},
    log::TaskLog,
    seam::Random,
};

/// Longest wait for the status call that explains a lost lease.
const EXPLANATION_BOUND: Duration = Duration::from_secs(20);

/// What a keeper needs to know.
pub struct Kept {
    /// The task.
    pub task_id: String,
    /// Its run.
    pub run_id: u32,
    /// Speaks with the credentials in `credentials`.
    pub queue: Queue,
    /// Replaced at each renewal.
    pub credentials: CredentialsCell,
    /// Length of the lease as claimed.
    pub lease: Duration,
    /// When it was claimed.
    pub claimed: Instant,
    /// When `task.deadline` comes.
    pub deadline: Instant,
    /// Flipped when the run has to end.
    pub kill: KillSwitch,
    /// Watched for lost bytes.
    pub log: Arc<TaskLog>,
    /// For jitter.
    pub random: Arc<dyn Random>,
}

/// The keeper of one run; dropping it ends it.
#[derive(Debug)]
pub struct Keeper {
    task: JoinHandle<()>,
    lost: watch::Receiver<bool>,
}

impl Keeper {
    /// Starts to keep a run.
    pub fn start(kept: Kept) -> Self {
        let (lost_sender, lost) = watch::channel(false);
        let kill = kept.kill.clone();
        let task = tokio::spawn(async move {
            // A panic here must not leave a run without a lease and without anybody who knows.
            if AssertUnwindSafe(keep(kept, lost_sender)).catch_unwind().await.is_err() {
                kill.kill(Kill::because(StopReason::WorkerFault, "the keeper of the claim failed"));
            }
        });
        Self { task, lost }
    }

    /// Waits until the lease is lost; for ever if it never is. A keeper that failed renews nothing, so it has lost it.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        drop(lost.wait_for(|lost| *lost).await);
    }

    /// Whether the lease is lost.
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(kept: Kept, lost: watch::Sender<bool>) {
    tokio::select! {
        biased; // They do not influence each other; the order is that of importance.
        () = keep_lease(&kept, &lost) => {}
        () = keep_deadline(&kept) => {}
        () = keep_log(&kept) => {}
    }
}

async fn keep_deadline(kept: &Kept) {
    tokio::time::sleep_until(kept.deadline).await;
    kept.kill.kill(Kill::new(StopReason::Deadline));
    std::future::pending::<()>().await;
}

async fn keep_log(kept: &Kept) {
    let why = kept.log.lost().await;
    kept.kill.kill(Kill::because(StopReason::LogLost, format!("task aborted - its log could not be stored: {why}")));
    std::future::pending::<()>().await;
}

/// Drives the lease's state machine. Never returns: a lost lease stays lost until the keeper is dropped.
async fn keep_lease(kept: &Kept, lost: &watch::Sender<bool>) {
    let mut lease = Lease::granted(kept.lease, kept.claimed);
    let mut renewal = None;
    loop {
        let Some(wakeup) = lease.next_wakeup() else { return std::future::pending().await };
        let event = match renewal.as_mut() {
            None => {
                tokio::time::sleep_until(wakeup).await;
                Event::Tick
            }
            Some(call) => tokio::select! {
                biased; // An answer that is there counts, even at the very end of the lease.
                event = call => { renewal = None; event }
                () = tokio::time::sleep_until(wakeup) => Event::Tick,
            },
        };
        match lease.on(event, Instant::now()) {
            None => {}
            Some(Effect::Renew) => renewal = Some(Box::pin(renew(kept, lease.patience(Instant::now())))),
            Some(Effect::Lost(how)) => {
                renewal = None;
                let kill = explain(kept, how).await;
                info!("Task {} run {} is not ours any more: {}", kept.task_id, kept.run_id, kill.message);
                kept.kill.kill(kill);
                lost.send_replace(true);
            }
        }
    }
}

async fn renew(kept: &Kept, patience: Duration) -> Event {
    match kept.queue.reclaim(&kept.task_id, kept.run_id, patience).await {
        Ok(renewed) => {
            kept.credentials.set(renewed.credentials);
            // Without dates of its own an answer grants what the claim granted.
            Event::Renewed(renewed.lease.unwrap_or(kept.lease))
        }
        Err(error) if error.is_conflict() => Event::Conflict,
        Err(error) => {
            warn!("Could not reclaim task {} run {}: {error}", kept.task_id, kept.run_id);
            Event::Refused { pause: error.retry_after(), jitter: kept.random.fraction() }
        }
    }
}

/// Asks the queue once why a lease is lost, so that the task log can say it.
async fn explain(kept: &Kept, loss: Loss) -> Kill {
    if loss == Loss::RanOut {
        return Kill::because(StopReason::LeaseLost, "task aborted - the claim ran out before it could be renewed");
    }
    match tokio::time::timeout(EXPLANATION_BOUND, kept.queue.status(&kept.task_id)).await {
        Ok(Ok(status)) => verdict(&status, kept.run_id).unwrap_or_else(|| Kill::new(StopReason::LeaseLost)),
        _ => Kill::new(StopReason::LeaseLost),
    }
}

/// Why this run has to end, as far as the queue's own status tells; none if the run is still running.
pub fn verdict(status: &TaskStatus, run_id: u32) -> Option<Kill> {
    let run = status.runs.iter().find(|run| run.run_id == run_id);
    match run.map(|run| (run.state.as_str(), run.reason_resolved.as_deref())) {
        Some(("running", _)) => None,
        Some((_, Some("canceled"))) => Some(Kill::new(StopReason::Canceled)),
        Some((_, Some("deadline-exceeded"))) => Some(Kill::new(StopReason::Deadline)),
        _ => Some(Kill::new(StopReason::LeaseLost)),
    }
}
