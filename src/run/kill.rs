//! Ending one run from outside. The first reason stays; everybody who waits learns of it at once.

use std::sync::Arc;

use tokio::sync::watch;

use super::outcome::Kill;

/// The switch that ends a run. Clones share one switch.
#[derive(Debug, Clone)]
pub struct KillSwitch(Arc<watch::Sender<Option<Kill>>>);

impl Default for KillSwitch {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl KillSwitch {
    /// Ends the run for this reason, unless it was ended for another one before.
    pub fn kill(&self, kill: Kill) {
        self.0.send_if_modified(|first| {
            let changed = first.is_none();
            first.get_or_insert(kill);
            changed
        });
    }

    /// The reason, if the run was ended.
    pub fn reason(&self) -> Option<Kill> {
        self.0.borrow().clone()
    }

    /// Waits until the run is ended from outside; for ever if it never is.
    pub async fn killed(&self) -> Kill {
        let mut receiver = self.0.subscribe();
        loop {
            if let Some(kill) = receiver.borrow_and_update().clone() {
                return kill;
            }
            if receiver.changed().await.is_err() {
                // We hold a sender ourselves, so the channel cannot close.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tc_engine::StopReason;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_reason_stays_and_late_waiters_get_it() {
        let switch = KillSwitch::default();
        let waiting = tokio::spawn({
            let switch = switch.clone();
            async move { switch.killed().await.reason }
        });
        tokio::task::yield_now().await;
        switch.kill(Kill::new(StopReason::Deadline));
        switch.kill(Kill::new(StopReason::WorkerShutdown));
        assert_eq!(waiting.await.expect("the waiter ends"), StopReason::Deadline);
        assert_eq!(switch.killed().await.reason, StopReason::Deadline);
    }
}
