//! Trying again: jittered exponential back-off under a total bound.

use std::time::Duration;

use tokio::time::Instant;

use super::ApiError;
use crate::seam::Random;

/// How often and how long a call is tried.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// First wait.
    pub first: Duration,
    /// Longest wait.
    pub longest: Duration,
    /// No try begins later than this after the first one.
    pub total: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), longest: Duration::from_secs(60), total: Duration::from_secs(900) }
    }
}

impl RetryPolicy {
    /// Calls `attempt` until it succeeds, fails for good, or time is up. Each attempt makes a request of its own.
    pub async fn run<T, F: Future<Output = Result<T, ApiError>>>(
        &self,
        random: &dyn Random,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ApiError> {
        let began = Instant::now();
        let mut wait = self.first;
        loop {
            let error = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = wait.mul_f64(0.5 + random.fraction()).max(error.retry_after().unwrap_or_default());
            if !error.is_temporary() || began.elapsed() + pause > self.total {
                return Err(error);
            }
            tracing::debug!("{error}, trying again in {} ms", pause.as_millis());
            tokio::time::sleep(pause).await;
            wait = wait.mul_f64(1.5).min(self.longest);
        }
    }
}
