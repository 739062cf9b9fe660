//! The same queue once more, slow and obvious: a list of tasks through which everything looks from its beginning to its end.
//!
//! It shares no code with the state machine, not even its types. Dates are seconds, tasks, queues, groups and workers are numbers, and answers are
//! texts to be compared.

mod asked;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

pub(super) const PATIENCE: i64 = 10;
const MOST_RUNS: usize = 50;

/// What a task is created with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    pub(super) task: usize,
    pub(super) queue: usize,
    pub(super) group: usize,
    pub(super) scheduler: usize,
    /// 0 is the most urgent.
    pub(super) priority: usize,
    pub(super) retries: usize,
    pub(super) deadline: i64,
    pub(super) expires: i64,
    pub(super) on: Vec<usize>,
    pub(super) all_resolved: bool,
}

#[derive(Debug, Clone)]
struct Held {
    worker: usize,
    started: i64,
    until: i64,
    claim: usize,
}

#[derive(Debug, Clone)]
struct Run {
    state: &'static str,
    created: &'static str,
    scheduled: i64,
    held: Option<Held>,
    resolved: Option<(&'static str, i64)>,
}

#[derive(Debug, Clone)]
struct Task {
    spec: Spec,
    priority: usize,
    retries_left: usize,
    runs: Vec<Run>,
    turn: usize,
    /// Dependencies that it waits for.
    waits_for: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub(super) task: usize,
    pub(super) run: usize,
    pub(super) until: i64,
    claim: usize,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    tasks: Vec<Task>,
    /// Ticket, queue, worker, count.
    line: Vec<(usize, usize, usize, usize)>,
    sealed: BTreeMap<usize, i64>,
    seen: BTreeSet<(usize, usize)>,
    quarantine: BTreeMap<(usize, usize), i64>,
    turns: usize,
    claims: usize,
    tickets: usize,
    pub(super) granted: Vec<(usize, Vec<Claimed>)>,
}

impl Task {
    fn is_open(&self) -> bool {
        self.runs.last().is_none_or(|run| ["pending", "running"].contains(&run.state))
    }

    fn is(&self, state: &str) -> bool {
        self.runs.last().is_some_and(|run| run.state == state)
    }

    fn satisfies(&self, all_resolved: bool) -> bool {
        if all_resolved { !self.is_open() } else { self.is("completed") }
    }

    fn show(&self) -> String {
        let mut text = format!("{} p{} r{}", self.spec.task, self.priority, self.retries_left);
        for run in &self.runs {
            let held = run.held.as_ref().map(|held| (held.worker, held.started, held.until));
            write!(text, " [{} {} {} {held:?} {:?}]", run.state, run.created, run.scheduled, run.resolved).expect("written");
        }
        text
    }
}

impl Model {
    fn find(&self, task: usize) -> Option<usize> {
        self.tasks.iter().position(|known| known.spec.task == task)
    }

    fn at(&self, task: usize) -> Result<usize, String> {
        self.find(task).ok_or_else(|| "not found".to_owned())
    }

    pub(super) fn advance(&mut self, now: i64) {
        while let Some((_, task, what)) = self.next().filter(|(when, ..)| *when <= now) {
            let at = self.find(task).expect("it is due");
            match what {
                0 => self.end_run(now, at, "exception", "claim-expired", Some("retry")),
                1 => self.end_task(now, at, "deadline-exceeded"),
                _ => {
                    let group = self.tasks.remove(at).spec.group;
                    if self.tasks.iter().all(|other| other.spec.group != group) {
                        self.sealed.remove(&group);
                    }
                }
            }
        }
        self.serve(now);
    }

    /// What happens next: when, to which task, and what of it first if it is the same second.
    pub(super) fn next(&self) -> Option<(i64, usize, u8)> {
        let mut due = Vec::new();
        for task in &self.tasks {
            let id = task.spec.task;
            if let Some(held) = task.runs.last().filter(|run| run.state == "running").and_then(|run| run.held.as_ref()) {
                due.push((held.until, id, 0));
            }
            if task.is_open() {
                due.push((task.spec.deadline, id, 1));
            }
            due.push((task.spec.expires, id, 2));
        }
        due.into_iter().min()
    }

    fn add_run(&mut self, now: i64, at: usize, created: &'static str) {
        self.turns += 1;
        self.tasks[at].turn = self.turns;
        self.tasks[at].runs.push(Run { state: "pending", created, scheduled: now, held: None, resolved: None });
    }

