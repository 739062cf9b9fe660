//! What leaves a session: logs that are followed, artifacts that are saved, and what is shown of both, on its way to be written.
//!
//! ```text
//! a run begins ─▶ follower ─────────────────────────────┐
//!                    └─ the log has ended ─┐             ▼
//! a task is over ─▶ artifacts are saved ───┴─▶ show ─▶ backlog ─▶ output
//! ```
//!
//! A task's row is complete, and told, when it is over, its artifacts are saved, and all of its logs were read to their ends;
//! one that was lost with another one, when that one was told.

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::{JoinError, JoinSet},
    time::interval,
};

use super::{
    artifacts::{self, Saved},
    board::Board,
    follow::follow,
    output::{Output, Piece},
    setting::Told,
    show::Show,
    summary::{EXCEPTION, Row},
    trace::{EndedRun, Trace},
};
use crate::{
    cli::{
        INTERNAL_ERROR,
        problems::{Failure, say},
    },
    local::StoredArtifact,
    log::LogReader,
};

/// How often a picture of a session is made while it ends.
const TICK: Duration = Duration::from_millis(100);
/// How long a stalled reader of standard output may hold up the end after Ctrl-C.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Something has got further.
pub enum Progress {
    /// A log was read to its end.
    Followed(Result<(usize, io::Result<()>), JoinError>),
    /// Artifacts of a task are saved.
    Saved(Result<(usize, Saved), JoinError>),
    /// A piece is on its way to the reader.
    Wrote,
}

/// What is on its way.
pub struct Reporter {
    show: Box<dyn Show>,
    followers: JoinSet<(usize, io::Result<()>)>,
    /// How many followers of a task's logs are on their way.
    following: HashMap<usize, usize>,
    saves: JoinSet<(usize, Saved)>,
    /// What was saved of tasks that are not told about yet.
    saved: HashMap<usize, Saved>,
    rows: HashMap<usize, Row>,
    /// Tasks that are told about after another one.
    after: HashMap<usize, Vec<usize>>,
    backlog: VecDeque<Piece>,
    /// There until the end.
    output: Option<Output>,
    artifacts: Arc<PathBuf>,
    trace: Option<Trace>,
    trouble: bool,
}

impl Reporter {
    /// For artifacts in this directory.
    pub fn new(show: Box<dyn Show>, output: Output, artifacts: PathBuf, trace: Option<Trace>) -> Self {
        Self {
            show,
            followers: JoinSet::new(),
            following: HashMap::new(),
            saves: JoinSet::new(),
            saved: HashMap::new(),
            rows: HashMap::new(),
            after: HashMap::new(),
            backlog: VecDeque::new(),
            output: Some(output),
            artifacts: Arc::new(artifacts),
            trace,
            trouble: false,
        }
    }

    /// Lets something be shown.
    pub fn shown(&mut self, tell: impl FnOnce(&mut dyn Show, &mut Vec<Piece>)) {
        let mut out = Vec::new();
        tell(self.show.as_mut(), &mut out);
        // Only the newest picture is worth the time of a slow terminal.
        if out.iter().any(|piece| matches!(piece, Piece::Picture(_))) {
            self.backlog.retain(|piece| !matches!(piece, Piece::Picture(_)));
        }
        self.backlog.extend(out);
    }

    /// Says something to people.
    pub fn say(&mut self, text: &str) {
        self.shown(|show, out| show.say(text, out));
    }

    /// A run has begun: its log is followed.
    pub fn begun(&mut self, board: &Board, at: usize, run_id: u32, log: LogReader) {
        let Some(writer) = self.output.as_ref().map(Output::writer) else { return };
        let card = &board.cards()[at];
        self.traced(|trace| trace.begin(card, at, run_id));
        let mut out = Vec::new();
        let format = self.show.started(card, at, run_id, &mut out);
        self.backlog.extend(out);
        *self.following.entry(at).or_default() += 1;
        // What was said of the task before comes before its log.
        let (tell, reached) = oneshot::channel();
        self.backlog.push_back(Piece::Reached(tell));
        self.followers.spawn(async move {
            // An error means that nothing is written any more; then the log is not, either. Ends with the output at the latest.
            drop(reached.await);
            (at, follow(log, format, writer).await)
        });
    }

    /// A run has ended, whatever becomes of its task.
    pub fn run_ended(&mut self, board: &Board, at: usize, run: &EndedRun) {
        self.traced(|trace| trace.end(&board.cards()[at], at, run));
        self.show.run_ended(at);
    }

    /// A trace that cannot be written ends, with a word about that.
    fn traced(&mut self, write: impl FnOnce(&mut Trace) -> io::Result<()>) {
        if let Some(Err(error)) = self.trace.as_mut().map(write) {
            self.trace = None;
            self.trouble = true;
            self.say(&format!("error: write the trace: {error}"));
        }
    }

    /// A task is over: what it has published is saved.
    pub fn over(&mut self, board: &Board, at: usize, published: Vec<StoredArtifact>) {
        if published.is_empty() {
            self.on_saved(board, at, Saved::default());
            return;
        }
        let (dir, folder) = (Arc::clone(&self.artifacts), board.cards()[at].folder.clone());
        self.saves.spawn_blocking(move || (at, artifacts::save(&dir, &folder, &published)));
    }

