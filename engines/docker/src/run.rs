//! A run whose container may be running.
//!
//! ```text
//!           run(0)                  the engine obeys              the watch answers
//! Idle ───────────────▶ Starting ────────────────────▶ Running ───────────────────────▶ Ended
//!                          │ the engine says no                    │ the engine goes away
//!                          ▼                                       ▼
//! Refused ─ run(0) ─▶ a line, 125…127                             Lost
//! ```
//!
//! `run` may be dropped in every state: what was begun goes on in tasks of its own, and `stop` and `quiesce` go on from there.
//!
//! An engine that does not answer any more is noticed while the container runs: a long silence is as good as its end. One that
//! is not there any more is noticed at once, and waited for as long as a restart takes.
//!
//! After `stop` or `quiesce` nothing is started: the order to start is withdrawn, and where it may have left already, a container
//! that was never started is removed before it can obey.
//!
//! A container has one command. Its end is the end of everything in it, so nothing of it can outlive `run`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bollard::query_parameters::StopContainerOptionsBuilder;
use tc_engine::{CommandEnd, EngineError, Exit, Fault, Over, Quiet, RunHandle, Sink, StopReason};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use crate::{
    connection::Failure,
    container::{
        death::{self, Dead},
        end::{Description, State as Condition, Until, Watch, describe},
        order::{Order, Started},
        output::{Heard, Listener},
        refusal::Refusal,
        removal,
    },
    engine::{Bounds, Shared},
    quiet::DockerQuiet,
    sandbox::Prepared,
};

/// How often a watch is renewed whose connection broke although the engine is there.
const WATCHES: usize = 5;

enum State {
    Refused(Refusal),
    Idle(Live),
    Starting(Live, Order),
    Running(Live),
    Over,
}

/// A container that exists.
struct Live {
    id: String,
    watch: Watch,
    listener: Listener,
}

/// A started run.
pub(crate) struct Running {
    state: State,
    sink: Arc<dyn Sink>,
    shared: Arc<Shared>,
    /// Taken by `quiesce` only.
    quiet: Option<DockerQuiet>,
    /// No command may start any more.
    closed: bool,
    /// The engine has said after the end that nothing of it runs.
    verified: bool,
    /// Nobody can say whether an order to start is still on its way.
    may_start: bool,
    /// Output could not be listened to.
    deaf: Option<String>,
    over: Over,
}

fn worker_fault(message: impl Into<String>) -> EngineError {
    EngineError::new(Fault::Worker, message)
}

fn lost(what: &str, failure: &Failure) -> EngineError {
    EngineError::new(Fault::Lost, format!("{what}: {failure}"))
}

/// What an exit code means, with what the engine says about the container afterwards.
///
/// An engine that is told to go ends its containers by signals and is not there a moment later: such a death is not the task's.
fn verdict(code: i32, found: &Result<Condition, Failure>) -> Result<(Exit, bool), EngineError> {
    match found {
        Err(failure @ (Failure::Unreachable { .. } | Failure::Broken(_))) if code > 128 => {
            Err(lost(&format!("the container ended with code {code} together with the engine"), failure))
        }
        Ok(state) => Ok((Exit::Code(code), state.oom_killed && code != 0)),
        Err(_) => Ok((Exit::Code(code), false)),
    }
}

/// Returns when the engine has not answered anything for too long, with what came of the last question. May be dropped.
async fn frozen(shared: &Shared) -> EngineError {
    let Bounds { look, frozen, .. } = shared.bounds;
    let mut answered = Instant::now();
    loop {
        sleep(look).await;
        match shared.connection.call(look, shared.connection.docker().version()).await {
            Ok(_) | Err(Failure::Answer { .. }) => answered = Instant::now(),
            Err(failure) if answered.elapsed() >= frozen => {
                return lost(
                    &format!("the Docker engine has not answered for {} s while the task ran", frozen.as_secs()),
                    &failure,
                );
            }
            Err(_) => {}
        }
    }
}

