//! Noticing that running tasks were canceled: one unauthenticated status call for all of them, now and then.
//!
//! ```text
//!   Waiting ──due, something runs──▶ asked ──answered──▶ Waiting (interval ± 20 %)
//!      ▲                               ├──failed──────▶ Waiting (twice as long, at most ten minutes)
//!      └──────── an hour ──────────────┴──refused─────▶ Off
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing::{info, warn};

use crate::{
    api::{ApiError, CredentialsCell, Services},
    run::{keeper::verdict, kill::KillSwitch},
    seam::Random,
};

/// Longest time between two calls when they fail.
const LONGEST_INTERVAL: Duration = Duration::from_secs(600);
/// How long a queue that refuses the call is left alone.
const OFF_FOR: Duration = Duration::from_secs(3600);

/// The runs that are watched.
#[derive(Debug, Clone, Default)]
pub struct Watched(Arc<Mutex<HashMap<(String, u32), KillSwitch>>>);

impl Watched {
    /// Watches a run.
    pub fn add(&self, task_id: &str, run_id: u32, kill: KillSwitch) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((task_id.to_owned(), run_id), kill);
    }

    /// Watches it no more.
    pub fn remove(&self, task_id: &str, run_id: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(task_id.to_owned(), run_id));
    }

    fn all(&self) -> HashMap<(String, u32), KillSwitch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Fine,
    Failed,
    Refused,
}

impl From<&ApiError> for Answer {
    fn from(error: &ApiError) -> Self {
        match error.status() {
            Some(401 | 403 | 404) => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// When the next call is due.
#[derive(Debug)]
struct Cadence {
    interval: Duration,
    failures: u32,
}

impl Cadence {
    /// The wait before the next call. `jitter` is in `0.0..1.0`.
    fn next(&mut self, answer: Answer, jitter: f64) -> Duration {
        match answer {
            Answer::Fine => self.failures = 0,
            Answer::Failed => self.failures += 1,
            Answer::Refused => {
                self.failures = 0;
                return OFF_FOR;
            }
        }
        let longest = LONGEST_INTERVAL.max(self.interval);
        let interval = self.interval.saturating_mul(1 << self.failures.min(10)).min(longest);
        interval.mul_f64(0.8 + 0.4 * jitter)
    }
}

/// Watches until it is dropped.
pub async fn watch(services: Services, watched: Watched, interval: Duration, random: Arc<dyn Random>) {
    let queue = services.queue(CredentialsCell::anonymous());
    let mut cadence = Cadence { interval, failures: 0 };
    let mut answer = Answer::Fine;
    loop {
        tokio::time::sleep(cadence.next(answer, random.fraction())).await;
        let runs = watched.all();
        if runs.is_empty() {
            answer = Answer::Fine;
            continue;
        }
        let mut task_ids: Vec<String> = runs.keys().map(|(task_id, _)| task_id.clone()).collect();
        task_ids.sort_unstable();
        task_ids.dedup();
        answer = match queue.statuses(&task_ids).await {
            Ok(statuses) => {
                for ((task_id, run_id), kill) in &runs {
                    let status = statuses.iter().find(|status| status.task_id == *task_id);
                    if let Some(reason) = status.and_then(|status| verdict(status, *run_id)) {
                        info!("Task {task_id} run {run_id} has ended on the queue: {}", reason.message);
                        kill.kill(reason);
                    }
                }
                Answer::Fine
            }
            Err(error) => {
                let answer = Answer::from(&error);
                if answer == Answer::Refused {
                    warn!("The queue does not tell task statuses, canceled tasks are noticed late for an hour: {error}");
                }
                answer
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cadence_jitters_backs_off_and_leaves_a_queue_alone_that_refuses() {
        let minute = Duration::from_secs(60);
        let mut cadence = Cadence { interval: minute, failures: 0 };
        assert_eq!(cadence.next(Answer::Fine, 0.0), Duration::from_secs(48));
        assert_eq!(cadence.next(Answer::Fine, 1.0), Duration::from_secs(72));
        assert_eq!(cadence.next(Answer::Failed, 0.5), 2 * minute);
        assert_eq!(cadence.next(Answer::Failed, 0.5), 4 * minute);
        for _ in 0..40 {
            cadence.next(Answer::Failed, 0.5);
        }
        assert_eq!(cadence.next(Answer::Failed, 0.5), LONGEST_INTERVAL);
        assert_eq!(cadence.next(Answer::Refused, 0.9), OFF_FOR);
        assert_eq!(cadence.next(Answer::Fine, 0.5), minute);
    }
}
