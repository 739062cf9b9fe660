//! `--trace`: when each task ran, for the trace viewer of a browser (`chrome://tracing`, ui.perfetto.dev): the array form of the
//! trace event format, with one row for each slot.
//!
//! The file is whole JSON after each write, however the process ends: an event and the end of the array are one write over the
//! end that was there.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::board::Card;

/// The end of the array.
const END: &str = "\n]\n";

/// A trace that grows.
pub struct Trace {
    file: File,
    /// Where the end of the array stands.
    end: u64,
    began: Instant,
    empty: bool,
    /// Who is in each slot.
    slots: Vec<Option<(usize, u32)>>,
}

impl Trace {
    /// Begins a file; one that is there is replaced.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let mut trace = Self { file, end: 1, began: Instant::now(), empty: true, slots: Vec::new() };
        trace.file.write_all_at(format!("[{END}").as_bytes(), 0)?;
        trace.add(&json!({ "name": "process_name", "ph": "M", "pid": 1, "tid": 0, "args": { "name": "tc-worker exec" } }))?;
        Ok(trace)
    }

    /// A run begins, in the first slot that is free.
    pub fn begin(&mut self, card: &Card, at: usize, run_id: u32) -> io::Result<()> {
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.slots.len());
        if free.is_none() {
            self.slots.push(None);
            let name = json!({ "name": format!("slot {}", slot + 1) });
            self.add(&json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": slot + 1, "args": name }))?;
        }
        self.slots[slot] = Some((at, run_id));
        self.add(&json!({
            "name": card.name, "cat": "run", "ph": "B", "pid": 1, "tid": slot + 1, "ts": micros(self.began.elapsed()),
            "args": { "taskId": card.id, "runId": run_id },
        }))
    }

    /// It has ended.
    pub fn end(&mut self, card: &Card, at: usize, run_id: u32, outcome: &str) -> io::Result<()> {
        let Some(slot) = self.slots.iter().position(|slot| *slot == Some((at, run_id))) else { return Ok(()) };
        self.slots[slot] = None;
        self.add(&json!({
            "name": card.name, "cat": "run", "ph": "E", "pid": 1, "tid": slot + 1, "ts": micros(self.began.elapsed()),
            "args": { "outcome": outcome },
        }))
    }

    fn add(&mut self, event: &Value) -> io::Result<()> {
        let comma = if std::mem::take(&mut self.empty) { "" } else { "," };
        let event = format!("{comma}\n{event}");
        self.file.write_all_at(format!("{event}{END}").as_bytes(), self.end)?;
        self.end += event.len() as u64;
        Ok(())
    }
}

/// Microseconds, as the format wants them.
fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str) -> Card {
        Card {
            number: 0,
            id: "id".to_owned(),
            name: name.to_owned(),
            folder: String::new(),
            waits_for: Vec::new(),
            whatever_comes: false,
            end: None,
            why: None,
            took: None,
            runs: 0,
        }
    }

    #[test]
    fn the_file_is_json_after_each_event_and_slots_are_used_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("trace.json");
        std::fs::write(&path, "what was there before and is longer than what comes").expect("written");
        let events = || {
            let text = std::fs::read_to_string(&path).expect("readable");
            serde_json::from_str::<Vec<Value>>(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
        };
        let mut trace = Trace::create(&path).expect("made");
        assert_eq!(events().len(), 1);
        let (a, b) = (card("a"), card("b\""));
        trace.begin(&a, 0, 0).expect("written");
        assert_eq!(events().len(), 3);
        trace.begin(&b, 1, 0).expect("written");
        trace.end(&a, 0, 0, "completed").expect("written");
        trace.begin(&a, 0, 1).expect("written");
        trace.end(&b, 1, 0, "failed").expect("written");
        trace.end(&b, 1, 7, "never begun").expect("nothing to write");
        let runs: Vec<_> = events()
            .iter()
            .filter(|event| event["cat"] == "run")
            .map(|event| format!("{}{}", event["ph"].as_str().expect("a phase"), event["tid"]))
            .collect();
        assert_eq!(runs, ["B1", "B2", "E1", "B1", "E2"]);
        assert!(events().iter().filter_map(|event| event["ts"].as_u64()).is_sorted());
    }
}
