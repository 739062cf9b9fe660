//! Ending one run from outside. The first reason decides; later ones are known, too, because they bound what is still going
//! on. Everybody who waits learns of them at once.

use std::sync::Arc;

use tc_engine::StopReason;
use tokio::sync::watch;

use super::outcome::Kill;

/// The switch that ends a run. Clones share one switch.
#[derive(Debug, Clone)]
pub struct KillSwitch(Arc<watch::Sender<Vec<Kill>>>);

impl Default for KillSwitch {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl KillSwitch {
    /// Ends the run for this reason, unless it was ended for another one before.
    pub fn kill(&self, kill: Kill) {
        self.0.send_if_modified(|kills| {
            let new = kills.iter().all(|before| before.reason != kill.reason);
            if new {
                kills.push(kill);
            }
            new
        });
    }

    /// The first reason, if the run was ended.
    pub fn reason(&self) -> Option<Kill> {
        self.0.borrow().first().cloned()
    }

    /// Waits until the run is ended from outside; for ever if it never is.
    pub async fn killed(&self) -> Kill {
        self.given(|_| true).await
    }

    /// Waits until a reason of this kind is given, be it the first or a later one.
    pub async fn given(&self, wanted: impl Fn(StopReason) -> bool) -> Kill {
        let mut receiver = self.0.subscribe();
        loop {
            let found = receiver.borrow_and_update().iter().find(|kill| wanted(kill.reason)).cloned();
            if let Some(kill) = found {
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
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_reason_decides_and_late_waiters_get_it() {
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

    #[tokio::test(start_paused = true)]
    async fn a_later_reason_is_known_to_those_who_ask_for_it() {
        let switch = KillSwitch::default();
        switch.kill(Kill::new(StopReason::MaxRunTime));
        switch.kill(Kill::new(StopReason::WorkerShutdown));
        let shutdown = switch.given(|reason| reason == StopReason::WorkerShutdown).await;
        assert_eq!(shutdown.reason, StopReason::WorkerShutdown);
        assert_eq!(switch.reason().map(|kill| kill.reason), Some(StopReason::MaxRunTime));
    }
}
