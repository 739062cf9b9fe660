//! The worker's decisions, without any effect: when to claim, how many, when to wait, when to end.
//!
//! ```text
//!              ┌──────────── tasks arrive after all ───────────┐
//!              ▼                                               │
//!          Claiming ──idle too long──▶ Idling ──calls answered─┼──▶ Ended(68)
//!              │ ▲                                             │
//!              │ └─────────────────────────────────────────────┘
//!              ├──enough tasks run──────▶ Leaving(0)   ─┐
//!              ├──finish (SIGINT)───────▶ Leaving(71)  ─┤ nothing runs and no call is open
//!              ├──abort (SIGTERM)───────▶ Leaving(72)  ─┼──▶ Ended(code)
//!              └──unusable, unfit──────▶ Leaving(69)  ─┘
//!
//! abort ──calls open──▶ BreakOff ──calls answered──▶ AbortRuns
//!    └────none open────────────────────────────────────▲
//! ```
//!
//! Every call to `claimWork` is waited for, and once the worker is leaving the tasks in its answer are handed back unstarted.
//! Only an abort breaks calls off, and before it ends a run: what is reported as worker-shutdown is pending again at once, and an
//! open call would bring it back to this very worker, at the cost of one of its retries. Two calls are open at most: one may sit in its long poll for the slots that
//! were free when it began, a second one asks for slots that became free since.

use std::time::Duration;

use tokio::time::Instant;

/// Most tasks that one call may ask for; the service refuses more.
pub const TASKS_PER_CALL: usize = 32;
/// An empty answer that came sooner than this after its call makes the next call wait for the rest of this time. A queue
/// with a long poll takes longer by itself; this bounds what a queue without one, or a quarantined worker, causes.
pub const EMPTY_CALL_GAP: Duration = Duration::from_secs(10);
/// First wait after a failed call; doubled for each further failure.
pub const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
/// Longest wait after failed calls.
pub const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// How often an idle worker says so.
pub const IDLE_LINE_EVERY: Duration = Duration::from_secs(60);

/// Exit code: the wanted number of tasks was run.
pub const TASKS_COMPLETE: u8 = 0;
/// Exit code: idle for longer than configured.
pub const IDLE_TIMEOUT: u8 = 68;
/// Exit code: this machine cannot work.
pub const INTERNAL_ERROR: u8 = 69;
/// Exit code: stopped by request after finishing its tasks.
pub const WORKER_STOPPED: u8 = 71;
/// Exit code: told to go without finishing its tasks.
pub const WORKER_SHUTDOWN: u8 = 72;

/// What was configured.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Tasks at a time, 1–255.
    pub capacity: usize,
    /// End after this many tasks; none for no end.
    pub tasks_to_run: Option<u64>,
    /// End after this long without a task; none for never.
    pub idle_timeout: Option<Duration>,
    /// End after this long in which no call could be made or answered, while no task runs.
    pub give_up_after: Duration,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// Time passed; see [`Slots::next_wakeup`].
    Tick,
    /// A call brought this many tasks, of at most as many as were asked for.
    Claimed {
        /// Which call.
        call: u64,
        /// How many tasks came.
        tasks: usize,
    },
    /// A call failed, or was not made because the machine cannot take tasks now.
    NotClaimed {
        /// Which call.
        call: u64,
        /// When the service asked for a pause: how long.
        pause: Option<Duration>,
        /// A fresh random number in `0.0..1.0`.
        jitter: f64,
    },
    /// A run has ended and its slot is free.
    RunEnded,
    /// A run was told by its surroundings that this worker has to go.
    RunShutDown,
    /// A run left something behind that could not be removed: this machine takes no further tasks.
    Unfit,
    /// Take no more tasks and end when the running ones are done.
    Finish,
    /// Take no more tasks and end the running ones.
    Abort,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Call `claimWork`.
    Claim {
        /// Name of this call in its answer.
        call: u64,
        /// How many tasks to ask for, 1–32.
        tasks: usize,
    },
    /// Start this many of the tasks that just came; a service that gave more than was asked for gets the rest back.
    Start(usize),
    /// Hand the tasks that just came back, unstarted.
    HandBack,
    /// End the open calls now. Each is still answered, soon: with what it has brought already, or with nothing.
    BreakOff,
    /// End all running tasks as worker-shutdown. No call is open.
    AbortRuns,
    /// Say that the worker is idle, and for how long.
    SayIdle(Duration),
    /// Leave with this exit code. Nothing runs and no call is open.
    End(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Claiming,
    Idling,
    Leaving(u8),
    Ended,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    id: u64,
    tasks: usize,
    began: Instant,
}