    /// Waits until something gets further. Cancel safe, as all of its parts are.
    pub async fn next(&mut self) -> Progress {
        let waiting = !self.backlog.is_empty();
        let room = async {
            match &self.output {
                Some(output) if waiting => output.room().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased; // Nothing of it keeps the rest waiting for long.
            Some(followed) = self.followers.join_next() => Progress::Followed(followed),
            Some(saved) = self.saves.join_next() => Progress::Saved(saved),
            permit = room => {
                if let (Some(permit), Some(piece)) = (permit, self.backlog.pop_front()) {
                    permit.send(piece);
                }
                Progress::Wrote
            }
        }
    }

    /// Takes note of it.
    pub fn on(&mut self, board: &Board, progress: Progress) {
        match progress {
            Progress::Followed(Ok((at, followed))) => {
                if let Err(error) = followed {
                    self.say(&format!("error: follow the log of a task: {error}"));
                }
                if let Some(open) = self.following.get_mut(&at) {
                    *open = open.saturating_sub(1);
                }
                self.tell_if_complete(board, at);
            }
            Progress::Followed(Err(error)) => self.say(&format!("error: follow the log of a task: {error}")),
            Progress::Saved(Ok((at, saved))) => self.on_saved(board, at, saved),
            Progress::Saved(Err(error)) => {
                self.trouble = true;
                self.say(&format!("error: save artifacts: {error}"));
            }
            Progress::Wrote => {}
        }
    }

    fn on_saved(&mut self, board: &Board, at: usize, saved: Saved) {
        let name = &board.cards()[at].name;
        for note in &saved.notes {
            self.say(&format!("warning: {name}: {note}"));
        }
        for failure in &saved.failures {
            self.trouble = true;
            self.say(&format!("error: {name}: {failure}"));
        }
        self.saved.insert(at, saved);
        self.tell_if_complete(board, at);
    }

    fn tell_if_complete(&mut self, board: &Board, at: usize) {
        if !self.saved.contains_key(&at) || self.following.get(&at).is_some_and(|open| *open > 0) {
            return;
        }
        // Whoever reads about what was lost has read why.
        if let Some(cause) = board.cards()[at].lost_with.filter(|cause| !self.rows.contains_key(cause)) {
            self.after.entry(cause).or_default().push(at);
            return;
        }
        self.tell(board, at);
        for lost in self.after.remove(&at).unwrap_or_default() {
            self.tell(board, lost);
        }
    }

    fn tell(&mut self, board: &Board, at: usize) {
        let card = &board.cards()[at];
        let Some(outcome) = card.end.clone().filter(|_| !self.rows.contains_key(&at)) else { return };
        let saved = self.saved.remove(&at).unwrap_or_default();
        let artifacts = (!saved.files.is_empty()).then(|| self.artifacts.join(&card.folder).display().to_string());
        let row = Row { name: card.name.clone(), outcome, why: card.why.clone(), took: card.took, artifacts };
        self.shown(|show, out| show.over(card, at, &row, &saved, out));
        self.rows.insert(at, row);
    }

    /// Writes what is left to write, and saves what is left to save. Returns the rows in the order in which tasks ended, and
    /// the exit code of what went wrong and none of them shows, which is 0 if nothing did.
    pub async fn close(mut self, board: &Board, told: Told) -> (Vec<Row>, u8) {
        let enough = async {
            let known = told.so_far().is_some();
            told.asked().await;
            if !known {
                say("Cleaning up without the rest of the log; a second time ends at once");
            }
            tokio::time::sleep(LAST_WORDS).await;
        };
        let written = tokio::select! {
            biased; // What is written is written.
            written = self.write_the_rest(board) => written,
            () = enough => Err(io::ErrorKind::TimedOut.into()),
        };
        self.followers.abort_all();
        let is_cut = written.is_err();
        if let Err(error) = written {
            Failure::new(INTERNAL_ERROR, "write the log to standard output").because(&error).show();
        }
        // However slow a reader is, what was published is saved.
        while let Some(saved) = self.saves.join_next().await {
            self.on(board, Progress::Saved(saved));
        }
        for at in board.over() {
            self.tell(board, *at);
        }
        let rows = board.over().iter().filter_map(|at| self.rows.remove(at)).collect();
        let trouble = if self.trouble { EXCEPTION } else { 0 };
        (rows, if is_cut { INTERNAL_ERROR } else { trouble })
    }

    /// A reader that is slow is waited for.
    async fn write_the_rest(&mut self, board: &Board) -> io::Result<()> {
        let mut ticks = interval(TICK);
        while !(self.followers.is_empty() && self.saves.is_empty() && self.backlog.is_empty()) {
            tokio::select! {
                biased; // Time last.
                progress = self.next() => self.on(board, progress),
                _ = ticks.tick() => self.shown(|show, out| show.tick(board, out)),
            }
        }
        self.shown(|show, out| show.end(out));
        match self.output.take() {
            Some(output) => output.close(std::mem::take(&mut self.backlog)).await,
            None => Ok(()),
        }
    }
}
