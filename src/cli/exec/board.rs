//! The board: how each task of a session stands. Pure: events in, what has changed out.
//!
//! ```text
//!            ┌──────── a run of it was given up ───────┐
//!            ▼                                         │
//! created ─▶ waiting ──begin──▶ running ──run_ended──▶ asked for ──resolve──▶ over
//!            │                                                                 ▲
//!            └── refused by the queue, or something that it waits for is lost ─┘
//! ```
//!
//! A task is over when the queue says so, since only the queue knows whether a lost run is repeated. What waits for a task that
//! did not end as it has to is over at that moment, too, through any number of tasks in between.
//!
//! A task that the queue resolves itself has no run here that could tell of its end. It is due when the queue has it and
//! everything that it waits for is over: from then on the queue is asked until it has ended.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use super::summary::{self, Outcome};

/// One task of the session.
#[derive(Debug, Clone)]
pub struct Card {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// The directory of its artifacts.
    pub folder: String,
    /// The cards that it waits for, by their place on the board.
    pub waits_for: Vec<usize>,
    /// It is begun also if they fail.
    pub whatever_comes: bool,
    /// The queue ends it itself, without a run here.
    pub by_queue: bool,
    /// The task whose end was the end of this one, which was not begun yet.
    pub lost_with: Option<usize>,
    /// How it ended.
    pub end: Option<Outcome>,
    /// Why, unless it completed.
    pub why: Option<String>,
    /// How long its last run took.
    pub took: Option<Duration>,
    /// How many runs of it have begun.
    pub runs: u32,
}

/// All tasks.
#[derive(Debug, Default)]
pub struct Board {
    cards: Vec<Card>,
    by_id: HashMap<String, usize>,
    dependents: Vec<Vec<usize>>,
    /// Runs that have begun and not ended.
    open_runs: HashSet<(usize, u32)>,
    /// Tasks whose run has ended, and about which the queue has not been asked since.
    to_ask: Vec<usize>,
    /// Tasks that the queue resolves itself, and may have by now.
    due: BTreeSet<usize>,
    not_over: usize,
    /// What is over, in the order in which it ended; causes before what they caused.
    over: Vec<usize>,
    /// Whether the queue is known to have the task.
    created: Vec<bool>,
}

impl Board {
    /// A board with these cards.
    pub fn new(cards: Vec<Card>) -> Self {
        let by_id = cards.iter().enumerate().map(|(at, card)| (card.id.clone(), at)).collect();
        let mut dependents = vec![Vec::new(); cards.len()];
        for (at, card) in cards.iter().enumerate() {
            for on in &card.waits_for {
                if let Some(dependents) = dependents.get_mut(*on) {
                    dependents.push(at);
                }
            }
        }
        let not_over = cards.iter().filter(|card| card.end.is_none()).count();
        let created = vec![false; cards.len()];
        Self { cards, by_id, dependents, not_over, created, ..Self::default() }
    }

    /// All cards.
    pub fn cards(&self) -> &[Card] {
        &self.cards
    }

    /// Whether nothing is left that could end.
    pub fn is_over(&self) -> bool {
        self.not_over == 0
    }

    /// What is over, in the order in which it ended; causes stand before what they caused.
    pub fn over(&self) -> &[usize] {
        &self.over
    }

    /// How many runs have begun and not ended.
    pub fn running(&self) -> usize {
        self.open_runs.len()
    }

    /// The queue has this task, as it has answered or as is seen by a run. Returns whether that is new.
    pub fn created(&mut self, at: usize) -> bool {
        let is_new = !std::mem::replace(&mut self.created[at], true);
        self.due_if_ready(at);
        is_new
    }

    /// Tasks that may have ended without a run here are asked about once more.
    pub fn ask_about_due(&mut self) {
        self.to_ask.extend(&self.due);
    }

    fn due_if_ready(&mut self, at: usize) {
        let card = &self.cards[at];
        let is_open = card.by_queue && card.end.is_none() && self.created[at];
        if is_open && card.waits_for.iter().all(|on| self.cards[*on].end.is_some()) && self.due.insert(at) {
            self.to_ask.push(at);
        }
    }

    /// A run has begun. Returns whose it is.
    pub fn begin(&mut self, task_id: &str, run_id: u32) -> Option<usize> {
        let at = *self.by_id.get(task_id)?;
        self.open_runs.insert((at, run_id));
        self.cards[at].runs += 1;
        Some(at)
    }

    /// A run has ended, as its worker says.
    pub fn run_ended(&mut self, task_id: &str, run_id: u32, why: Option<String>, took: Duration) -> Option<usize> {
        let at = *self.by_id.get(task_id)?;
        self.open_runs.remove(&(at, run_id));
        let card = &mut self.cards[at];
        card.why = why;
        card.took = Some(took);
        self.to_ask.push(at);
        Some(at)
    }

