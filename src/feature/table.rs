//! The contract between a run and its optional parts, and the one ordered table that starts and stops them.
//!
//! ```text
//! part:   Idle ──start began──▶ Began ──stop──▶ Stopped
//!           └─────── never began: never stopped
//! ```
//!
//! * Starts of one phase run together, except that a part waits for those named by [`Part::after`].
//! * Once a start has failed, no further part begins; those that have begun are stopped, the failed one included.
//! * Stops come in reverse table order, one after another.

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tc_engine::Quiet;
use tracing::info;

use crate::run::{
    kill::KillSwitch,
    outcome::{Phase, RunError},
};

/// An optional part of a run: one small file in this room binds it to a room below. `C` is what it gets to see.
#[async_trait]
pub trait Part<C: Sync>: Send + Sync {
    /// Its name in logs and in [`Part::after`].
    fn name(&self) -> &'static str;

    /// The phase it starts in: [`Phase::Furnish`] or [`Phase::Run`].
    fn starts_in(&self) -> Phase {
        Phase::Furnish
    }

    /// The phase it stops in: [`Phase::Run`] (before the task is made quiet), or [`Phase::Collect`] and later.
    fn stops_in(&self) -> Phase {
        Phase::Return
    }

    /// Parts of the same phase that have to be started before.
    fn after(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the payload and the configuration allow it. Pure; called in [`Phase::Admit`].
    fn admit(&self, _cx: &C) -> Result<(), RunError> {
        Ok(())
    }

    /// Artifact names that the payload's own artifacts may not take.
    fn reserves(&self, _cx: &C) -> Vec<String> {
        Vec::new()
    }

    /// Makes it ready. May be dropped half-way when the run is ended from outside; [`Part::stop`] is called all the same.
    async fn start(&self, _cx: &C) -> Result<(), RunError> {
        Ok(())
    }

    /// Takes it back. `quiet` is there from [`Phase::Collect`] to [`Phase::Return`] if the run came that far.
    async fn stop(&self, _cx: &C, _quiet: Option<&dyn Quiet>) -> Vec<RunError> {
        Vec::new()
    }
}

/// The parts that one run asked for, in table order.
pub struct Table<C> {
    rows: Vec<Row<C>>,
}

struct Row<C> {
    part: Box<dyn Part<C>>,
    began: bool,
}

/// An error of the part at this position of the table.
pub type Positioned = (usize, RunError);

impl<C: Sync> Table<C> {
    /// A table of these parts.
    pub fn new(parts: Vec<Box<dyn Part<C>>>) -> Self {
        Self { rows: parts.into_iter().map(|part| Row { part, began: false }).collect() }
    }

    /// What stands against the run, from all parts.
    pub fn admit(&self, cx: &C) -> Vec<Positioned> {
        self.rows.iter().enumerate().filter_map(|(i, row)| row.part.admit(cx).err().map(|e| (i, e))).collect()
    }

    /// Reserved artifact names, each with the part that will publish it.
    pub fn reserved(&self, cx: &C) -> Vec<(String, &'static str)> {
        self.rows.iter().flat_map(|row| row.part.reserves(cx).into_iter().map(|name| (name, row.part.name()))).collect()
    }

    /// Starts the parts of a phase. Returns when all that began have ended, or at once when the run is ended from outside.
    pub async fn start(&mut self, phase: Phase, cx: &C, kill: &KillSwitch) -> Vec<Positioned> {
        let mut waiting: Vec<usize> = (0..self.rows.len()).filter(|&i| self.rows[i].part.starts_in() == phase).collect();
        if waiting.is_empty() {
            return Vec::new();
        }
        let mut begun = vec![false; self.rows.len()];
        let mut errors = Vec::new();
        {
            let rows = &self.rows;
            let mut starts = FuturesUnordered::new();
            let mut pending: Vec<&'static str> = waiting.iter().map(|&i| rows[i].part.name()).collect();
            loop {
                if errors.is_empty() {
                    // A part may begin when none that it waits for is still to be started.
                    let (ready, later): (Vec<usize>, Vec<usize>) =
                        waiting.into_iter().partition(|&i| !rows[i].part.after().iter().any(|name| pending.contains(name)));
                    waiting = later;
                    for i in ready {
                        begun[i] = true;
                        // Health checks of pools look for these words in the worker's log.
                        info!("Starting task feature {}", rows[i].part.name());
                        starts.push(async move { (i, rows[i].part.start(cx).await) });
                    }
                }
                let ended = tokio::select! {
                    biased; // The end of the run comes before the end of a start that it may have caused.
                    _ = kill.killed() => break,
                    ended = starts.next() => ended,
                };
                let Some((i, result)) = ended else { break };
                pending.retain(|name| *name != rows[i].part.name());
                if let Err(error) = result {
                    errors.push((i, error));
                }
            }
        }
        for (row, begun) in self.rows.iter_mut().zip(begun) {
            row.began |= begun;
        }
        errors.sort_by_key(|(i, _)| *i);
        errors
    }

    /// Stops the parts that began and that stop in this phase, last first.
    pub async fn stop(&mut self, phase: Phase, cx: &C, quiet: Option<&dyn Quiet>) -> Vec<Positioned> {
        let mut errors = Vec::new();
        for (i, row) in self.rows.iter_mut().enumerate().rev() {
            if row.began && row.part.stops_in() == phase {
                row.began = false;
                errors.extend(row.part.stop(cx, quiet).await.into_iter().map(|e| (i, e)));
            }
        }
        errors
    }

    /// Names and phases of the rows, for tests of the real table.
    #[cfg(test)]
    pub fn shape(&self) -> Vec<(&'static str, Phase, Phase, &'static [&'static str])> {
        self.rows.iter().map(|r| (r.part.name(), r.part.starts_in(), r.part.stops_in(), r.part.after())).collect()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
