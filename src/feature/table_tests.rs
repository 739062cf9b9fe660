//! One property test per sentence of the contract.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use proptest::prelude::*;
use tc_engine::StopReason;

use super::*;
use crate::run::outcome::{Blame, Findings, Kill};

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
/// `AFTER[i]`: one-element slices to point at.
const AFTER: [&[&str]; 8] = [&["a"], &["b"], &["c"], &["d"], &["e"], &["f"], &["g"], &["h"]];

struct Seen {
    notes: Mutex<Vec<String>>,
    times: Mutex<Vec<tokio::time::Instant>>,
}

impl Seen {
    fn new(notes: Vec<String>) -> Self {
        Self { notes: Mutex::new(notes), times: Mutex::default() }
    }
    fn note(&self, what: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        self.times.lock().unwrap_or_else(PoisonError::into_inner).push(tokio::time::Instant::now());
    }
    fn all(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn times(&self) -> Vec<tokio::time::Instant> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn place(&self, what: &str) -> Option<usize> {
        self.all().iter().position(|s| s == what)
    }
}

#[derive(Debug, Clone)]
struct Script {
    takes_ms: u64,
    fails: bool,
    furnish: bool,
    /// Waits for the part this many rows above it, if there is one.
    after_above: Option<usize>,
}

struct Scripted {
    row: usize,
    script: Script,
}

#[async_trait]
impl Part<Seen> for Scripted {
    fn name(&self) -> &'static str {
        NAMES[self.row]
    }
    fn starts_in(&self) -> Phase {
        if self.script.furnish { Phase::Furnish } else { Phase::Run }
    }
    fn after(&self) -> &'static [&'static str] {
        match self.script.after_above {
            Some(above) if above < self.row => AFTER[self.row - 1 - above],
            _ => &[],
        }
    }
    async fn start(&self, cx: &Seen) -> Result<(), RunError> {
        cx.note(format!("begin {}", self.name()));
        tokio::time::sleep(Duration::from_millis(self.script.takes_ms)).await;
        cx.note(format!("end {}", self.name()));
        if self.script.fails { Err(RunError::new(Blame::Service, self.name())) } else { Ok(()) }
    }
    async fn stop(&self, cx: &Seen, _quiet: Option<&dyn Quiet>) -> Vec<RunError> {
        cx.note(format!("stop {}", self.name()));
        Vec::new()
    }
}

fn scripts() -> impl Strategy<Value = Vec<Script>> {
    let script = (0..50_u64, proptest::bool::weighted(0.2), any::<bool>(), proptest::option::of(0..4_usize))
        .prop_map(|(takes_ms, fails, furnish, after_above)| Script { takes_ms, fails, furnish, after_above });
    proptest::collection::vec(script, 1..=8)
}

fn table(scripts: &[Script]) -> Table<Seen> {
    Table::new(
        scripts
            .iter()
            .enumerate()
            .map(|(row, script)| Box::new(Scripted { row, script: script.clone() }) as Box<dyn Part<Seen>>)
            .collect(),
    )
}

/// Plays both phases and the stops, as a run does.
fn play(scripts: &[Script], kill_at_ms: Option<u64>) -> (Vec<String>, Vec<(Phase, Positioned)>) {
    let (seen, errors) = play_timed(scripts, kill_at_ms);
    (seen.all(), errors)
}

fn play_timed(scripts: &[Script], kill_at_ms: Option<u64>) -> (Seen, Vec<(Phase, Positioned)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let seen = Seen::new(Vec::new());
        let kill = KillSwitch::default();
        if let Some(ms) = kill_at_ms {
            let kill = kill.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                kill.kill(Kill::new(StopReason::Canceled));
            });
        }
        let mut table = table(scripts);
        let mut errors = Vec::new();
        for phase in [Phase::Furnish, Phase::Run] {
            if errors.is_empty() && kill.reason().is_none() {
                errors.extend(table.start(phase, &seen, &kill).await.into_iter().map(|e| (phase, e)));
            }
        }
        table.stop(Phase::Return, &seen, None).await;
        table.stop(Phase::Return, &seen, None).await;
        (seen, errors)
    })
}

proptest! {
    #[test]
    fn starts_within_a_phase_run_together_unless_after_says_otherwise(scripts in scripts()) {
        let quiet: Vec<Script> = scripts.into_iter().map(|s| Script { fails: false, takes_ms: s.takes_ms + 1, ..s }).collect();
        let (seen, _) = play(&quiet, None);
        let seen = Seen::new(seen);
        let table = table(&quiet);
        for (name, phase, _, after) in table.shape() {
            let begin = seen.place(&format!("begin {name}")).expect("every part begins");
            for (other, other_phase, _, other_after) in table.shape() {
                if other == name || other_phase != phase { continue; }
                let other_end = seen.place(&format!("end {other}")).expect("every part ends");
                if after.contains(&other) {
                    prop_assert!(other_end < begin, "{} began before {} was started", name, other);
                } else if after.is_empty() && other_after.is_empty() {
                    prop_assert!(begin < other_end, "{} waited for {}", name, other);
                }
            }
        }
    }

    #[test]
    fn every_start_that_began_is_stopped_once_in_reverse_table_order_and_no_other(
        scripts in scripts(),
        kill_at_ms in proptest::option::of(0..80_u64),
    ) {
        let (seen, _) = play(&scripts, kill_at_ms);
        let began: BTreeSet<&str> = seen.iter().filter_map(|s| s.strip_prefix("begin ")).collect();
        let stopped: Vec<&str> = seen.iter().filter_map(|s| s.strip_prefix("stop ")).collect();
        let expected: Vec<&str> = began.into_iter().rev().collect();
        prop_assert_eq!(stopped, expected);
    }

    #[test]
    fn nothing_begins_after_a_failure_was_seen(scripts in scripts()) {
        let (seen, errors) = play_timed(&scripts, None);
        let (notes, times) = (seen.all(), seen.times());
        for (phase, (row, _)) in &errors {
            let failed = notes.iter().position(|s| *s == format!("end {}", NAMES[*row])).expect("it ended");
            // What begins in the same instant was decided on before the failure was seen.
            let later = notes.iter().zip(&times).filter(|(s, time)| s.starts_with("begin ") && **time > times[failed]).count();
            prop_assert_eq!(later, 0, "in {:?}", phase);
        }
    }

    #[test]
    fn the_deciding_error_does_not_depend_on_the_clock(scripts in scripts(), other_times in proptest::collection::vec(0..50_u64, 8)) {
        // Without waiting for one another all parts of a phase begin, so the same ones fail whatever their pace.
        let decide = |scripts: &[Script]| {
            let mut findings = Findings::default();
            for (phase, (row, error)) in play(scripts, None).1 { findings.add(phase, row, error); }
            findings.deciding()
        };
        let first: Vec<Script> = scripts.into_iter().map(|s| Script { after_above: None, ..s }).collect();
        let second: Vec<Script> =
            first.iter().zip(other_times).map(|(s, takes_ms)| Script { takes_ms, ..s.clone() }).collect();
        prop_assert_eq!(decide(&first), decide(&second));
    }
}