    fn end_run(&mut self, now: i64, at: usize, state: &'static str, why: &'static str, retry: Option<&'static str>) {
        let task = &mut self.tasks[at];
        let run = task.runs.last_mut().expect("a run");
        run.state = state;
        run.resolved = Some((why, now));
        match retry {
            Some(created) if task.retries_left > 0 => {
                task.retries_left -= 1;
                self.add_run(now, at, created);
            }
            _ => self.release(now, at),
        }
    }

    fn close(&mut self, now: i64, at: usize, why: &'static str) {
        let task = &mut self.tasks[at];
        if task.runs.is_empty() {
            task.runs.push(Run { state: "", created: "exception", scheduled: now, held: None, resolved: None });
        }
        let run = task.runs.last_mut().expect("a run");
        run.state = "exception";
        run.resolved = Some((why, now));
    }

    fn end_task(&mut self, now: i64, at: usize, why: &'static str) {
        self.close(now, at, why);
        self.release(now, at);
    }

    fn release(&mut self, now: i64, at: usize) {
        let id = self.tasks[at].spec.task;
        let mut others: Vec<usize> = (0..self.tasks.len()).collect();
        others.sort_by_key(|other| self.tasks[*other].spec.task);
        for other in others {
            let satisfied = self.tasks[at].satisfies(self.tasks[other].spec.all_resolved);
            let task = &mut self.tasks[other];
            if satisfied && task.waits_for.contains(&id) {
                task.waits_for.retain(|on| *on != id);
                if task.waits_for.is_empty() && task.runs.is_empty() {
                    self.add_run(now, other, "scheduled");
                }
            }
        }
    }

    /// Tasks of a queue in this state, in the order of their places.
    pub(super) fn lane(&self, queue: usize, state: &str) -> Vec<usize> {
        let mut found: Vec<_> = self.tasks.iter().filter(|task| task.spec.queue == queue && task.is(state)).collect();
        found.sort_by_key(|task| (task.priority, task.turn));
        found.iter().map(|task| task.spec.task).collect()
    }

    fn start(&mut self, now: i64, queue: usize, worker: usize, count: usize) -> Vec<Claimed> {
        let tasks: Vec<usize> = self.lane(queue, "pending").into_iter().take(count).collect();
        tasks.into_iter().map(|task| self.start_one(now, task, worker)).collect()
    }

    fn start_one(&mut self, now: i64, task: usize, worker: usize) -> Claimed {
        self.claims += 1;
        let at = self.find(task).expect("a task");
        let (runs, until) = (&mut self.tasks[at].runs, now + PATIENCE);
        let run = runs.len() - 1;
        runs[run].state = "running";
        runs[run].held = Some(Held { worker, started: now, until, claim: self.claims });
        Claimed { task, run, until, claim: self.claims }
    }

    fn is_quarantined(&self, now: i64, queue: usize, worker: usize) -> bool {
        self.quarantine.get(&(queue, worker)).is_some_and(|until| *until > now)
    }

    fn serve(&mut self, now: i64) {
        while let Some(first) = self.line.iter().position(|(_, queue, ..)| !self.lane(*queue, "pending").is_empty()) {
            let (ticket, queue, worker, count) = self.line.remove(first);
            if !self.is_quarantined(now, queue, worker) {
                let claims = self.start(now, queue, worker, count);
                self.granted.push((ticket, claims));
            }
        }
    }

    pub(super) fn create(&mut self, now: i64, spec: &Spec) -> Result<String, String> {
        self.advance(now);
        if let Some(at) = self.find(spec.task) {
            return if self.tasks[at].spec == *spec { Ok(self.tasks[at].show()) } else { Err("conflict".into()) };
        }
        let fellow = self.tasks.iter().find(|other| other.spec.group == spec.group);
        if fellow.is_some_and(|other| other.spec.scheduler != spec.scheduler) || self.sealed.contains_key(&spec.group) {
            return Err("conflict".into());
        }
        let mut waits_for = Vec::new();
        for on in &spec.on {
            let other = self.find(*on).map(|at| &self.tasks[at]);
            if *on != spec.task && other.is_none_or(|other| other.spec.expires < spec.deadline) {
                return Err("input".into());
            }
            if other.is_none_or(|other| !other.satisfies(spec.all_resolved)) {
                waits_for.push(*on);
            }
        }
        let at_once = waits_for.is_empty();
        let (priority, retries_left) = (spec.priority, spec.retries);
        self.tasks.push(Task { spec: spec.clone(), priority, retries_left, runs: Vec::new(), turn: 0, waits_for });
        if at_once {
            self.add_run(now, self.tasks.len() - 1, "scheduled");
        }
        // As it was created, before a worker gets it.
        let shown = self.tasks[self.tasks.len() - 1].show();
        self.serve(now);
        Ok(shown)
    }