impl Live {
    /// The exit code, through whatever breaks except the engine itself. May be dropped and called again.
    async fn ended(&mut self, shared: &Shared) -> Result<i32, EngineError> {
        let mut renewed = 0;
        loop {
            let failure = match self.watch.exit_code().await {
                Ok(code) => return Ok(code),
                Err(failure) => failure,
            };
            // The engine that closes the output closes it at the end of the container or at its own.
            let died = lost("the Docker engine went away while the task ran", &failure);
            if self.listener.has_ended() || renewed == WATCHES {
                return Err(died);
            }
            renewed += 1;
            match Watch::begin(&shared.connection, shared.bounds.call, &self.id, Until::NotRunning).await {
                // An engine that was restarted in between has closed the output by now.
                Ok(watch) if !self.listener.has_ended() => self.watch = watch,
                _ => return Err(died),
            }
        }
    }
}

impl Running {
    pub(crate) fn new(run: &str, prepared: Prepared, quiet: DockerQuiet, sink: Arc<dyn Sink>) -> Self {
        let (state, deaf) = match prepared {
            Prepared::Refused(refusal) => (State::Refused(refusal), None),
            Prepared::Ready { id, ear, watch } => match ear.listen(run, Arc::clone(&sink)) {
                Ok(listener) => (State::Idle(Live { id, watch, listener }), None),
                Err(error) => (State::Over, Some(format!("listen to the container: {error}"))),
            },
        };
        Self {
            state,
            sink,
            shared: Arc::clone(&quiet.shared),
            quiet: Some(quiet),
            closed: false,
            verified: false,
            may_start: false,
            deaf,
            over: Over::default(),
        }
    }

    /// Waits until what was begun has begun. May be dropped and called again.
    async fn started(&mut self) -> Started {
        let State::Starting(_, order) = &mut self.state else { return Ok(None) };
        let started = order.came().await;
        let State::Starting(live, _) = std::mem::replace(&mut self.state, State::Over) else { return Ok(None) };
        match started {
            Ok(None) => self.state = State::Running(live),
            Ok(Some(_)) => {}
            Err(_) => self.may_start = true,
        }
        started
    }

    /// No command starts any more, as far as that is in our hands.
    fn close(&mut self) {
        self.closed = true;
        if let State::Starting(_, order) = &self.state {
            order.withdraw();
        }
    }

    /// Waits for the end and hears the rest. May be dropped and called again.
    async fn ended(&mut self) -> Result<(Exit, bool), EngineError> {
        let State::Running(live) = &mut self.state else { return Err(worker_fault("the container does not run")) };
        let shared = &*self.shared;
        let code = tokio::select! {
            biased; // An end that is known is one, whatever the engine does now.
            code = live.ended(shared) => code?,
            gone = frozen(shared) => return Err(gone),
        };
        self.over.set();
        if code < 0 {
            return Err(EngineError::new(Fault::Lost, format!("the engine lost the container: exit code {code}")));
        }
        // Both at once: an engine that closes the stream late must not make the task longer than it has to be.
        let (heard, found) = tokio::join!(
            live.listener.drain(shared.bounds.silence, shared.bounds.drain),
            describe(&shared.connection, shared.bounds.call, &live.id),
        );
        match heard {
            Heard::Everything => {}
            Heard::Failed => return Err(worker_fault("taking the container's output failed")),
            Heard::NoEnd | Heard::Broken => warn!("The engine did not end the output of container {}: {heard:?}", live.id),
        }
        let found = found.map(|Description { state, .. }| state);
        self.verified = found.as_ref().is_ok_and(Condition::is_over);
        self.state = State::Over;
        verdict(code, &found)
    }

    /// Kills, whatever is being started meanwhile.
    async fn kill(&mut self) {
        self.close();
        let deadline = Instant::now() + self.shared.bounds.kill;
        if matches!(self.state, State::Starting(..)) {
            // A container that is born after the kill is not killed by it, so this is waited for, as long as any lost call is.
            drop(timeout(self.shared.bounds.late, self.started()).await);
        }
        if let State::Starting(..) = self.state {
            self.state = State::Over;
            self.may_start = true;
        }
        if self.may_start {
            // If this fails, `quiesce` tries again, and says so.
            drop(self.verify().await);
            return;
        }
        let State::Running(live) = &self.state else { return };
        death::kill(&self.shared, &live.id, deadline).await;
        // What does not die is found by `quiesce`, which is where it counts.
        drop(tokio::time::timeout_at(deadline, self.ended()).await);
    }

