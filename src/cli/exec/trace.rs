//! `--trace`: when each task ran, for the trace viewer of a browser (`chrome://tracing`, ui.perfetto.dev): the array form of the
//! trace event format, with one row for each slot, and within each run its phases. Those are only known when it has ended.
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
    /// Who is in each slot: a task, its run, and when that began.
    slots: Vec<Option<(usize, u32, u64)>>,
}

/// A run that has ended.
pub struct EndedRun {
    /// Its number.
    pub run_id: u32,
    /// One word for how it ended.
    pub outcome: String,
    /// From its claim to its end.
    pub took: Duration,
    /// Its phases, by their names, and how long after the claim each began.
    pub phases: Vec<(&'static str, Duration)>,
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
        let now = micros(self.began.elapsed());
        self.slots[slot] = Some((at, run_id, now));
        self.add(&json!({
            "name": card.name, "cat": "run", "ph": "B", "pid": 1, "tid": slot + 1, "ts": now,
            "args": { "taskId": card.id, "runId": run_id },
        }))
    }

    /// It has ended.
    pub fn end(&mut self, card: &Card, at: usize, run: &EndedRun) -> io::Result<()> {
        let is_it = |slot: &Option<(usize, u32, u64)>| slot.is_some_and(|(task, run_id, _)| (task, run_id) == (at, run.run_id));
        let Some(slot) = self.slots.iter().position(is_it) else { return Ok(()) };
        let Some((_, _, begin)) = self.slots[slot].take() else { return Ok(()) };
        let end = micros(self.began.elapsed());
        // The claim was a little before the news of it, and what lies within a run must not stick out of it.
        let claimed = end.saturating_sub(micros(run.took));
        let at = |after: Duration| claimed.saturating_add(micros(after)).clamp(begin, end);
        let begins = run.phases.iter().map(|(name, after)| (*name, at(*after)));
        let ends = run.phases.iter().skip(1).map(|(_, after)| at(*after)).chain([end]);
        for ((name, begin), end) in begins.zip(ends) {
            self.add(&json!({
                "name": name, "cat": "phase", "ph": "X", "pid": 1, "tid": slot + 1, "ts": begin, "dur": end.saturating_sub(begin),
            }))?;
        }
        self.add(&json!({
            "name": card.name, "cat": "run", "ph": "E", "pid": 1, "tid": slot + 1, "ts": end,
            "args": { "outcome": run.outcome },
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
            id: "id".to_owned(),
            name: name.to_owned(),
            folder: String::new(),
            waits_for: Vec::new(),
            whatever_comes: false,
            by_queue: false,
            lost_with: None,
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
        let run =
            |run_id, outcome: &str| EndedRun { run_id, outcome: outcome.to_owned(), took: Duration::ZERO, phases: Vec::new() };
        trace.end(&a, 0, &run(0, "completed")).expect("written");
        trace.begin(&a, 0, 1).expect("written");
        trace.end(&b, 1, &run(0, "failed")).expect("written");
        trace.end(&b, 1, &run(7, "never begun")).expect("nothing to write");
        let runs: Vec<_> = events()
            .iter()
            .filter(|event| event["cat"] == "run")
            .map(|event| format!("{}{}", event["ph"].as_str().expect("a phase"), event["tid"]))
            .collect();
        assert_eq!(runs, ["B1", "B2", "E1", "B1", "E2"]);
        assert!(events().iter().filter_map(|event| event["ts"].as_u64()).is_sorted());
    }

    #[test]
    fn phases_lie_within_their_run_one_behind_the_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("trace.json");
        let mut trace = Trace::create(&path).expect("made");
        trace.begin(&card("a"), 0, 0).expect("written");
        // A claim long before the run was begun here, and a phase that begins after the end: clocks are read at different times.
        let secs = Duration::from_secs;
        let phases = vec![("admit", secs(0)), ("run", secs(40)), ("seal", secs(90))];
        trace
            .end(&card("a"), 0, &EndedRun { run_id: 0, outcome: "completed".to_owned(), took: secs(60), phases })
            .expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        let events: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        let ts = |event: &Value| event["ts"].as_u64().expect("a time");
        let of = |ph: &str| events.iter().filter(|event| event["ph"] == ph).collect::<Vec<_>>();
        let (begin, end) = (ts(of("B")[0]), ts(of("E")[0]));
        let phases = of("X");
        assert_eq!(phases.iter().filter_map(|phase| phase["name"].as_str()).collect::<Vec<_>>(), ["admit", "run", "seal"]);
        let mut at = begin;
        for phase in phases {
            assert!(ts(phase) >= at && phase["tid"] == 1, "{text}");
            at = ts(phase) + phase["dur"].as_u64().expect("a span");
        }
        assert_eq!(at, end, "{text}");
    }
}