    pub(super) fn claim(&mut self, now: i64, queue: usize, worker: usize, count: usize) -> Vec<Claimed> {
        self.advance(now);
        self.seen.insert((queue, worker));
        if self.is_quarantined(now, queue, worker) { Vec::new() } else { self.start(now, queue, worker, count) }
    }

    pub(super) fn claim_run(&mut self, now: i64, task: usize, run: usize, worker: usize) -> Result<Claimed, String> {
        self.advance(now);
        let at = self.at(task)?;
        let state = self.tasks[at].runs.get(run).map(|run| run.state).ok_or("not found")?;
        if state != "pending" {
            return Err("conflict".into());
        }
        self.seen.insert((self.tasks[at].spec.queue, worker));
        Ok(self.start_one(now, task, worker))
    }

    pub(super) fn wait(&mut self, now: i64, queue: usize, worker: usize, count: usize) {
        self.advance(now);
        self.seen.insert((queue, worker));
        if !self.is_quarantined(now, queue, worker) {
            self.line.push((self.tickets, queue, worker, count));
        }
        self.tickets += 1;
        self.serve(now);
    }

    pub(super) fn leave(&mut self, ticket: usize) {
        self.line.retain(|(other, ..)| *other != ticket);
    }

    pub(super) fn give_back(&mut self, now: i64, claimed: &Claimed) {
        self.advance(now);
        let Some(at) = self.find(claimed.task) else { return };
        let runs = &mut self.tasks[at].runs;
        let is_last = claimed.run + 1 == runs.len();
        let Some(run) = runs.last_mut().filter(|run| is_last && run.state == "running") else { return };
        if run.held.as_ref().is_some_and(|held| held.claim == claimed.claim && held.until == claimed.until) {
            run.state = "pending";
            run.held = None;
            self.serve(now);
        }
    }

    /// Where the task is, if this run is its last and running.
    fn running(&self, task: usize, run: usize) -> Result<usize, String> {
        let at = self.at(task)?;
        let runs = &self.tasks[at].runs;
        let state = runs.get(run).map(|run| run.state).ok_or("not found")?;
        if state == "running" && run + 1 == runs.len() { Ok(at) } else { Err("conflict".into()) }
    }

    pub(super) fn reclaim(&mut self, now: i64, task: usize, run: usize) -> Result<i64, String> {
        self.advance(now);
        let at = self.running(task, run)?;
        let held = self.tasks[at].runs[run].held.as_mut().expect("held");
        held.until = held.until.max(now + PATIENCE);
        let (worker, until) = (held.worker, held.until);
        self.seen.insert((self.tasks[at].spec.queue, worker));
        Ok(until)
    }

    pub(super) fn lapse(&mut self, now: i64, task: usize, run: usize) -> Result<(), String> {
        self.advance(now);
        let at = self.running(task, run)?;
        self.end_run(now, at, "exception", "claim-expired", Some("retry"));
        self.serve(now);
        Ok(())
    }

    pub(super) fn report(
        &mut self,
        now: i64,
        task: usize,
        run: usize,
        state: &'static str,
        why: &'static str,
    ) -> Result<String, String> {
        self.advance(now);
        let running = self.running(task, run);
        if let Ok(at) = running {
            let retry = match why {
                "worker-shutdown" => Some("retry"),
                "intermittent-task" => Some("task-retry"),
                _ => None,
            };
            self.end_run(now, at, state, why, retry);
            self.serve(now);
            return self.show(task);
        }
        let at = self.at(task)?;
        let runs = &self.tasks[at].runs;
        let follow = runs.len() - runs.get(run).map(|_| run + 1).ok_or("not found")?;
        let same = runs[run].resolved.is_some_and(|(before, _)| before == why) && runs[run].state == state;
        if same && (follow == 0 || follow == 1 && state == "exception") {
            Ok(self.tasks[at].show())
        } else {
            running.map(|_| String::new())
        }
    }
}
