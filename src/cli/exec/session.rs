//! One session: tasks go to the queue and through the worker, from the first to the last.
//!
//! ```text
//! open ─▶ work: what happens next ─▶ board ─▶ reporter
//!           │
//!           ├─ all are over ───────────────────────────┐
//!           └─ told to go, and nothing runs any more ──┴─▶ close: worker, queue, what is left to write and to save
//! ```
//!
//! How tasks stand is decided by the [board](super::board), which is pure; what is seen of it by a [view](super::view).

use std::{collections::HashMap, time::Duration};

use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    board::{Board, Card},
    create::{self, Created, Order},
    prepare::Ready,
    reporter::{Progress, Reporter},
    setting::Listener,
    stage::Stage,
    summary::{EXCEPTION, Outcome, Row},
    task_queue,
    trace::EndedRun,
    view::View,
};
use tc_payload::is_container_payload;

use crate::{
    api::{ApiError, TaskStatus},
    cli::{args::ExecArgs, problems::Failure, signals::Asked},
    worker::{Ended, WorkerEvent},
};

/// How often something that has no event of its own is looked at, and the least time between two pictures of a live table.
const TICK: Duration = Duration::from_millis(100);
/// How many ticks lie between two questions about every task, for what ends without a run at a time that only the queue knows:
/// deadlines.
const TICKS_PER_LOOK: u32 = 100;
/// The same while somebody waits for the end.
const TICKS_PER_LAST_LOOK: u32 = 3;
/// Tasks of one status call.
const AT_ONCE: usize = 500;

/// Tasks, what they run on, and what leaves it.
pub struct Session {
    board: Board,
    stage: Stage,
    created: mpsc::Receiver<Created>,
    reporter: Reporter,
    /// Tasks whose runs have ended, and of which the queue did not know that yet.
    ask_later: Vec<String>,
    stopping: bool,
    trouble: bool,
}

/// How a session ended.
pub struct Closed {
    /// A row for each task, in the order in which they ended.
    pub rows: Vec<Row>,
    /// The exit code of what went wrong and counts beside the rows; 0 if nothing did.
    pub trouble: u8,
    /// Somebody wanted to stop.
    pub told: Option<Asked>,
}

/// What can happen.
enum Happening {
    Told,
    Created(Created),
    Worker(WorkerEvent),
    Progress(Progress),
    WorkerEnded(Option<Ended>),
    Tick,
}

impl Session {
    /// Starts everything and begins to create the tasks.
    pub async fn open(arguments: &ExecArgs, ready: Vec<Ready>, listener: Listener, view: View) -> Result<Self, Failure> {
        let is_container = |definition: &Value| is_container_payload(&definition["payload"]);
        let containers = ready.iter().filter(|ready| is_container(&ready.defined.definition)).count();
        let stage = Stage::open(arguments, ready.len(), containers, listener).await?;
        let (cards, mut orders) = cards(ready);
        let mut board = Board::new(cards);
        let no_containers = stage.no_containers.clone();
        let left_out = if no_containers.is_some() { orders.as_slice() } else { &[] }.iter();
        let left_out = left_out.filter(|order| is_container(&order.definition));
        let over: Vec<usize> =
            left_out.flat_map(|order| board.leave_out(order.at, "there is no engine for containers")).collect();
        orders.retain(|order| board.cards()[order.at].end.is_none());
        let mut session = Self {
            board,
            created: create::begin(stage.queue.clone(), orders),
            stage,
            reporter: Reporter::new(view.show, view.output, arguments.artifacts.clone(), view.trace),
            ask_later: Vec::new(),
            stopping: false,
            trouble: no_containers.is_some(),
        };
        if let Some(failure) = no_containers {
            session.reporter.say(&failure.text());
        }
        session.on_over(&over);
        Ok(session)
    }

    /// Waits until every task is over, or until somebody wants to stop and nothing runs any more.
    pub async fn work(&mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0_u32;
        while !self.board.is_over() {
            match self.next(&mut ticks).await {
                Happening::Told => self.on_told(),
                Happening::Created((at, Ok(()))) => self.on_created(at),
                Happening::Created((at, Err(error))) => self.on_refusal(at, &error),
                Happening::Worker(event) => self.on_event(event),
                Happening::Progress(progress) => self.reporter.on(&self.board, progress),
                Happening::WorkerEnded(ended) => {
                    self.on_early_end(ended);
                    return;
                }
                Happening::Tick => {
                    count = count.wrapping_add(1);
                    if self.on_tick(count).await {
                        return;
                    }
                }
            }
            let questions = self.board.take_questions();
            self.look(questions).await;
        }
    }

    /// Waits for what happens next. Cancel safe, as all of its parts are.
    async fn next(&mut self, ticks: &mut Interval) -> Happening {
        tokio::select! {
            biased; // Whoever wants to stop comes first; then what happened, in the order of its way; time last.
            () = self.stage.told.asked(), if !self.stopping => Happening::Told,
            Some(created) = self.created.recv() => Happening::Created(created),
            Some(event) = self.stage.events.recv() => Happening::Worker(event),
            progress = self.reporter.next() => Happening::Progress(progress),
            ended = &mut self.stage.worker => Happening::WorkerEnded(ended.ok()),
            _ = ticks.tick() => Happening::Tick,
        }
    }

    fn on_told(&mut self) {
        self.stopping = true;
        self.reporter.say("Ending the tasks and cleaning up; a second time ends at once");
        // What is not created yet is not wanted any more.
        self.created.close();
        self.stage.control.abort();
    }

