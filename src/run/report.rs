//! The last phase: the queue is told how the run ended, unless it knows already or the run is not ours any more.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{keeper::Keeper, outcome::Blame};
use crate::{
    api::{Queue, Reason, Resolution},
    seam::Random,
};

/// First wait after a report that failed in spite of the retries of one call.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Longest wait between such reports.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How often a queue may refuse a report for good. The claim is then not renewed any more and ends by itself.
const REFUSALS: u32 = 5;
/// Nothing is reported for longer than this, however often the claim is renewed.
const REPORT_BOUND: Duration = Duration::from_secs(3600);

/// What became of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The queue knows.
    Resolved(Resolution),
    /// There was nothing to tell: the queue had ended the run, or it is somebody else's.
    AlreadyKnown,
    /// The lease ended before the queue could be told.
    LeaseEnded,
}

/// Tells the queue, for as long as the lease lasts.
pub async fn report(
    queue: &Queue,
    task_id: &str,
    run_id: u32,
    blame: Option<Blame>,
    keeper: &Keeper,
    random: &dyn Random,
) -> Told {
    let resolution = match blame {
        None => Resolution::Completed,
        Some(blame) => match blame.resolution() {
            Some(resolution) => resolution,
            None => return Told::AlreadyKnown,
        },
    };
    let (mut wait, mut refusals, began) = (FIRST_RETRY, 0, Instant::now());
    loop {
        let answer = tokio::select! {
            biased; // A report that is answered counts, also at the end of the lease.
            answer = queue.report(task_id, run_id, resolution) => answer,
            () = keeper.lost() => return Told::LeaseEnded,
        };
        match answer {
            Ok(()) => return Told::Resolved(resolution),
            Err(error) if error.is_conflict() => {
                info!("Task {task_id} run {run_id} was resolved by somebody else: {error}");
                return Told::AlreadyKnown;
            }
            Err(error) => {
                refusals += u32::from(!error.is_temporary());
                if refusals >= REFUSALS || began.elapsed() > REPORT_BOUND {
                    error!("Could not report task {task_id} run {run_id}, its claim is left to end: {error}");
                    return Told::LeaseEnded;
                }
                warn!("Could not report task {task_id} run {run_id}, will try again while it is ours: {error}");
            }
        }
        tokio::select! {
            biased; // Either ends the wait.
            () = keeper.lost() => return Told::LeaseEnded,
            () = tokio::time::sleep(wait.mul_f64(0.5 + random.fraction() / 2.0)) => {}
        }
        wait = (wait * 2).min(LONGEST_RETRY);
    }
}

/// Name of an outcome as people and summaries use it.
pub fn name(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Completed => "completed",
        Resolution::Failed => "failed",
        Resolution::Exception(Reason::MalformedPayload) => "malformed-payload",
        Resolution::Exception(Reason::ResourceUnavailable) => "resource-unavailable",
        Resolution::Exception(Reason::InternalError) => "internal-error",
        Resolution::Exception(Reason::IntermittentTask) => "intermittent-task",
        Resolution::Exception(Reason::WorkerShutdown) => "worker-shutdown",
    }
}
