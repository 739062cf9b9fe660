//! The loop: waits for what happens next, asks [`Slots`], and does what it says.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::{Id, JoinError, JoinSet},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    ControlInput, Ended, WorkerEvent,
    call::{Answer, NotAsked, ask},
    cancel::{self, Watched},
    control::Urgency,
    gate::{Closed, Gate, WhenDown},
    obstacle::Obstacle,
    place::Ready,
    prefetch::Prefetch,
    returning::Returning,
    slots::{self, Effect, Event, Limits, Slots},
};
use crate::{
    api::{Claim, CredentialsCell, Queue, Reason},
    config,
    log::format,
    observe::metrics::{self, event},
    run::{self, LeftBehind, RunEnd, context::Workshop, kill::KillSwitch, outcome::Blame, outcome::Kill, report::Told},
};

/// Longest wait at the end for tasks that are handed back: the usual length of a claim, after which the queue helps itself.
const HAND_BACK_BOUND: Duration = Duration::from_secs(1200);

/// A run as the loop knows it.
struct Running {
    task_id: String,
    run_id: u32,
    kill: KillSwitch,
    /// For the case that the run's own task panics.
    queue: Queue,
}

struct Loop {
    shop: Arc<Workshop>,
    queue: Queue,
    events: Option<mpsc::UnboundedSender<WorkerEvent>>,
    slots: Slots,
    calls: JoinSet<(u64, Answer)>,
    call_ids: HashMap<Id, u64>,
    /// Ends the open calls.
    broken_off: CancellationToken,
    runs: JoinSet<RunEnd>,
    running: HashMap<Id, Running>,
    returning: Returning,
    hand_backs: JoinSet<()>,
    watched: Watched,
    ready_said: bool,
    /// Whether nothing runs; images are brought ahead of need only then.
    idle: watch::Sender<bool>,
    gate: Arc<Gate>,
    obstacle: Obstacle,
}

