//! Memory of the machine: samples, their summary over one command, and the judgement that it has been short for too long.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sysinfo::{MemoryRefreshKind, System};
use tokio::time::Instant;

use crate::log::format::MemoryUse;

/// Time between two samples.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// Memory of the machine at one moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// All there is.
    pub total: u64,
    /// Taken by programs.
    pub used: u64,
    /// What a program could still get without swapping.
    pub available: u64,
}

/// Looks now; none where the machine does not tell. Reads one small file of the kernel.
pub fn sample() -> Option<Sample> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    Some(Sample { total: system.total_memory(), used: system.used_memory(), available: system.available_memory() })
}

#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    samples: u64,
    available: u128,
    used: u128,
    peak_used: u64,
    total: u64,
}

/// Collects samples of one command. Clones share one collection.
#[derive(Debug, Default, Clone)]
pub struct MemoryWatch(Arc<Mutex<Sums>>);

impl MemoryWatch {
    /// Begins anew, for the next command.
    pub fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Sums::default();
    }

    /// Adds a sample.
    pub fn add(&self, sample: &Sample) {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.samples += 1;
        sums.available += u128::from(sample.available);
        sums.used += u128::from(sample.used);
        sums.peak_used = sums.peak_used.max(sample.used);
        sums.total = sample.total;
    }

    /// The summary; none without a sample.
    pub fn usage(&self) -> Option<MemoryUse> {
        let sums = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mean = |sum: u128| u64::try_from(sum.checked_div(u128::from(sums.samples))?).ok();
        Some(MemoryUse {
            average_available: mean(sums.available)?,
            average_used: mean(sums.used)?,
            peak_used: sums.peak_used,
            total: sums.total,
        })
    }
}

/// When memory counts as short.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Percent of all memory, 0–100.
    pub max_used_percent: u64,
    /// Bytes.
    pub min_available_bytes: u64,
    /// For how long both may be exceeded.
    pub allowed: Duration,
}

/// Judges a sequence of samples.
#[derive(Debug)]
pub struct Pressure {
    limits: Limits,
    since: Option<Instant>,
    said: bool,
}

impl Pressure {
    /// Before the first sample.
    pub fn new(limits: Limits) -> Self {
        Self { limits, since: None, said: false }
    }

    /// Whether memory has been short for too long; true once an episode.
    pub fn exceeded(&mut self, sample: &Sample, now: Instant) -> bool {
        let percent_over = u128::from(sample.used) * 100 > u128::from(self.limits.max_used_percent) * u128::from(sample.total);
        if !(percent_over && sample.available < self.limits.min_available_bytes) {
            self.since = None;
            self.said = false;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let exceeded = now - since > self.limits.allowed && !self.said;
        self.said |= exceeded;
        exceeded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_this_machine_is_plausible() {
        let sample = sample().expect("this machine tells");
        assert!(sample.total > 0 && sample.available <= sample.total && sample.used <= sample.total, "{sample:?}");
    }

    #[test]
    fn a_summary_has_means_and_a_peak_and_needs_a_sample() {
        let watch = MemoryWatch::default();
        assert_eq!(watch.usage(), None);
        watch.add(&Sample { total: 100, used: 10, available: 80 });
        watch.add(&Sample { total: 100, used: 30, available: 60 });
        assert_eq!(watch.usage(), Some(MemoryUse { average_available: 70, average_used: 20, peak_used: 30, total: 100 }));
        watch.reset();
        assert_eq!(watch.usage(), None);
    }

    #[test]
    fn pressure_has_to_last_and_is_said_once_an_episode() {
        let limits = Limits { max_used_percent: 90, min_available_bytes: 5, allowed: Duration::from_secs(5) };
        let short = Sample { total: 100, used: 95, available: 4 };
        let fine = Sample { total: 100, used: 50, available: 50 };
        let mut pressure = Pressure::new(limits);
        let begin = Instant::now();
        let at = |secs| begin + Duration::from_secs(secs);
        assert!(!pressure.exceeded(&short, at(0)));
        assert!(!pressure.exceeded(&short, at(5)));
        assert!(pressure.exceeded(&short, at(6)));
        assert!(!pressure.exceeded(&short, at(7)), "said already");
        assert!(!pressure.exceeded(&fine, at(8)));
        assert!(!pressure.exceeded(&short, at(9)));
        assert!(pressure.exceeded(&short, at(15)), "a new episode");
    }
}