    /// Waits until the engine says that the container does not run, if that is not known.
    async fn verify(&mut self) -> Result<(), EngineError> {
        let Some(quiet) = self.quiet.as_mut().filter(|quiet| quiet.made.container && !self.verified) else { return Ok(()) };
        let dead = death::verify(&self.shared, &crate::labels::name_of(&quiet.run), self.may_start).await?;
        // It went before it could start. One that somebody else has removed may have had files.
        quiet.made.files &= dead == Dead::Ended || !self.may_start;
        self.verified = true;
        Ok(())
    }
}

#[async_trait]
impl RunHandle for Running {
    async fn run(&mut self, index: usize) -> Result<CommandEnd, EngineError> {
        if self.closed {
            return Err(worker_fault("the run was stopped"));
        }
        if index != 0 {
            return Err(worker_fault(format!("there is no command {index} in a container")));
        }
        if let Some(deaf) = self.deaf.take() {
            return Err(worker_fault(deaf));
        }
        let begun = Instant::now();
        let refused = match std::mem::replace(&mut self.state, State::Over) {
            State::Refused(refusal) => Some(refusal),
            State::Idle(live) => {
                let order = Order::give(Arc::clone(&self.shared), live.id.clone());
                self.state = State::Starting(live, order);
                self.started().await?
            }
            State::Starting(..) | State::Running(_) | State::Over => return Err(worker_fault("a container runs once")),
        };
        let (exit, out_of_memory) = match refused {
            Some(Refusal { code, line }) => {
                self.sink.write(line.as_bytes());
                (Exit::Code(code), false)
            }
            None => self.ended().await?,
        };
        let (user, kernel) = (Duration::ZERO, Duration::ZERO);
        Ok(CommandEnd {
            exit,
            user,
            kernel,
            wall: self.over.at().unwrap_or_else(Instant::now).duration_since(begun),
            out_of_memory,
        })
    }

    fn over(&self) -> Over {
        self.over.clone()
    }

    async fn stop(&mut self, _reason: StopReason, grace: Duration) {
        self.close();
        if !grace.is_zero() {
            drop(timeout(grace, self.started()).await);
            if let State::Running(live) = &self.state {
                // The engine sends the signal that the image asks for, and SIGKILL after the grace.
                let secs = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
                let options = StopContainerOptionsBuilder::default().t(secs).build();
                let bound = grace + self.shared.bounds.kill / 2;
                let stopped = self.shared.connection.docker().stop_container(&live.id, Some(options));
                if let Err(failure) = self.shared.connection.call(bound, stopped).await
                    && !matches!(failure.status(), Some(304 | 404 | 409))
                {
                    warn!("Container {} was not stopped in time and is killed: {failure}", live.id);
                }
            }
        }
        self.kill().await;
    }

    async fn quiesce(mut self: Box<Self>) -> Result<Box<dyn Quiet>, EngineError> {
        self.kill().await;
        self.verify().await?;
        if let State::Running(live) = &mut self.state
            && live.listener.drain(self.shared.bounds.silence, self.shared.bounds.drain).await == Heard::Failed
        {
            warn!("Taking the output of container {} failed", live.id);
        }
        let quiet = self.quiet.take().ok_or_else(|| worker_fault("the run is over"))?;
        Ok(Box::new(quiet))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever drops a run has not made it quiet: a panic, most likely. Its container goes all the same; what is left of
        // it is found by a sweep.
        let Some(quiet) = self.quiet.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if quiet.made.container {
            runtime.spawn(async move {
                let deadline = Instant::now() + quiet.shared.bounds.removal;
                if let Err(left) = removal::container(&quiet.shared, &crate::labels::name_of(&quiet.run), deadline).await {
                    warn!("Abandoned: {left}");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_by_signal_together_with_the_engine_is_not_the_tasks() {
        let gone = || Err(Failure::Unreachable { why: "no socket".into(), absent: true });
        assert_eq!(verdict(143, &gone()).map_err(|error| error.fault), Err(Fault::Lost));
        assert_eq!(verdict(0, &gone()).ok(), Some((Exit::Code(0), false)), "what was done is done");
        assert_eq!(verdict(1, &gone()).ok(), Some((Exit::Code(1), false)));
        let there = || Ok(Condition { oom_killed: true, ..Condition::default() });
        assert_eq!(verdict(137, &there()).ok(), Some((Exit::Code(137), true)));
        assert_eq!(verdict(0, &there()).ok(), Some((Exit::Code(0), false)), "the task came to terms with it");
        assert_eq!(verdict(143, &Err(Failure::answer(500, "x"))).ok(), Some((Exit::Code(143), false)));
    }
}
