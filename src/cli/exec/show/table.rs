//! A live table: what runs, and a line for each task that is over.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::Show;
use crate::cli::exec::{
    artifacts::Saved,
    board::{Board, Card},
    follow::Format,
    output::Piece,
    picture::{Picture, Running, plain},
    summary::{self, Outcome, Row},
};

/// How many lines of the log of a task that failed are shown.
const LAST_LINES: usize = 10;
/// So much of a piece of a log is looked at: more than that does not stand on a screen.
const TAIL_BYTES: usize = 16 << 10;
/// What stands before the words of the worker's own lines, beside errors; the date takes room that a table does not have.
const OURS: &str = "[taskcluster 20";

/// The table.
pub struct Table {
    colours: bool,
    since: Instant,
    running: BTreeMap<(Instant, usize), Arc<Mutex<Tail>>>,
    /// When the open run of each task began.
    begun: BTreeMap<usize, Instant>,
    tails: BTreeMap<usize, Arc<Mutex<Tail>>>,
    completed: usize,
    other: usize,
}

impl Table {
    /// Nothing runs yet.
    pub fn new(colours: bool) -> Self {
        Self {
            colours,
            since: Instant::now(),
            running: BTreeMap::new(),
            begun: BTreeMap::new(),
            tails: BTreeMap::new(),
            completed: 0,
            other: 0,
        }
    }
}

impl Show for Table {
    fn started(&mut self, _card: &Card, at: usize, _run_id: u32, _out: &mut Vec<Piece>) -> Box<dyn Format> {
        let now = Instant::now();
        let tail = Arc::new(Mutex::new(Tail::default()));
        self.running.insert((now, at), Arc::clone(&tail));
        self.begun.insert(at, now);
        self.tails.insert(at, Arc::clone(&tail));
        Box::new(LastLines { tail, held: Vec::new() })
    }

    fn run_ended(&mut self, at: usize) {
        if let Some(begun) = self.begun.remove(&at) {
            self.running.remove(&(begun, at));
        }
    }

    fn over(&mut self, _card: &Card, at: usize, row: &Row, _saved: &Saved, out: &mut Vec<Piece>) {
        let completed = row.outcome == Outcome::Completed;
        *(if completed { &mut self.completed } else { &mut self.other }) += 1;
        let mut text = String::new();
        let tail = self.tails.remove(&at).filter(|_| !completed);
        for line in tail.iter().flat_map(|tail| tail.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()) {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{} | {line}", row.name);
        }
        text.push_str(&summary::line(row, self.colours));
        out.push(Piece::Bytes(text.into_bytes()));
    }

    fn say(&mut self, text: &str, out: &mut Vec<Piece>) {
        out.push(Piece::Note(text.to_owned()));
    }

    fn tick(&mut self, board: &Board, out: &mut Vec<Piece>) {
        let running = self.running.iter().map(|((since, at), tail)| Running {
            name: board.cards()[*at].name.clone(),
            since: *since,
            last: tail.lock().unwrap_or_else(PoisonError::into_inner).last.clone(),
        });
        out.push(Piece::Picture(Picture {
            running: running.collect(),
            tasks: board.cards().len(),
            completed: self.completed,
            other: self.other,
            since: self.since,
        }));
    }

    fn end(&mut self, out: &mut Vec<Piece>) {
        out.push(Piece::Clear);
    }
}

/// The end of a log.
#[derive(Debug, Default)]
struct Tail {
    /// Its last line.
    last: String,
    /// The last lines that are the task's own, or say what went wrong.
    lines: VecDeque<String>,
}

/// Keeps them.
struct LastLines {
    tail: Arc<Mutex<Tail>>,
    /// A line whose end has not come.
    held: Vec<u8>,
}

impl LastLines {
    fn keep(&mut self) {
        let line = std::mem::take(&mut self.held);
        let line = plain(&String::from_utf8_lossy(&line));
        let ours = line.strip_prefix(OURS).and_then(|rest| rest.split_once("] ")).map(|(_, words)| words);
        let line = ours.unwrap_or(&line);
        if line.trim().is_empty() {
            return;
        }
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        line.clone_into(&mut tail.last);
        if ours.is_none() {
            if tail.lines.len() == LAST_LINES {
                tail.lines.pop_front();
            }
            tail.lines.push_back(line.to_owned());
        }
    }
}

impl Format for LastLines {
    fn feed(&mut self, bytes: &[u8], _out: &mut Vec<u8>) {
        if bytes.len() > TAIL_BYTES {
            self.held.clear();
        }
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            // A line without an end is one that nobody reads.
            if self.held.len() < TAIL_BYTES {
                self.held.extend_from_slice(piece.strip_suffix(b"\n").unwrap_or(piece));
            }
            if piece.ends_with(b"\n") {
                self.keep();
            }
        }
    }

    fn end(&mut self, _out: &mut Vec<u8>) {
        self.keep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let tail = Arc::new(Mutex::new(Tail::default()));
        let mut lines = LastLines { tail: Arc::clone(&tail), held: Vec::new() };
        let mut out = Vec::new();
        lines.feed(b"a\nb", &mut out);
        lines.feed(b"c\n\n \x1b[1mbold\x1b[0m\n[taskcluster 2026-01-01T00:00:00.000Z] ours\n", &mut out);
        assert_eq!(tail.lock().expect("kept").lines, ["a", "bc", " bold"]);
        assert_eq!(tail.lock().expect("kept").last, "ours");
        lines.feed("x\n".repeat(100_000).as_bytes(), &mut out);
        lines.feed(b"half", &mut out);
        lines.end(&mut out);
        let kept = &tail.lock().expect("kept").lines;
        assert_eq!((kept.len(), kept.back().map(String::as_str)), (LAST_LINES, Some("half")));
        assert!(out.is_empty());
    }

    #[test]
    fn a_task_that_failed_shows_its_last_lines() {
        let mut table = Table::new(false);
        let card = Card {
            id: "id".to_owned(),
            name: "t".to_owned(),
            folder: String::new(),
            waits_for: Vec::new(),
            whatever_comes: false,
            by_queue: false,
            lost_with: None,
            end: None,
            why: None,
            took: None,
            runs: 1,
        };
        let mut out = Vec::new();
        table.started(&card, 0, 0, &mut out).feed(b"went wrong\n", &mut Vec::new());
        table.run_ended(0);
        let row =
            Row { name: "t".to_owned(), outcome: Outcome::Failed, why: Some("exit 1".to_owned()), took: None, artifacts: None };
        table.over(&card, 0, &row, &Saved::default(), &mut out);
        let text = out.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        });
        assert_eq!(text.collect::<String>(), "t | went wrong\nfailed  t  (exit 1)\n");
    }
}