/// Works until the end.
pub async fn drive(ready: Ready, mut input: ControlInput) -> Ended {
    let config = Arc::clone(&ready.shop.config);
    let limits = Limits {
        capacity: usize::from(config.capacity),
        tasks_to_run: (config.number_of_tasks_to_run > 0).then_some(u64::from(config.number_of_tasks_to_run)),
        idle_timeout: (config.idle_timeout_secs > 0).then(|| Duration::from_secs(u64::from(config.idle_timeout_secs))),
        give_up_after: Duration::from_secs(config.own.give_up_after_secs),
    };
    let docker = &config.own.docker;
    let when_down = WhenDown {
        native_only: docker.when_down == config::WhenDown::NativeOnly,
        give_up_after: Duration::from_secs(docker.give_up_after_secs),
    };
    let watched = Watched::default();
    let mut background = JoinSet::new();
    if config.own.cancel_poll_secs > 0 {
        let interval = Duration::from_secs(config.own.cancel_poll_secs);
        let (services, random) = (ready.shop.services.clone(), Arc::clone(&ready.shop.random));
        background.spawn(cancel::watch(services, watched.clone(), interval, random));
    }
    let (idle, watched_idle) = watch::channel(true);
    let _prefetch = Prefetch::start(Arc::clone(&ready.shop), config.own.docker.prefetch.clone(), watched_idle);
    let gate = Arc::new(Gate::new(Arc::clone(&ready.shop), when_down));
    background.spawn({
        let (gate, idle) = (Arc::clone(&gate), idle.subscribe());
        async move { gate.look_after(idle).await }
    });
    let mut work = Loop {
        idle,
        obstacle: Obstacle::new(&gate, ready.status_file),
        gate,
        shop: ready.shop,
        queue: ready.queue,
        events: ready.events,
        slots: Slots::new(limits, Instant::now()),
        calls: JoinSet::new(),
        call_ids: HashMap::new(),
        broken_off: CancellationToken::new(),
        runs: JoinSet::new(),
        running: HashMap::new(),
        returning: Returning::default(),
        hand_backs: JoinSet::new(),
        watched,
        ready_said: false,
    };
    let code = loop {
        let wakeup = work.next_wakeup();
        let (event, claims) = tokio::select! {
            biased; // Requests to go first, then what frees slots, then what fills them, then what is only shown, then time.
            urgency = input.changed() => (on_urgency(urgency), Vec::new()),
            Some(ended) = work.runs.join_next_with_id() => (work.on_run_end(ended), Vec::new()),
            Some(answer) = work.calls.join_next_with_id() => work.on_answer(answer),
            () = work.obstacle.trouble_changed() => work.on_trouble(),
            () = sleep_until(wakeup) => (Event::Tick, Vec::new()),
        };
        if let Some(code) = work.perform(event, claims) {
            break code;
        }
    };
    let handed_back = async { while work.hand_backs.join_next().await.is_some() {} };
    if timeout(HAND_BACK_BOUND, handed_back).await.is_err() {
        warn!("Some tasks could not be handed back; the queue will give them to other workers when their claims end");
    }
    Ended { code, resolved: work.slots.resolved() }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

fn on_urgency(urgency: Urgency) -> Event {
    match urgency {
        Urgency::Stay => Event::Tick,
        Urgency::Finish => {
            info!("Told to go once the running tasks are done");
            Event::Finish
        }
        Urgency::Abort => {
            info!("Told to go now");
            Event::Abort
        }
    }
}

impl Loop {
    /// Feeds an event to the state and does what follows. Returns the exit code at the end.
    fn perform(&mut self, event: Event, mut claims: Vec<Claim>) -> Option<u8> {
        let mut end = None;
        for effect in self.slots.on(event, Instant::now()) {
            match effect {
                Effect::Claim { call, tasks } => self.claim(call, tasks),
                Effect::Start(tasks) => {
                    for claim in claims.drain(..tasks.min(claims.len())) {
                        self.start(claim);
                    }
                }
                Effect::HandBack => self.returning.keep(&mut claims, Instant::now()),
                Effect::BreakOff => self.broken_off.cancel(),
                Effect::AbortRuns => {
                    for running in self.running.values() {
                        running.kill.kill(Kill::new(tc_engine::StopReason::WorkerShutdown));
                    }
                }
                Effect::SayIdle(idle) => info!("No task claimed. Idle for {}", format::go_duration(idle)),
                Effect::End(code) => {
                    if code == slots::INTERNAL_ERROR
                        && let Some(why) = self.obstacle.unreported()
                    {
                        error!("This worker has waited long enough, and ends: {why}");
                        self.last_words(&why);
                    }
                    end = Some(code);
                }
            }
        }
        // A service that gives more than was asked for would lose what is left here; it goes back, too.
        self.returning.keep(&mut claims, Instant::now());
        let free = !self.slots.is_leaving() || self.calls.is_empty();
        for claim in self.returning.due(free, Instant::now()) {
            self.hand_back(claim);
        }
        end
    }

    /// When something has to happen at the latest.
    fn next_wakeup(&self) -> Option<Instant> {
        self.slots.next_wakeup().into_iter().chain(self.returning.next_wakeup()).min()
    }

    fn claim(&mut self, call: u64, tasks: usize) {
        let config = &self.shop.config;
        if !self.ready_said {
            self.ready_said = true;
            metrics::emit(config, event::WORKER_READY, self.shop.clock.wall(), None);
        }
        let (shop, gate, queue) = (Arc::clone(&self.shop), Arc::clone(&self.gate), self.queue.clone());
        // `Slots` asks for at most 32.
        let tasks = u8::try_from(tasks).unwrap_or(u8::MAX);
        let broken_off = self.broken_off.clone();
        let handle = self.calls.spawn(async move { (call, ask(&shop, &gate, &queue, tasks, &broken_off).await) });
        self.call_ids.insert(handle.id(), call);
    }

    fn on_answer(&mut self, answer: Result<(Id, (u64, Answer)), JoinError>) -> (Event, Vec<Claim>) {
        let jitter = self.shop.random.fraction();
        match answer {
            Ok((id, (call, answer))) => {
                self.call_ids.remove(&id);
                if !matches!(&answer, Err(NotAsked { machine: Some(_), .. })) && self.obstacle.clear() {
                    self.write_status();
                }
                match answer {
                    Ok(claims) => (Event::Claimed { call, tasks: claims.len() }, claims),
                    Err(NotAsked { why, machine, pause }) => {
                        // A worker that goes does not mind a queue that goes, too.
                        if let Some(closed) = machine {
                            error!("{why}");
                            self.on_closed(closed);
                        } else if !self.slots.is_leaving() {
                            warn!("{why}");
                        }
                        (Event::NotClaimed { call, pause, jitter }, Vec::new())
                    }
                }
            }
            Err(panic) => {
                error!("A call for work failed inside the worker: {panic}");
                let call = self.call_ids.remove(&panic.id()).unwrap_or(u64::MAX);
                (Event::NotClaimed { call, pause: None, jitter }, Vec::new())
            }
        }
    }

    /// Shows why nothing is claimed, and ends the worker if that cannot be waited for any longer.
    fn on_closed(&mut self, closed: Closed) {
        if closed.hopeless {
            error!("This worker has waited long enough, and ends: {}", closed.why);
            self.last_words(&closed.why);
            // Nothing but the end of claims can follow from this; runs that go on are waited for.
            drop(self.slots.on(Event::Unfit, Instant::now()));
        }
        self.obstacle.note(closed.why);
        self.write_status();
    }

    /// Tells the pool's owners that this worker cannot work. Nothing waits for it for long, and nothing depends on it.
    fn last_words(&mut self, why: &str) {
        self.hand_backs.spawn(self.obstacle.report(&self.shop, self.queue.credentials().clone(), why));
    }

    fn start(&mut self, claim: Claim) {
        let (task_id, run_id) = (claim.task_id.clone(), claim.run_id);
        info!("Claimed task {task_id} run {run_id}");
        let config = &self.shop.config;
        let run = Some((task_id.as_str(), run_id));
        metrics::emit(config, event::TASK_QUEUED, claim.task.created, run);
        metrics::emit(config, event::TASK_START, self.shop.clock.wall(), run);
        let kill = KillSwitch::default();
        // Shared with the run, so that they are the newest also when somebody else has to speak for it.
        let credentials = CredentialsCell::new(claim.credentials.clone());
        let queue = self.shop.services.queue(credentials.clone());
        self.gate.began(&task_id, run_id);
        self.watched.add(&task_id, run_id, kill.clone());
        let follow = {
            let (events, task_id) = (self.events.clone(), task_id.clone());
            move |log| {
                if let Some(events) = events {
                    // Nobody listens any more: then nobody misses it.
                    drop(events.send(WorkerEvent::RunStarted { task_id, run_id, log }));
                }
            }
        };
        let handle = self.runs.spawn(run::execute(Arc::clone(&self.shop), claim, credentials, kill.clone(), follow));
        self.running.insert(handle.id(), Running { task_id, run_id, kill, queue });
        self.idle.send_replace(false);
        self.write_status();
    }

    fn on_trouble(&self) -> (Event, Vec<Claim>) {
        self.write_status();
        (Event::Tick, Vec::new())
    }

    fn hand_back(&mut self, claim: Claim) {
        info!("Handing task {} run {} back unstarted", claim.task_id, claim.run_id);
        let queue = self.shop.services.queue(CredentialsCell::new(claim.credentials));
        let (task_id, run_id) = (claim.task_id, claim.run_id);
        self.hand_backs.spawn(async move {
            run::tell_without_log(&queue, &task_id, run_id, Reason::WorkerShutdown).await;
        });
    }

    fn on_run_end(&mut self, ended: Result<(Id, RunEnd), JoinError>) -> Event {
        let (id, end) = match ended {
            Ok((id, end)) => (id, Some(end)),
            Err(panic) => {
                error!("A run failed inside the worker: {panic}");
                (panic.id(), None)
            }
        };
        let Some(running) = self.running.remove(&id) else { return Event::Tick };
        let Running { task_id, run_id, queue, .. } = running;
        self.watched.remove(&task_id, run_id);
        self.gate.ended(&task_id, run_id);
        self.idle.send_replace(self.running.is_empty());
        metrics::emit(&self.shop.config, event::TASK_FINISH, self.shop.clock.wall(), Some((&task_id, run_id)));
        let end = end.unwrap_or_else(|| {
            // Nobody else can tell the queue any more, or clean up.
            let (task_id, gate) = (task_id.clone(), Arc::clone(&self.gate));
            gate.sweep_first();
            self.hand_backs.spawn(async move {
                run::tell_without_log(&queue, &task_id, run_id, Reason::InternalError).await;
                gate.sweep_native().await;
            });
            RunEnd {
                told: Told::Resolved(crate::api::Resolution::Exception(Reason::InternalError)),
                blame: Some(Blame::Worker),
                why: Some("the worker failed while it ran this task".to_owned()),
                left_behind: None,
                took: Duration::ZERO,
                phases: Vec::new(),
            }
        });
        info!(
            "Task {task_id} run {run_id}: {}{}",
            end.outcome(),
            end.why.as_ref().map_or(String::new(), |w| format!(" ({})", format::one_line(w)))
        );
        self.after_run();
        if let Some(LeftBehind { what, sweepable: true }) = &end.left_behind {
            warn!("Task {task_id} run {run_id} left something behind, which is removed before the next one: {what}");
            self.gate.sweep_first();
        } else if let Some(LeftBehind { what, .. }) = &end.left_behind {
            error!("This machine takes no further tasks: {what}");
            // The run still holds its slot, so nothing can follow from this but that no more is claimed.
            drop(self.slots.on(Event::Unfit, Instant::now()));
        }
        if let Some(events) = &self.events {
            let outcome = end.outcome().to_owned();
            let RunEnd { why, took, phases, .. } = end;
            // Nobody listens any more: then nobody misses it.
            drop(events.send(WorkerEvent::RunEnded { task_id, run_id, outcome, why, took, phases }));
        }
        Event::RunEnded
    }

    fn after_run(&self) {
        let resolved = self.slots.resolved() + 1;
        let left = self.slots.left_to_resolve().map(|left| left.saturating_sub(1)).filter(|left| *left > 0);
        let left = left.map_or(String::new(), |left| format!(" (will exit after resolving {left} more)"));
        info!("Resolved {resolved} tasks in total so far{left}.");
        self.write_status();
    }

    fn write_status(&self) {
        let task_ids = self.running.values().map(|running| running.task_id.clone()).collect();
        self.obstacle.write_status(&self.shop, &task_ids);
    }
}
