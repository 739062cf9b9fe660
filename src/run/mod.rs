//! One run, from the claim to its resolution. It owns everything between the two, and nothing else in the worker does.
//!
//! ```text
//! Claim ─▶ admit ─▶ ground ─▶ furnish ─▶ create ─▶ run ─▶ quiet ─▶ collect ─▶ return ─▶ destroy ─▶ seal ─▶ resolve
//!            │         │          │          │       │       │        │          │          │         ▲
//!            └─────────┴──────────┴──────────┴───────┴───────┴────────┴──────────┴──────────┴─────────┘
//!                                       whatever goes wrong is noted and leads here
//! ```
//!
//! Beside the phases a [`keeper`] renews the lease and watches deadline and log. What ends a run from outside flips its
//! [`kill::KillSwitch`]; cleaning up and resolving go on after that, each under a bound of its own.

pub mod admit;
pub mod commands;
pub mod context;
pub mod images;
pub mod keeper;
pub mod kill;
pub mod lease;
pub mod outcome;
pub mod perform;
pub mod plan;
pub mod report;
pub mod seal;

use std::{sync::Arc, time::Duration};

use tc_engine::Gone;
use tokio::time::Instant;
use tracing::{info, warn};

use self::{
    context::{Basics, Workshop},
    keeper::{Keeper, Kept},
    kill::KillSwitch,
    outcome::{Blame, CORE, Findings, Phase, RunError},
    perform::Remains,
    report::Told,
    seal::LogArtifact,
};
use crate::{
    api::{Claim, CredentialsCell, Reason, Resolution},
    log::{LogOptions, LogReader, TaskLog, format},
};

/// Longest time for everything between the last line of a log and the report, once nobody waits for it any more.
const LAST_UPLOADS_BOUND: Duration = Duration::from_secs(1200);

/// How a run ended.
#[derive(Debug)]
pub struct RunEnd {
    /// What the queue was told.
    pub told: Told,
    /// Whose fault it was; none if the task completed.
    pub blame: Option<Blame>,
    /// The sentence that decided; none if the task completed.
    pub why: Option<String>,
    /// What could not be removed from this machine.
    pub left_behind: Option<LeftBehind>,
    /// From the claim to the resolution.
    pub took: Duration,
    /// The phases that it went through, by their names, and how long after the claim each began. The last one ends with the run.
    pub phases: Vec<(&'static str, Duration)>,
}

/// What a run left on the machine.
#[derive(Debug)]
pub struct LeftBehind {
    /// A sentence fragment.
    pub what: String,
    /// A sweep of the engine can remove it later. Otherwise this machine takes no further tasks.
    pub sweepable: bool,
}

impl RunEnd {
    /// One word for it.
    pub fn outcome(&self) -> &'static str {
        match self.told {
            Told::Resolved(resolution) => report::name(resolution),
            Told::AlreadyKnown => "resolved by the queue",
            Told::LeaseEnded => "lost",
        }
    }
}

/// Runs a claimed task to its resolution. `follow` is called once with a reader of its log.
pub async fn execute(
    shop: Arc<Workshop>,
    claim: Claim,
    credentials: CredentialsCell,
    kill: KillSwitch,
    follow: impl FnOnce(LogReader) + Send,
) -> RunEnd {
    let claimed = Instant::now();
    let queue = shop.services.queue(credentials.clone());
    let (task_id, run_id) = (claim.task_id.clone(), claim.run_id);
    let log = match open_log(&shop, &task_id, run_id) {
        Ok(log) => log,
        Err(error) => {
            warn!("Could not make the log of task {task_id}: {error}");
            let told = tell_without_log(&queue, &task_id, run_id, Reason::InternalError).await;
            let why = format!("make the task log: {error}");
            // A worker that cannot store this log cannot store the next one.
            let left_behind = Some(LeftBehind { what: format!("task logs cannot be stored: {error}"), sweepable: false });
            let took = claimed.elapsed();
            return RunEnd { told, blame: Some(Blame::Worker), why: Some(why), left_behind, took, phases: Vec::new() };
        }
    };
    follow(log.reader());
    let deadline = claimed + time_to_deadline(&shop, &claim);
    let task = Arc::new(claim.task);
    let basics = Basics { task_id, run_id, task, shop, log, queue, credentials, kill };
    let keeper = Keeper::start(Kept {
        task_id: basics.task_id.clone(),
        run_id,
        queue: basics.queue.clone(),
        credentials: basics.credentials.clone(),
        lease: claim.lease,
        claimed,
        deadline,
        kill: basics.kill.clone(),
        log: Arc::clone(&basics.log),
        random: Arc::clone(&basics.shop.random),
    });
    header(&basics);
    let mut findings = Findings::default();
    let left_behind = through_the_phases(&basics, &mut findings).await;
    let deciding = findings.deciding();
    let blame = deciding.as_ref().map(|error| error.blame);
    let since = |at: &Instant| at.duration_since(claimed);
    let mut phases: Vec<_> = findings.entered().iter().map(|(phase, at)| (phase.name(), since(at))).collect();
    phases.push(("resolve", claimed.elapsed()));
    let told = report::report(&basics.queue, &basics.task_id, run_id, blame, &keeper, basics.shop.random.as_ref()).await;
    RunEnd { told, blame, why: deciding.map(|error| error.message), left_behind, took: claimed.elapsed(), phases }
}