    /// The queue does not take this task. Returns what is over by that.
    pub fn refuse(&mut self, at: usize, why: &str) -> Vec<usize> {
        self.end_unrun(at, Outcome::Invalid, why)
    }

    /// There is nothing that this task could run on. Returns what is over by that.
    pub fn leave_out(&mut self, at: usize, why: &str) -> Vec<usize> {
        self.end_unrun(at, Outcome::NotRun, why)
    }

    fn end_unrun(&mut self, at: usize, outcome: Outcome, why: &str) -> Vec<usize> {
        let mut over = Vec::new();
        if self.cards[at].end.is_none() {
            self.cards[at].why = Some(why.to_owned());
            self.end(at, outcome, &mut over);
        }
        over
    }

    /// The ids of tasks about which the queue has to be asked now: those whose runs have ended.
    pub fn take_questions(&mut self) -> Vec<String> {
        let asked: Vec<usize> = std::mem::take(&mut self.to_ask);
        asked.into_iter().filter(|at| self.cards[*at].end.is_none()).map(|at| self.cards[at].id.clone()).collect()
    }

    /// There was no answer about this task.
    pub fn ask_again(&mut self, task_id: &str) {
        self.to_ask.extend(self.by_id.get(task_id));
    }

    /// The ids of all tasks that are not over.
    pub fn open_ids(&self) -> Vec<String> {
        self.cards.iter().filter(|card| card.end.is_none()).map(|card| card.id.clone()).collect()
    }

    /// The queue says how a task has ended. Returns what is over by that, the task first.
    pub fn resolve(&mut self, task_id: &str, outcome: &Outcome) -> Vec<usize> {
        let mut over = Vec::new();
        let Some(at) = self.by_id.get(task_id).copied() else { return over };
        // The worker tells why shortly after it has told the queue; that is waited for.
        if self.cards[at].end.is_none() && !self.has_open_run(at) {
            let card = &mut self.cards[at];
            if card.by_queue && matches!(outcome, Outcome::Completed | Outcome::Failed) {
                card.runs = 1;
                card.why = (*outcome == Outcome::Failed).then(|| "tasks of its task queue always fail".to_owned());
            }
            self.end(at, outcome.clone(), &mut over);
        }
        over
    }

    /// What is not over ends like this, because the session does.
    pub fn give_up(&mut self, outcome: &Outcome) -> Vec<usize> {
        let over: Vec<usize> = (0..self.cards.len()).filter(|at| self.cards[*at].end.is_none()).collect();
        for at in &over {
            self.cards[*at].end = Some(outcome.clone());
        }
        self.not_over = 0;
        self.due.clear();
        self.over.extend(&over);
        over
    }

    /// Whether a run of this task has begun and not ended.
    pub fn runs_now(&self, task_id: &str) -> bool {
        self.by_id.get(task_id).is_some_and(|at| self.has_open_run(*at))
    }

    fn has_open_run(&self, at: usize) -> bool {
        // A task has few runs, and they are numbered from 0.
        (0..self.cards[at].runs).any(|run| self.open_runs.contains(&(at, run)))
    }

