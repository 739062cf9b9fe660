//! Bad news of one run: what went wrong, whose fault it is, and what the queue is told.

use std::fmt;

use tc_engine::{EngineError, Fault, StopReason};
use tokio::time::Instant;

use crate::{
    api::{Reason, Resolution},
    log::format::one_line,
};

/// What went wrong in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunError {
    /// Whose fault it is.
    pub blame: Blame,
    /// What the task log says about it, without prefix. May have several lines.
    pub message: String,
}

/// Whose fault an error is, as far as the queue can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The payload cannot be run as it is: a malformed-payload exception.
    Payload,
    /// The task's own commands or artifacts: failed.
    Task,
    /// The task says that trying again may help: an intermittent-task exception, which the queue retries.
    Intermittent,
    /// A service or the machine is short of something: a resource-unavailable exception.
    Service,
    /// This worker: an internal-error exception.
    Worker,
    /// This worker has to go: a worker-shutdown exception, which the queue retries.
    Shutdown,
    /// Nobody has to be told: the queue has resolved the run itself, or given it to somebody else.
    AlreadyKnown,
}

impl RunError {
    /// An error.
    pub fn new(blame: Blame, message: impl Into<String>) -> Self {
        Self { blame, message: message.into() }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RunError {}

impl From<EngineError> for RunError {
    fn from(error: EngineError) -> Self {
        let blame = match error.fault {
            Fault::Payload => Blame::Payload,
            Fault::Task => Blame::Task,
            Fault::Lost => Blame::Shutdown,
            Fault::Worker => Blame::Worker,
            Fault::Resource => Blame::Service,
        };
        // It may be an engine's own, or speak of names that a task has chosen.
        Self::new(blame, one_line(&error.message))
    }
}

impl Blame {
    /// What the queue is told; none if there is nothing to tell.
    pub fn resolution(self) -> Option<Resolution> {
        match self {
            Self::Payload => Some(Resolution::Exception(Reason::MalformedPayload)),
            Self::Task => Some(Resolution::Failed),
            Self::Intermittent => Some(Resolution::Exception(Reason::IntermittentTask)),
            Self::Service => Some(Resolution::Exception(Reason::ResourceUnavailable)),
            Self::Worker => Some(Resolution::Exception(Reason::InternalError)),
            Self::Shutdown => Some(Resolution::Exception(Reason::WorkerShutdown)),
            Self::AlreadyKnown => None,
        }
    }
}

/// Why a run was ended from outside, with the sentence for its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// The reason.
    pub reason: StopReason,
    /// The sentence that ends the task log.
    pub message: String,
}

impl Kill {
    /// A kill with the sentence that readers of logs know for this reason.
    pub fn new(reason: StopReason) -> Self {
        let message = match reason {
            StopReason::Canceled => "task was canceled",
            StopReason::Deadline => "task aborted - its deadline has passed",
            StopReason::LeaseLost => "task aborted - the claim on it was lost",
            StopReason::MaxRunTime => "task aborted - max run time exceeded",
            StopReason::Memory => "task aborted - memory is short",
            StopReason::LogLost => "task aborted - its log could not be stored",
            StopReason::WorkerShutdown => "graceful termination requested, without time to finish tasks",
            StopReason::WorkerFault => "task aborted - a part of the worker failed",
        };
        Self { reason, message: message.to_owned() }
    }

    /// A kill with a sentence of its own.
    pub fn because(reason: StopReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Whose fault the end of the run is.
    pub fn blame(&self) -> Blame {
        match self.reason {
            StopReason::Canceled | StopReason::Deadline | StopReason::LeaseLost => Blame::AlreadyKnown,
            StopReason::MaxRunTime | StopReason::Memory => Blame::Task,
            StopReason::LogLost => Blame::Service,
            StopReason::WorkerShutdown => Blame::Shutdown,
            StopReason::WorkerFault => Blame::Worker,
        }
    }
}

impl From<Kill> for RunError {
    fn from(kill: Kill) -> Self {
        Self::new(kill.blame(), kill.message)
    }
}

/// The phases of a run, in order. Errors are ranked by the phase they came up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The payload is read and checked.
    Admit,
    /// Space is reserved.
    Ground,
    /// Optional parts are made ready.
    Furnish,
    /// The sandbox is made.
    Create,
    /// Commands run.
    Run,
    /// Everything of the task ends.
    Quiet,
    /// Artifacts are published.
    Collect,
    /// What was borrowed is given back.
    Return,
    /// Everything of the run is removed.
    Destroy,
    /// The log is closed and published.
    Seal,
}

impl Phase {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Ground => "ground",
            Self::Furnish => "furnish",
            Self::Create => "create",
            Self::Run => "run",
            Self::Quiet => "quiet",
            Self::Collect => "collect",
            Self::Return => "return",
            Self::Destroy => "destroy",
            Self::Seal => "seal",
        }
    }
}

