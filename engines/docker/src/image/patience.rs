//! How long the engine may take. A question is answered soon, or the engine is stuck; loads and pulls take as long as they
//! take, but an engine that is busy with one still tells its version.

use std::{future::Future, time::Duration};

use bollard::errors::Error;
use tokio::time::{sleep, timeout};

use super::{Inner, failure};

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A question, which a busy disk makes slow.
    pub call: Duration,
    /// Removing an image, whose files may be many.
    pub removal: Duration,
    /// While the engine loads or pulls, it is asked for its version this often, and may take as long to answer.
    pub look: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { call: Duration::from_secs(60), removal: Duration::from_secs(600), look: Duration::from_secs(30) }
    }
}

/// As many questions in a row without an answer mean that there will be none.
const MISSES: u32 = 2;

/// As often is the engine asked something before its trouble is believed.
const ATTEMPTS: u32 = 4;

/// Makes one call, for which the engine may take this long.
pub async fn within<T>(bound: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(bound, call).await.unwrap_or(Err(Error::RequestTimeoutError))
}

impl Inner {
    /// Asks the engine something, several times if it has a bad moment. `call` may be carried out twice.
    pub(super) async fn ask<T, F: Future<Output = Result<T, Error>>>(&self, call: impl Fn() -> F) -> Result<T, Error> {
        let mut wait = self.options.first_wait;
        for _ in 1..ATTEMPTS {
            match within(self.options.patience.call, call()).await {
                Err(error) if failure::is_momentary(&error) => tracing::info!("Asking the Docker engine again: {error}"),
                came => return came,
            }
            sleep(wait).await;
            wait *= 2;
        }
        within(self.options.patience.call, call()).await
    }

    /// Returns when the engine has stopped answering, with a sentence fragment that says so.
    pub(super) async fn deaf(&self) -> String {
        let look = self.options.patience.look;
        let mut misses = 0;
        loop {
            sleep(look).await;
            let why = match self.connection.call(look, self.connection.docker().version()).await {
                Ok(_) => {
                    misses = 0;
                    continue;
                }
                Err(failure) => failure.to_string(),
            };
            misses += 1;
            if misses >= MISSES {
                return why;
            }
        }
    }
}
