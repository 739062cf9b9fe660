//! The commands of a run, in order, and what the end of each means.

use std::time::Duration;

use nix::sys::signal::Signal;
use tc_engine::{CommandEnd, Exit, RunHandle, StopReason};
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use super::{
    context::{CommandsState, RunContext},
    outcome::{Blame, Kill, RunError},
};
use crate::log::format;

/// Longest time between a command's kill and its death.
const STOP_BOUND: Duration = Duration::from_secs(60);
/// What a container gets between being asked to end and being killed, where the reason leaves time for it. A machine that is
/// taken away leaves 30 seconds in all, and artifacts are still to come.
const CONTAINER_GRACE: Duration = Duration::from_secs(3);
/// When a machine goes down, its containers are often ended before the worker is told to go. A death that looks like it is
/// held for this long.
const VERDICT_HOLD: Duration = Duration::from_secs(3);
/// Longest wait for the cloud to say whether it is about to take the machine away.
const NOTICE_BOUND: Duration = Duration::from_secs(1);

/// How the commands of a run came to an end before their time.
pub enum Ended {
    /// By themselves.
    Itself(RunError),
    /// From outside.
    Killed(Kill),
}

/// Runs the commands of a task, one after another, until one fails or the run is ended from outside.
pub async fn commands(handle: &mut dyn RunHandle, cx: &RunContext) -> Result<(), Ended> {
    for (index, argv) in cx.payload.command.iter().enumerate() {
        cx.log.info(&format::executing(index, argv));
        info!("Executing command {index} of task {}", cx.task_id);
        cx.memory.reset();
        cx.note_commands(CommandsState::Unfinished);
        let began = Instant::now();
        let over = handle.over();
        let ended = tokio::select! {
            biased; // A reason from outside outranks the death that it causes.
            // But what an engine still has to say about a command that has ended is none of the command's time.
            kill = cx.kill.given(|reason| reason != StopReason::MaxRunTime || over.at().is_none()) => Err(kill),
            end = handle.run(index) => Ok(end),
        };
        match ended {
            Ok(Ok(end)) => {
                if let Some(kill) = going_down(cx, &end).await {
                    cx.log.info(&format::aborted(began.elapsed(), cx.memory.usage().as_ref()));
                    return Err(Ended::Killed(kill));
                }
                command_end(cx, &end)?;
            }
            Ok(Err(error)) => {
                let said = format::one_line(&error.to_string()).into_owned();
                error!("Command {index} of task {}: {said}", cx.task_id);
                cx.log.error(&format!("System error executing command: {said}"));
                return Err(Ended::Itself(error.into()));
            }
            Err(kill) => {
                cx.log.error("Aborting task...");
                if timeout(STOP_BOUND, handle.stop(kill.reason, grace(cx, kill.reason))).await.is_err() {
                    warn!("Command {index} of task {} did not die in time", cx.task_id);
                }
                cx.log.info(&format::aborted(began.elapsed(), cx.memory.usage().as_ref()));
                return Err(Ended::Killed(kill));
            }
        }
    }
    Ok(())
}

/// How long a task may take to end by itself.
fn grace(cx: &RunContext, reason: StopReason) -> Duration {
    let leaves_time = matches!(reason, StopReason::MaxRunTime | StopReason::Canceled | StopReason::WorkerShutdown);
    if leaves_time && cx.container.is_some() { CONTAINER_GRACE } else { Duration::ZERO }
}

/// Whether a command died because the machine goes down: then it is this worker that ends, not the task that failed.
async fn going_down(cx: &RunContext, end: &CommandEnd) -> Option<Kill> {
    let from_outside = match end.exit {
        // As a shell or a container engine shows death by SIGKILL and SIGTERM.
        Exit::Code(code) => cx.container.is_some() && matches!(code, 137 | 143),
        Exit::Signal(signal) => signal == Signal::SIGKILL as i32 || signal == Signal::SIGTERM as i32,
        Exit::NotStarted(_) => false,
    };
    // For want of memory only SIGKILL is sent.
    if !from_outside || died_of_memory(end) {
        return None;
    }
    let told = timeout(VERDICT_HOLD, cx.kill.given(|reason| reason == StopReason::WorkerShutdown));
    let noticed = timeout(NOTICE_BOUND, cx.shop.host.termination_is_imminent());
    tokio::pin!(told);
    let noticed = tokio::select! {
        biased; // Being told is certain.
        told = &mut told => return told.ok(),
        noticed = noticed => noticed.unwrap_or(false),
    };
    if noticed {
        return Some(Kill::because(StopReason::WorkerShutdown, "task aborted - this machine is about to be taken away"));
    }
    told.await.ok()
}

/// Whether a command ended by SIGKILL when memory ran out.
fn died_of_memory(end: &CommandEnd) -> bool {
    end.out_of_memory && matches!(end.exit, Exit::Code(137))
}

/// Writes the result of a command and says whether the next one may run.
fn command_end(cx: &RunContext, end: &CommandEnd) -> Result<(), Ended> {
    let code = if let Exit::Code(code) = end.exit { Some(i64::from(code)) } else { None };
    cx.note_commands(CommandsState::Ended(code));
    if let Exit::NotStarted(why) = &end.exit {
        let why = format::one_line(why);
        cx.log.error(&format!("System error executing command: {why}"));
        return Err(Ended::Itself(RunError::new(Blame::Task, why)));
    }
    cx.log.info(&format::result_block(end, cx.memory.usage().as_ref()));
    if died_of_memory(end) {
        cx.log.error("The container used more memory than there was, and a process of it was killed for that");
        // Searched for by parsers of logs.
        cx.log.error("Unsuccessful task run with exit code: 137");
    } else if end.out_of_memory {
        cx.log
            .error("Memory ran out in the container; the command itself was not killed for it, but a process that it started");
    }
    match &end.exit {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) if cx.payload.on_exit.retry.contains(&i64::from(*code)) => Err(Ended::Itself(RunError::new(
            Blame::Intermittent,
            format!("task appears to have failed intermittently - exit code {code} found in task payload.onExitStatus list"),
        ))),
        Exit::Code(code) => Err(Ended::Itself(RunError::new(Blame::Task, format!("exit status {code}")))),
        Exit::Signal(signal) => Err(Ended::Itself(RunError::new(Blame::Task, format!("signal: {}", signal_name(*signal))))),
        Exit::NotStarted(why) => Err(Ended::Itself(RunError::new(Blame::Task, why.clone()))),
    }
}

/// A signal as the end of a log names it; the words are those of the reference, which programs search for.
fn signal_name(signal: i32) -> String {
    let name = match Signal::try_from(signal) {
        Ok(Signal::SIGHUP) => "hangup",
        Ok(Signal::SIGINT) => "interrupt",
        Ok(Signal::SIGQUIT) => "quit",
        Ok(Signal::SIGILL) => "illegal instruction",
        Ok(Signal::SIGTRAP) => "trace/breakpoint trap",
        Ok(Signal::SIGABRT) => "aborted",
        Ok(Signal::SIGBUS) => "bus error",
        Ok(Signal::SIGFPE) => "floating point exception",
        Ok(Signal::SIGKILL) => "killed",
        Ok(Signal::SIGUSR1) => "user defined signal 1",
        Ok(Signal::SIGSEGV) => "segmentation fault",
        Ok(Signal::SIGUSR2) => "user defined signal 2",
        Ok(Signal::SIGPIPE) => "broken pipe",
        Ok(Signal::SIGALRM) => "alarm clock",
        Ok(Signal::SIGTERM) => "terminated",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}