    /// Ends a task and everything that is lost with it. Without recursion: chains are long.
    fn end(&mut self, at: usize, outcome: Outcome, over: &mut Vec<usize>) {
        let cause = at;
        let how = &outcome.clone();
        let mut ending = vec![(at, outcome, None)];
        while let Some((at, outcome, why)) = ending.pop() {
            let card = &mut self.cards[at];
            if card.end.is_some() {
                continue;
            }
            card.end = Some(outcome.clone());
            if let Some(why) = why {
                card.why = Some(why);
                card.lost_with = Some(cause);
            }
            self.not_over -= 1;
            self.due.remove(&at);
            self.over.push(at);
            over.push(at);
            let never = match outcome {
                Outcome::Completed | Outcome::Failed | Outcome::Exception(_) => false,
                Outcome::Invalid | Outcome::Stopped | Outcome::NotRun => true,
            };
            let why = summary::because(&self.cards[at].name, (at != cause).then_some(&self.cards[cause].name), how);
            for next in self.dependents[at].clone().into_iter().rev() {
                let lost = never || !(outcome == Outcome::Completed || self.cards[next].whatever_comes);
                if lost && self.cards[next].end.is_none() && self.cards[next].runs == 0 {
                    ending.push((next, Outcome::NotRun, Some(why.clone())));
                } else if !lost {
                    self.due_if_ready(next);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(waits_for: &[&[usize]]) -> Board {
        let card = |(number, waits_for): (usize, &&[usize])| Card {
            id: format!("id-{number}"),
            name: format!("task-{number}"),
            folder: String::new(),
            waits_for: waits_for.to_vec(),
            whatever_comes: false,
            by_queue: false,
            lost_with: None,
            end: None,
            why: None,
            took: None,
            runs: 0,
        };
        Board::new(waits_for.iter().enumerate().map(card).collect())
    }

    #[test]
    fn a_task_is_over_when_the_queue_says_so_and_its_run_has_ended() {
        let mut board = board(&[&[]]);
        assert_eq!(board.begin("id-0", 0), Some(0));
        assert_eq!(board.resolve("id-0", &Outcome::Completed), [0_usize; 0], "its run has not ended yet");
        board.run_ended("id-0", 0, None, Duration::from_secs(1));
        assert_eq!(board.take_questions(), ["id-0"]);
        assert_eq!(board.take_questions(), [""; 0], "it is asked once");
        // The run was given up: another one follows.
        board.begin("id-0", 1);
        board.run_ended("id-0", 1, Some("exit status 1".to_owned()), Duration::from_secs(2));
        assert_eq!(board.resolve("id-0", &Outcome::Failed), [0]);
        assert!(board.is_over());
        assert_eq!(board.cards()[0].why.as_deref(), Some("exit status 1"));
        assert_eq!(board.resolve("id-0", &Outcome::Completed), [0_usize; 0], "it ends once");
    }

    #[test]
    fn what_waits_for_a_lost_task_is_lost_with_it() {
        let mut board = board(&[&[], &[0], &[1], &[0], &[]]);
        board.cards[3].whatever_comes = true;
        assert_eq!(board.resolve("id-0", &Outcome::Failed), [0, 1, 2]);
        assert_eq!(board.cards()[2].end, Some(Outcome::NotRun));
        assert_eq!(board.cards()[1].why.as_deref(), Some("it waits for task-0, which failed"));
        assert_eq!(board.cards()[2].why.as_deref(), Some("it waits for task-1, and task-0 failed"));
        assert_eq!(board.cards().iter().map(|card| card.lost_with).collect::<Vec<_>>(), [None, Some(0), Some(0), None, None]);
        assert_eq!(board.open_ids(), ["id-3", "id-4"], "a failure is enough for one of them");
        assert_eq!(board.refuse(4, "refused"), [4]);
        assert!(!board.is_over());
        assert_eq!(board.give_up(&Outcome::Stopped), [3]);
        assert_eq!(board.over(), [0, 1, 2, 4, 3], "as they ended");
        assert!(board.is_over());
    }

    #[test]
    fn a_task_that_is_never_resolved_keeps_everything_that_waits_for_it() {
        let mut board = board(&[&[], &[0]]);
        board.cards[1].whatever_comes = true;
        assert_eq!(board.refuse(0, "refused"), [0, 1]);
    }

    #[test]
    fn what_the_queue_ends_itself_is_asked_about_as_soon_as_it_may_have_ended() {
        let mut board = board(&[&[], &[0], &[1], &[0]]);
        for at in [1, 2, 3] {
            board.cards[at].by_queue = true;
        }
        board.cards[2].whatever_comes = true;
        (0..4).for_each(|at| assert!(board.created(at)));
        assert_eq!(board.take_questions(), [""; 0], "they wait");
        board.begin("id-0", 0);
        board.run_ended("id-0", 0, None, Duration::from_secs(1));
        board.take_questions();
        assert_eq!(board.resolve("id-0", &Outcome::Completed), [0]);
        let mut questions = board.take_questions();
        questions.sort();
        assert_eq!(questions, ["id-1", "id-3"]);
        assert_eq!(board.take_questions(), [""; 0]);
        board.ask_about_due();
        assert_eq!(board.take_questions(), ["id-1", "id-3"], "there was no end yet");
        assert_eq!(board.resolve("id-1", &Outcome::Failed), [1]);
        assert_eq!((board.cards()[1].runs, board.cards()[1].why.is_some()), (1, true));
        assert_eq!(board.take_questions(), ["id-2"], "a failure is enough for it");
        board.resolve("id-2", &Outcome::Completed);
        board.resolve("id-3", &Outcome::Completed);
        board.ask_about_due();
        assert_eq!((board.take_questions(), board.is_over()), (vec![], true));
    }

    #[test]
    fn what_nothing_can_run_goes_with_everything_that_waits_for_it() {
        let mut board = board(&[&[], &[0], &[]]);
        board.cards[1].whatever_comes = true;
        assert_eq!(board.leave_out(0, "no engine"), [0, 1]);
        assert_eq!((board.leave_out(0, "again").len(), board.open_ids().len()), (0, 1));
        assert_eq!((&board.cards()[0].end, board.cards()[0].why.as_deref()), (&Some(Outcome::NotRun), Some("no engine")));
    }

    #[test]
    fn a_long_chain_ends_at_once() {
        let chain: Vec<Vec<usize>> = (0..100_000_usize).map(|at| at.checked_sub(1).into_iter().collect()).collect();
        let mut board = board(&chain.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert_eq!(board.resolve("id-0", &Outcome::Failed).len(), 100_000);
        assert!(board.is_over());
    }
}
