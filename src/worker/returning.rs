//! Tasks that go back to the queue unstarted.

use tokio::time::Instant;

use crate::api::Claim;

/// Tasks that wait for their way back, each with the time when it goes at the latest.
#[derive(Default)]
pub(super) struct Returning(Vec<(Instant, Claim)>);

impl Returning {
    /// Keeps tasks that go back until no call is open: by an open call they would come again, and lose one of their retries
    /// each time. But not for longer than half of their lease.
    pub(super) fn keep(&mut self, claims: &mut Vec<Claim>, now: Instant) {
        self.0.extend(claims.drain(..).map(|claim| (now + claim.lease / 2, claim)));
    }

    /// When the next one has to go.
    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        self.0.iter().map(|(latest, _)| *latest).min()
    }

    /// Those that go now: all if they are free to go, else those whose time has come.
    pub(super) fn due(&mut self, free: bool, now: Instant) -> Vec<Claim> {
        self.0.extract_if(.., |(latest, _)| free || now >= *latest).map(|(_, claim)| claim).collect()
    }
}