    fn on_created(&mut self, at: usize) {
        if self.board.created(at) {
            self.reporter.shown(|show, out| show.created(&self.board, at, out));
        }
    }

    fn on_refusal(&mut self, at: usize, error: &ApiError) {
        let name = &self.board.cards()[at].name;
        let failure = Failure::new(EXCEPTION, format!("{name}: the queue does not take this task")).because(error);
        self.reporter.say(&failure.text());
        let over = self.board.refuse(at, "refused by the queue");
        self.on_over(&over);
    }

    fn on_event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::RunStarted { task_id, run_id, log } => {
                if let Some(at) = self.board.begin(&task_id, run_id) {
                    // The queue's answer may come later than its task to the worker.
                    self.on_created(at);
                    self.reporter.begun(&self.board, at, run_id, log);
                }
            }
            WorkerEvent::RunEnded { task_id, run_id, outcome, why, took, phases } => {
                if let Some(at) = self.board.run_ended(&task_id, run_id, why, took) {
                    self.reporter.run_ended(&self.board, at, &EndedRun { run_id, outcome, took, phases });
                }
            }
        }
    }

    fn on_early_end(&mut self, ended: Option<Ended>) {
        if self.stopping {
            return;
        }
        self.trouble = true;
        let code = ended.map_or_else(|| "a failure inside of it".to_owned(), |ended| format!("exit code {}", ended.code));
        let failure = Failure::new(EXCEPTION, format!("the worker has ended before all tasks were run, with {code}"));
        self.reporter.say(&failure.text());
    }

    /// Returns whether nothing runs any more although somebody waits for the end.
    async fn on_tick(&mut self, count: u32) -> bool {
        for id in std::mem::take(&mut self.ask_later) {
            self.board.ask_again(&id);
        }
        self.board.ask_about_due();
        self.reporter.shown(|show, out| show.tick(&self.board, out));
        let look = if self.stopping { TICKS_PER_LAST_LOOK } else { TICKS_PER_LOOK };
        if !count.is_multiple_of(look) {
            return false;
        }
        let running = self.look(self.board.open_ids()).await;
        self.stopping && running == Some(0) && self.board.running() == 0
    }

    /// Asks the queue about these tasks. Returns how many of them run, if the queue could say.
    async fn look(&mut self, ids: Vec<String>) -> Option<usize> {
        let mut running = 0;
        for ids in ids.chunks(AT_ONCE) {
            let statuses = match self.stage.queue.statuses(ids).await {
                Ok(statuses) => statuses,
                Err(error) => {
                    tracing::warn!("Could not ask the embedded queue how its tasks are. {error}");
                    self.ask_later.extend_from_slice(ids);
                    return None;
                }
            };
            for status in statuses {
                if let Some(outcome) = outcome(&status) {
                    let over = self.board.resolve(&status.task_id, &outcome);
                    self.on_over(&over);
                } else if status.state == "running" {
                    running += 1;
                    // A run that its worker has given up is resolved a moment later.
                    if !self.board.runs_now(&status.task_id) {
                        self.ask_later.push(status.task_id);
                    }
                }
            }
        }
        Some(running)
    }

    fn on_over(&mut self, over: &[usize]) {
        for at in over {
            let published = self.stage.server.published(&self.board.cards()[*at].id);
            self.reporter.over(&self.board, *at, published);
        }
    }

    /// Ends the worker and the queue, saves artifacts, writes what is left to write.
    pub async fn close(mut self) -> Closed {
        self.trouble |= self.stage.wind_down().await;
        while let Ok(event) = self.stage.events.try_recv() {
            self.on_event(event);
        }
        let left = match self.stage.told.so_far() {
            Some(_) => Outcome::Stopped,
            None => Outcome::Exception("unresolved".to_owned()),
        };
        let over = self.board.give_up(&left);
        self.on_over(&over);
        let (rows, trouble) = self.reporter.close(&self.board, self.stage.told.clone()).await;
        let trouble = trouble.max(if self.trouble { EXCEPTION } else { 0 });
        Closed { rows, trouble, told: self.stage.told.so_far() }
    }
}

/// Cards for the board, and what the queue gets, both in the order in which the queue gets it.
fn cards(ready: Vec<Ready>) -> (Vec<Card>, Vec<Order>) {
    let places: HashMap<usize, usize> = ready.iter().enumerate().map(|(at, ready)| (ready.number, at)).collect();
    let each = ready.into_iter().enumerate().map(|(at, ready)| {
        let Ready { id, waits_for, called, defined, .. } = ready;
        let waits_for: Vec<usize> = waits_for.iter().filter_map(|on| places.get(on).copied()).collect();
        let card = Card {
            id: id.clone(),
            name: called.name,
            folder: called.folder.unwrap_or_else(|| id.clone()),
            waits_for: waits_for.clone(),
            whatever_comes: defined.definition["requires"] == "all-resolved",
            by_queue: task_queue::built_in(&defined.definition).is_some(),
            lost_with: None,
            end: None,
            why: None,
            took: None,
            runs: 0,
        };
        (card, Order { at, id, waits_for, definition: defined.definition })
    });
    each.unzip()
}

/// How a task has ended, if it has.
fn outcome(status: &TaskStatus) -> Option<Outcome> {
    match status.state.as_str() {
        "completed" => Some(Outcome::Completed),
        "failed" => Some(Outcome::Failed),
        "exception" => {
            let reason = status.runs.last().and_then(|run| run.reason_resolved.clone());
            Some(Outcome::Exception(reason.unwrap_or_else(|| "exception".to_owned())))
        }
        _ => None,
    }
}
