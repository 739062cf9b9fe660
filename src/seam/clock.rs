//! Time. The monotonic clock is tokio's, so tests can pause it; the wall clock is only for dates that others read.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Both clocks of this machine.
pub trait Clock: Send + Sync + 'static {
    /// The date, as this machine believes it. May jump.
    fn wall(&self) -> Timestamp;

    /// Never jumps. For every wait and every measured time.
    fn mono(&self) -> Instant {
        Instant::now()
    }
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A wall clock that follows tokio's clock, paused or not, and that a test can make jump.
#[derive(Debug)]
pub struct TestClock {
    origin: Instant,
    wall_at_origin: Mutex<Timestamp>,
}

impl TestClock {
    /// A clock that shows `wall` now. Needs a running tokio runtime if that runtime's clock is paused.
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { origin: Instant::now(), wall_at_origin: Mutex::new(wall) }
    }

    /// Lets the wall clock jump; the monotonic clock does not notice.
    pub fn jump(&self, by: SignedDuration) {
        let mut wall = self.wall_at_origin.lock().unwrap_or_else(PoisonError::into_inner);
        *wall = wall.saturating_add(by).unwrap_or(*wall);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Timestamp {
        let wall = *self.wall_at_origin.lock().unwrap_or_else(PoisonError::into_inner);
        wall.saturating_add(SignedDuration::try_from(self.origin.elapsed()).unwrap_or(SignedDuration::MAX)).unwrap_or(wall)
    }
}
