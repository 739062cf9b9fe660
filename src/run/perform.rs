//! The phases between admission and the seal. Each takes the value that the one before produced, so none can be skipped.

use std::{sync::Arc, time::Duration};

use tc_engine::{Engine, Gone, Ground, Names, Quiet, Sink, StopReason};
use tokio::time::{Instant, timeout};

use super::{
    admit::Admitted,
    commands::{Ended, commands},
    context::{Place, RunContext},
    kill::KillSwitch,
    outcome::{Blame, CORE, Findings, Kill, Phase, RunError},
    plan,
};
use crate::{feature::table::Table, log::format};

/// Longest that an engine may take to reserve, create, or remove. A bound against hangs, not a budget.
const ENGINE_BOUND: Duration = Duration::from_secs(600);
/// Longest that artifacts, and after them the log, may be uploaded once the worker has to go.
pub const SHUTDOWN_UPLOAD_BOUND: Duration = Duration::from_secs(120);
/// Longest that they may be uploaded once the queue has ended the run; it accepts them for 25 minutes.
pub const ENDED_UPLOAD_BOUND: Duration = Duration::from_secs(600);

/// What is left of a run on this machine.
#[derive(Debug)]
pub enum Remains {
    /// Nothing.
    Gone(Gone),
    /// Something that could not be removed; the machine is not fit for further tasks.
    Left(String),
}

/// Performs an admitted run up to the point where only its log is left.
pub async fn perform(admitted: Admitted, findings: &mut Findings) -> (Remains, RunContext, Table<RunContext>) {
    let Admitted { cx, mut table } = admitted;
    findings.enter(Phase::Ground, Instant::now());
    let remains = match reserve(&cx).await {
        Ok(ground) => {
            let quiet = run_in(ground, &cx, &mut table, findings).await;
            finish(quiet, &cx, &mut table, findings).await
        }
        Err(error) => {
            // A worker that can make no space for this task can make none for the next one.
            let unfit = (error.blame == Blame::Worker).then(|| error.message.clone());
            findings.add(Phase::Ground, CORE, error);
            unfit.map_or_else(|| Remains::Gone(Gone::nothing_was_made()), Remains::Left)
        }
    };
    (remains, cx, table)
}

/// What runs the commands of this task.
fn engine(cx: &RunContext) -> Result<&dyn Engine, RunError> {
    match (&cx.container, &cx.shop.docker) {
        (None, _) => Ok(cx.shop.engine.as_ref()),
        (Some(_), Some(docker)) => Ok(docker.as_ref()),
        (Some(_), None) => Err(RunError::new(Blame::Service, "this worker has no engine for containers")),
    }
}

async fn reserve(cx: &RunContext) -> Result<Box<dyn Ground>, RunError> {
    let engine = engine(cx)?;
    let tasks_dir = &cx.shop.config.tasks_dir;
    let run = run_name(&cx.task_id, cx.run_id);
    let mut place = tasks_dir.join(directory_name(&cx.task_id, cx.run_id));
    if place.exists() {
        // Another task whose id begins alike, or an earlier one whose files were kept.
        place = tasks_dir.join(&run);
    }
    let ground = timeout(ENGINE_BOUND, engine.reserve(Names { run, task_dir: place, network: false }))
        .await
        .map_err(|_| RunError::new(Blame::Worker, "the engine did not reserve space for the task in time"))??;
    cx.settle(Place { task_dir: ground.task_dir().to_owned(), identity: ground.identity().clone() });
    Ok(ground)
}

/// `task_<taskId>_<runId>`: unique among the runs of a worker.
pub fn run_name(task_id: &str, run_id: u32) -> String {
    format!("task_{task_id}_{run_id}")
}

/// Everything by which an engine may know a run.
pub fn names(task_id: &str, run_id: u32) -> [String; 2] {
    [run_name(task_id, run_id), directory_name(task_id, run_id)]
}

/// The same, cut to 20 characters, as the reference names directories and users.
pub fn directory_name(task_id: &str, run_id: u32) -> String {
    let suffix = format!("_{run_id}");
    let room = 20_usize.saturating_sub("task_".len() + suffix.len()).max(1);
    let prefix: String = task_id.chars().take(room).collect();
    format!("task_{prefix}{suffix}")
}

/// Adds what came up in a phase.
fn add(findings: &mut Findings, phase: Phase, errors: Vec<(usize, RunError)>) {
    for (position, error) in errors {
        findings.add(phase, position, error);
    }
}

/// Adds what came up before the commands ran, and whether the run was ended from outside meanwhile. Returns whether to go on.
///
/// Later phases do not ask for the latter: a run whose commands are done is what it is, also when the worker is told to go.
fn note(findings: &mut Findings, cx: &RunContext, phase: Phase, errors: Vec<(usize, RunError)>) -> bool {
    add(findings, phase, errors);
    if let Some(kill) = cx.kill.reason() {
        findings.killed(kill);
    }
    findings.is_empty()
}

