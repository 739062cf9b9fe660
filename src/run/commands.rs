//! The commands of a run, in order, and what the end of each means.

use std::time::Duration;

use tc_engine::{CommandEnd, Exit, RunHandle};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::{
    context::RunContext,
    outcome::{Blame, Kill, RunError},
};
use crate::log::format;

/// Longest time between a command's kill and its death.
const STOP_BOUND: Duration = Duration::from_secs(60);

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
        let began = Instant::now();
        let ended = tokio::select! {
            biased; // A reason from outside outranks the death that it causes.
            kill = cx.kill.killed() => Err(kill),
            end = handle.run(index) => Ok(end),
        };
        match ended {
            Ok(Ok(end)) => command_end(cx, &end)?,
            Ok(Err(error)) => {
                cx.log.error(&format!("System error executing command: {error}"));
                return Err(Ended::Itself(error.into()));
            }
            Err(kill) => {
                cx.log.error("Aborting task...");
                if timeout(STOP_BOUND, handle.stop(kill.reason, Duration::ZERO)).await.is_err() {
                    warn!("Command {index} of task {} did not die in time", cx.task_id);
                }
                cx.log.info(&format::aborted(began.elapsed(), cx.memory.usage().as_ref()));
                return Err(Ended::Killed(kill));
            }
        }
    }
    Ok(())
}

/// Writes the result of a command and says whether the next one may run.
fn command_end(cx: &RunContext, end: &CommandEnd) -> Result<(), Ended> {
    if let Exit::NotStarted(why) = &end.exit {
        cx.log.error(&format!("System error executing command: {why}"));
        return Err(Ended::Itself(RunError::new(Blame::Task, why.clone())));
    }
    cx.log.info(&format::result_block(end, cx.memory.usage().as_ref()));
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
    use nix::sys::signal::Signal;
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