/// Everything between the header and the report. Returns what could not be removed.
async fn through_the_phases(basics: &Basics, findings: &mut Findings) -> Option<LeftBehind> {
    let mut artifact = LogArtifact { name: tc_payload::native::Logs::default().backing, publish: true };
    findings.enter(Phase::Admit, Instant::now());
    let (remains, furnished) = match admit::admit(basics, findings).await {
        None => (Remains::Gone(Gone::nothing_was_made()), None),
        Some(admitted) => {
            artifact.name.clone_from(&admitted.cx.payload.logs.backing);
            artifact.publish = admitted.cx.payload.features.backing_log;
            let (remains, cx, table) = perform::perform(admitted, findings).await;
            (remains, Some((cx, table)))
        }
    };
    let left_behind = match remains {
        Remains::Gone(_) => None,
        Remains::Left(what) => {
            findings.add(Phase::Destroy, CORE, RunError::new(Blame::Worker, format!("clean up after the task: {what}")));
            // What is left of a container has names and labels by which the engine finds it again.
            let sweepable = furnished.as_ref().is_some_and(|(cx, _)| cx.container.is_some());
            Some(LeftBehind { what, sweepable })
        }
    };
    findings.enter(Phase::Seal, Instant::now());
    let sealed = seal::seal(basics, findings).await;
    if !basics.shop.config.clean_up_task_dirs
        && let Some(place) = furnished.as_ref().and_then(|(cx, _)| cx.place())
    {
        seal::keep(basics, &place.task_dir);
    }
    // The log and what points to it are published together: neither waits for the other.
    let uploads = async {
        let log = async {
            match sealed {
                Some(sealed) => seal::publish(basics, sealed, &artifact).await,
                None => Ok(()),
            }
        };
        match furnished {
            Some((cx, mut table)) => tokio::join!(log, table.stop(Phase::Seal, &cx, None)),
            None => (log.await, Vec::new()),
        }
    };
    let (log, parts) = tokio::select! {
        biased; // A run that is somebody else's cannot take artifacts any more.
        _ = perform::no_more_uploads(&basics.kill) => return left_behind,
        uploads = tokio::time::timeout(LAST_UPLOADS_BOUND, uploads) => match uploads {
            Ok(uploads) => uploads,
            Err(_) => (Err(RunError::new(Blame::Service, "the task log could not be uploaded in time")), Vec::new()),
        },
    };
    for (position, error) in parts {
        warn!("Task {} run {}: {}", basics.task_id, basics.run_id, format::one_line(&error.message));
        findings.add(Phase::Seal, position, error);
    }
    if let Err(error) = log {
        warn!("Task {} run {}: {}", basics.task_id, basics.run_id, format::one_line(&error.message));
        findings.add(Phase::Seal, CORE, error);
    }
    left_behind
}

fn open_log(shop: &Workshop, task_id: &str, run_id: u32) -> std::io::Result<Arc<TaskLog>> {
    let name = perform::run_name(task_id, run_id);
    TaskLog::create(LogOptions::new(shop.spool_dir.clone(), name, Arc::clone(&shop.clock)))
}

fn header(basics: &Basics) {
    let config = &basics.shop.config;
    let pool = format!("{}/{}", config.provisioner_id, config.worker_type);
    let queue = if basics.shop.header_from_task { &basics.task.task_queue_id } else { &pool };
    for message in format::header(queue, &config.worker_type_metadata, &basics.task_id) {
        basics.log.info(&message);
    }
}

/// Time from the claim to the task's deadline. The start of the run, as the queue dates it, stands for the moment of the
/// claim, so that a wrong clock on this machine does not matter.
fn time_to_deadline(shop: &Workshop, claim: &Claim) -> Duration {
    let run = claim.status.runs.iter().find(|run| run.run_id == claim.run_id);
    let now = run.and_then(|run| run.started).unwrap_or_else(|| shop.clock.wall());
    Duration::try_from(claim.task.deadline.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// Resolves a run that never got as far as a log.
pub async fn tell_without_log(queue: &crate::api::Queue, task_id: &str, run_id: u32, reason: Reason) -> Told {
    match queue.report(task_id, run_id, Resolution::Exception(reason)).await {
        Ok(()) => Told::Resolved(Resolution::Exception(reason)),
        Err(error) if error.is_conflict() => Told::AlreadyKnown,
        Err(error) => {
            info!("Could not report task {task_id} run {run_id}: {error}");
            Told::LeaseEnded
        }
    }
}