/// The state of the claim loop.
#[derive(Debug)]
pub struct Slots {
    limits: Limits,
    mode: Mode,
    running: usize,
    started: u64,
    /// Open calls, oldest first; two at most.
    calls: Vec<Call>,
    next_call: u64,
    /// Slots that became free since the open call began.
    fresh: usize,
    /// Runs are to be ended once no call is open.
    abort_due: bool,
    /// No call before this time.
    not_before: Instant,
    failures: u32,
    failing_since: Option<Instant>,
    last_active: Instant,
    next_idle_line: Instant,
}

impl Slots {
    /// A worker that has just started.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            mode: Mode::Claiming,
            running: 0,
            started: 0,
            calls: Vec::with_capacity(2),
            next_call: 0,
            fresh: 0,
            abort_due: false,
            not_before: now,
            failures: 0,
            failing_since: None,
            last_active: now,
            next_idle_line: now + IDLE_LINE_EVERY,
        }
    }

    /// How many tasks run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// How many tasks have ended.
    pub fn resolved(&self) -> u64 {
        self.started - self.running as u64
    }

    /// How many more tasks will be run before the worker ends by itself; none for no end.
    pub fn left_to_resolve(&self) -> Option<u64> {
        self.limits.tasks_to_run.map(|n| n.saturating_sub(self.resolved()))
    }

    /// Whether no further task will be started.
    pub fn is_leaving(&self) -> bool {
        matches!(self.mode, Mode::Leaving(_) | Mode::Ended)
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub fn next_wakeup(&self) -> Option<Instant> {
        if matches!(self.mode, Mode::Leaving(_) | Mode::Ended) {
            return None;
        }
        let claim = (self.wanted() > 0).then_some(self.not_before);
        let idle = (self.running == 0).then_some(self.next_idle_line);
        let timeout = match (self.running, self.mode, self.limits.idle_timeout) {
            (0, Mode::Claiming, Some(timeout)) => Some(self.last_active + timeout),
            _ => None,
        };
        let give_up = match (self.running, self.failing_since) {
            (0, Some(since)) => Some(since + self.limits.give_up_after),
            _ => None,
        };
        [claim, idle, timeout, give_up].into_iter().flatten().min()
    }

    /// Takes an event in and says what to do, in order.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Tick => {}
            Event::Claimed { call, tasks } => self.on_claimed(call, tasks, now, &mut effects),
            Event::NotClaimed { call, pause, jitter } => self.on_not_claimed(call, pause, jitter, now),
            Event::RunEnded => {
                self.running = self.running.saturating_sub(1);
                self.fresh += 1;
                if self.running == 0 {
                    // A worker without a task begins to count only now.
                    self.failing_since = self.failing_since.map(|_| now);
                }
                self.last_active = now;
                self.next_idle_line = now + IDLE_LINE_EVERY;
            }
            Event::RunShutDown | Event::Abort => {
                if !self.calls.is_empty() {
                    effects.push(Effect::BreakOff);
                }
                self.abort_due = true;
                self.mode = Mode::Leaving(WORKER_SHUTDOWN);
            }
            Event::Unfit => {
                if !self.is_leaving() {
                    self.mode = Mode::Leaving(INTERNAL_ERROR);
                }
            }
            Event::Finish => {
                if !self.is_leaving() {
                    self.mode = Mode::Leaving(WORKER_STOPPED);
                }
            }
        }
        self.settle(now, &mut effects);
        effects
    }

    fn on_claimed(&mut self, call: u64, tasks: usize, now: Instant, effects: &mut Vec<Effect>) {
        let Some(call) = self.close(call) else { return };
        self.failures = 0;
        self.failing_since = None;
        if tasks == 0 {
            self.not_before = self.not_before.max(call.began + EMPTY_CALL_GAP);
            return;
        }
        self.not_before = now;
        if self.is_leaving() {
            effects.push(Effect::HandBack);
            return;
        }
        self.mode = Mode::Claiming;
        let tasks = tasks.min(call.tasks);
        self.running += tasks;
        self.started += tasks as u64;
        self.last_active = now;
        effects.push(Effect::Start(tasks));
    }

    fn on_not_claimed(&mut self, call: u64, pause: Option<Duration>, jitter: f64, now: Instant) {
        if self.close(call).is_none() {
            return;
        }
        let back_off = FIRST_BACK_OFF.saturating_mul(1 << self.failures.min(6)).min(LONGEST_BACK_OFF);
        // Between half and the whole of it, so that a fleet that lost its queue does not come back in step.
        let back_off = back_off.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        self.failures += 1;
        self.failing_since.get_or_insert(now);
        self.not_before = now + back_off.max(pause.unwrap_or_default().min(LONGEST_BACK_OFF * 10));
    }

    fn close(&mut self, id: u64) -> Option<Call> {
        let position = self.calls.iter().position(|c| c.id == id)?;
        Some(self.calls.remove(position))
    }

    /// How many tasks the next call would ask for.
    fn wanted(&self) -> usize {
        if self.mode != Mode::Claiming {
            return 0;
        }
        let asked: usize = self.calls.iter().map(|c| c.tasks).sum();
        let mut free = self.limits.capacity.saturating_sub(self.running + asked);
        if let Some(limit) = self.limits.tasks_to_run {
            let left = limit.saturating_sub(self.started + asked as u64);
            free = free.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        match self.calls.len() {
            0 => free.min(TASKS_PER_CALL),
            1 => free.min(self.fresh).min(TASKS_PER_CALL),
            _ => 0,
        }
    }

    /// Everything that follows from the state and the time.
    fn settle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.calls.is_empty() && std::mem::take(&mut self.abort_due) {
            effects.push(Effect::AbortRuns);
        }
        if self.mode == Mode::Claiming && self.limits.tasks_to_run.is_some_and(|n| self.resolved() >= n) {
            self.mode = Mode::Leaving(TASKS_COMPLETE);
        }
        if self.running == 0 && !self.is_leaving() {
            if self.failing_since.is_some_and(|since| now >= since + self.limits.give_up_after) {
                self.mode = Mode::Leaving(INTERNAL_ERROR);
            } else if self.limits.idle_timeout.is_some_and(|t| now >= self.last_active + t) {
                self.mode = Mode::Idling;
            }
        }
        if self.running == 0 && !self.is_leaving() && now >= self.next_idle_line {
            self.next_idle_line = now + IDLE_LINE_EVERY;
            effects.push(Effect::SayIdle(now - self.last_active));
        }
        if now >= self.not_before {
            let tasks = self.wanted();
            if tasks > 0 {
                let id = self.next_call;
                self.next_call += 1;
                self.fresh = 0;
                self.calls.push(Call { id, tasks, began: now });
                effects.push(Effect::Claim { call: id, tasks });
            }
        }
        if self.running == 0 && self.calls.is_empty() {
            let code = match self.mode {
                Mode::Idling => Some(IDLE_TIMEOUT),
                Mode::Leaving(code) => Some(code),
                Mode::Claiming | Mode::Ended => None,
            };
            if let Some(code) = code {
                self.mode = Mode::Ended;
                effects.push(Effect::End(code));
            }
        }
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