/// Position of an error of a phase itself: behind all features of that phase.
pub const CORE: usize = usize::MAX;

/// The phases that one run went through, and all its bad news. Which piece decides does not depend on when it came.
#[derive(Debug, Default)]
pub struct Findings {
    kill: Option<Kill>,
    errors: Vec<(Phase, usize, RunError)>,
    entered: Vec<(Phase, Instant)>,
}

impl Findings {
    /// Notes that a phase begins, and with it ends the one before. Each is entered once at most.
    pub fn enter(&mut self, phase: Phase, now: Instant) {
        self.entered.push((phase, now));
    }

    /// The phases with their beginnings, in their order.
    pub fn entered(&self) -> &[(Phase, Instant)] {
        &self.entered
    }

    /// Adds an error from the feature at `position` of the table, or from the phase itself ([`CORE`]).
    pub fn add(&mut self, phase: Phase, position: usize, error: RunError) {
        self.errors.push((phase, position, error));
    }

    /// Notes that the run was ended from outside. The first reason stays.
    pub fn killed(&mut self, kill: Kill) {
        self.kill.get_or_insert(kill);
    }

    /// Whether anything is wrong.
    pub fn is_empty(&self) -> bool {
        self.kill.is_none() && self.errors.is_empty()
    }

    /// The reason from outside, if there is one.
    pub fn kill(&self) -> Option<&Kill> {
        self.kill.as_ref()
    }

    /// The error that decides: a reason from outside if there is one, else the first by phase and position.
    pub fn deciding(&self) -> Option<RunError> {
        if let Some(kill) = &self.kill {
            return Some(kill.clone().into());
        }
        self.errors.iter().min_by_key(|(phase, position, _)| (*phase, *position)).map(|(_, _, error)| error.clone())
    }

    /// Every error that does not decide, in order; they are shown before the one that does.
    pub fn others(&self) -> Vec<RunError> {
        let mut sorted: Vec<_> = self.errors.iter().collect();
        sorted.sort_by_key(|(phase, position, _)| (*phase, *position));
        let skip = usize::from(self.kill.is_none());
        sorted.into_iter().skip(skip).map(|(_, _, error)| error.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PHASES: [Phase; 10] = [
        Phase::Admit,
        Phase::Ground,
        Phase::Furnish,
        Phase::Create,
        Phase::Run,
        Phase::Quiet,
        Phase::Collect,
        Phase::Return,
        Phase::Destroy,
        Phase::Seal,
    ];

    fn error() -> impl Strategy<Value = (Phase, usize)> {
        (0..PHASES.len(), prop_oneof![0..8_usize, Just(CORE)]).prop_map(|(phase, position)| (PHASES[phase], position))
    }

    proptest! {
        #[test]
        fn the_deciding_error_is_the_first_by_phase_and_position_and_not_by_the_clock(
            errors in proptest::collection::hash_set(error(), 1..12),
        ) {
            let mut findings = Findings::default();
            for (phase, position) in &errors {
                findings.add(*phase, *position, RunError::new(Blame::Task, format!("{phase:?} {position}")));
            }
            let first = errors.iter().min().expect("at least one");
            prop_assert_eq!(findings.deciding().expect("one decides").message, format!("{:?} {}", first.0, first.1));
            prop_assert_eq!(findings.others().len(), errors.len() - 1, "all errors are shown");
        }

        #[test]
        fn a_kill_outranks_what_it_caused(errors in proptest::collection::vec(error(), 0..12), at in 0..12_usize) {
            let mut findings = Findings::default();
            for (i, (phase, position)) in errors.iter().enumerate() {
                if i == at { findings.killed(Kill::new(StopReason::MaxRunTime)); }
                findings.add(*phase, *position, RunError::new(Blame::Worker, "consequence"));
            }
            findings.killed(Kill::new(StopReason::MaxRunTime));
            findings.killed(Kill::new(StopReason::Canceled));
            let deciding = findings.deciding().expect("one decides");
            prop_assert_eq!(deciding.message, "task aborted - max run time exceeded");
            prop_assert_eq!(deciding.blame, Blame::Task);
            prop_assert_eq!(findings.others().len(), errors.len());
        }
    }
}