/// Furnishes, creates, runs and quiets. None if processes of the task could not be ended.
async fn run_in(
    ground: Box<dyn Ground>,
    cx: &RunContext,
    table: &mut Table<RunContext>,
    findings: &mut Findings,
) -> Option<Box<dyn Quiet>> {
    let base = ground.base_environment();
    findings.enter(Phase::Furnish, Instant::now());
    let errors = table.start(Phase::Furnish, cx, &cx.kill).await;
    if !note(findings, cx, Phase::Furnish, errors) {
        return quieted(ground.quiesce(), findings).await;
    }
    findings.enter(Phase::Create, Instant::now());
    let sandbox = match ground.create(plan::plan(cx, base)).await {
        Ok(sandbox) => sandbox,
        Err((error, quiet)) => {
            note(findings, cx, Phase::Create, vec![(CORE, error.into())]);
            return Some(quiet);
        }
    };
    findings.enter(Phase::Run, Instant::now());
    let errors = table.start(Phase::Run, cx, &cx.kill).await;
    if !note(findings, cx, Phase::Run, errors) {
        return quieted(sandbox.quiesce(), findings).await;
    }
    let sink: Arc<dyn Sink> = cx.log.clone();
    let mut handle = sandbox.start(sink);
    let began = Instant::now();
    let result = commands(handle.as_mut(), cx).await;
    add(findings, Phase::Run, table.stop(Phase::Run, cx, None).await);
    match result {
        Ok(()) => {}
        Err(Ended::Itself(error)) => findings.add(Phase::Run, CORE, error),
        Err(Ended::Killed(kill)) => findings.killed(kill),
    }
    findings.enter(Phase::Quiet, Instant::now());
    let quiet = match handle.quiesce().await {
        Ok(quiet) => Some(quiet),
        Err(error) => {
            findings.add(Phase::Quiet, CORE, error.into());
            None
        }
    };
    for line in format::finished(began.elapsed()) {
        cx.log.info(&line);
    }
    quiet
}

/// Giving up before anything ran, under a bound.
async fn quieted(quiesce: impl Future<Output = Box<dyn Quiet>>, findings: &mut Findings) -> Option<Box<dyn Quiet>> {
    findings.enter(Phase::Quiet, Instant::now());
    let quiet = timeout(ENGINE_BOUND, quiesce).await.ok();
    if quiet.is_none() {
        findings.add(Phase::Quiet, CORE, RunError::new(Blame::Worker, "the engine did not give up the task's space in time"));
    }
    quiet
}

/// Waits until uploads of a run have no point any more, or no time. A reason from outside changes nothing else about them: a
/// task that was ended for its run time publishes what it has, however long that takes.
pub async fn no_more_uploads(kill: &KillSwitch) -> Kill {
    let ended = async {
        let kill = kill.given(|reason| matches!(reason, StopReason::Canceled | StopReason::Deadline)).await;
        tokio::time::sleep(ENDED_UPLOAD_BOUND).await;
        kill
    };
    let shutdown = async {
        let kill = kill.given(|reason| reason == StopReason::WorkerShutdown).await;
        tokio::time::sleep(SHUTDOWN_UPLOAD_BOUND).await;
        kill
    };
    tokio::select! {
        biased; // Whichever comes first.
        kill = kill.given(|reason| reason == StopReason::LeaseLost) => kill,
        kill = ended => kill,
        kill = shutdown => kill,
    }
}

/// Collects, returns, destroys.
async fn finish(
    quiet: Option<Box<dyn Quiet>>,
    cx: &RunContext,
    table: &mut Table<RunContext>,
    findings: &mut Findings,
) -> Remains {
    findings.enter(Phase::Collect, Instant::now());
    let collected = tokio::select! {
        biased; // A lost lease makes further uploads useless.
        kill = no_more_uploads(&cx.kill) => Err(kill),
        errors = table.stop(Phase::Collect, cx, quiet.as_deref()) => Ok(errors),
    };
    match collected {
        Ok(errors) => add(findings, Phase::Collect, errors),
        Err(kill) => findings.killed(kill),
    }
    findings.enter(Phase::Return, Instant::now());
    add(findings, Phase::Return, table.stop(Phase::Return, cx, quiet.as_deref()).await);
    let Some(quiet) = quiet else {
        return Remains::Left("processes of the task could not be ended".to_owned());
    };
    findings.enter(Phase::Destroy, Instant::now());
    match timeout(ENGINE_BOUND, quiet.destroy(!cx.shop.config.clean_up_task_dirs)).await {
        Ok(Ok(gone)) => Remains::Gone(gone),
        Ok(Err(error)) => {
            let message = error.to_string();
            findings.add(Phase::Destroy, CORE, error.into());
            Remains::Left(message)
        }
        Err(_) => Remains::Left("the engine did not remove the task in time".to_owned()),
    }
}
