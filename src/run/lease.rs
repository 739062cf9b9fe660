//! How long a run is ours, without any effect.
//!
//! ```text
//!            granted
//!               │
//!               ▼        renewal due         answered
//!            Holding ───────────────▶ Asking ─────────▶ Holding
//!               │                      │   ▲
//!               │              refused │   │ try again (back-off, never past the end)
//!               │                      ▼   │
//!               │                     Waiting
//!               ▼                      │
//!             Lost ◀──conflict, or the lease has ended─┘
//! ```
//!
//! All times are on the monotonic clock. The length of a lease comes from the dates of the answer that granted it, so a
//! wrong clock on this machine neither shortens nor lengthens it.

use std::time::Duration;

use tokio::time::Instant;

/// A renewal is due this long before the lease ends, or at half of the lease if that is later.
pub const RENEWAL_LEAD: Duration = Duration::from_secs(180);
/// First wait after a refused renewal.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait after a refused renewal.
pub const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Longest wait for the answer to one renewal.
pub const LONGEST_CALL: Duration = Duration::from_secs(30);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// Time passed; see [`Lease::next_wakeup`].
    Tick,
    /// The service renewed the lease for this long from the moment the request was sent.
    Renewed(Duration),
    /// The renewal failed in a way that may pass.
    Refused {
        /// When the service asked for a pause: how long.
        pause: Option<Duration>,
        /// A fresh random number in `0.0..1.0`.
        jitter: f64,
    },
    /// The service says that the run is not ours any more.
    Conflict,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ask for a renewal.
    Renew,
    /// The run is not ours any more; said once.
    Lost(Loss),
}

/// Why a lease is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The service said so.
    TakenAway,
    /// It ran out before a renewal succeeded.
    RanOut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Holding,
    Asking { since: Instant },
    Waiting { until: Instant },
    Lost,
}

/// The lease of one run.
#[derive(Debug)]
pub struct Lease {
    stage: Stage,
    renew_at: Instant,
    ends: Instant,
    refusals: u32,
}

impl Lease {
    /// A lease of this length that begins now.
    pub fn granted(length: Duration, now: Instant) -> Self {
        Self { stage: Stage::Holding, renew_at: Self::renewal(length, now), ends: now + length, refusals: 0 }
    }

    fn renewal(length: Duration, now: Instant) -> Instant {
        now + length.saturating_sub(RENEWAL_LEAD.min(length / 2))
    }

    /// When the lease ends if it is not renewed.
    pub fn ends(&self) -> Instant {
        self.ends
    }

    /// How long to wait for the answer to one renewal, so that there is time for others before the lease ends.
    pub fn patience(&self, now: Instant) -> Duration {
        (self.ends.saturating_duration_since(now) / 3).min(LONGEST_CALL).max(Duration::from_millis(500))
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub fn next_wakeup(&self) -> Option<Instant> {
        match self.stage {
            Stage::Holding => Some(self.renew_at),
            Stage::Asking { .. } => Some(self.ends),
            Stage::Waiting { until } => Some(until.min(self.ends)),
            Stage::Lost => None,
        }
    }

    /// Takes an event in and says what to do.
    pub fn on(&mut self, event: Event, now: Instant) -> Option<Effect> {
        if self.stage == Stage::Lost {
            return None;
        }
        match event {
            Event::Tick if now >= self.ends => Some(self.lose(Loss::RanOut)),
            Event::Tick => {
                let due = match self.stage {
                    Stage::Holding => now >= self.renew_at,
                    Stage::Waiting { until } => now >= until,
                    Stage::Asking { .. } | Stage::Lost => false,
                };
                due.then(|| {
                    self.stage = Stage::Asking { since: now };
                    Effect::Renew
                })
            }
            Event::Renewed(length) => {
                let since = if let Stage::Asking { since } = self.stage { since } else { now };
                *self = Self::granted(length, since);
                None
            }
            Event::Refused { pause, jitter } => {
                let wait = FIRST_RETRY.saturating_mul(1 << self.refusals.min(5)).min(LONGEST_RETRY);
                let wait = wait
                    .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
                    .max(pause.unwrap_or_default().min(self.ends.saturating_duration_since(now) / 2));
                self.refusals += 1;
                self.stage = Stage::Waiting { until: now + wait };
                (now >= self.ends).then(|| self.lose(Loss::RanOut))
            }
            Event::Conflict => Some(self.lose(Loss::TakenAway)),
        }
    }

    fn lose(&mut self, loss: Loss) -> Effect {
        self.stage = Stage::Lost;
        Effect::Lost(loss)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_usual_lease_is_renewed_three_minutes_before_its_end_and_a_short_one_at_its_half() {
        let now = Instant::now();
        assert_eq!(Lease::granted(secs(1200), now).next_wakeup(), Some(now + secs(1020)));
        assert_eq!(Lease::granted(secs(10), now).next_wakeup(), Some(now + secs(5)));
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_asked_for() {
        let now = Instant::now();
        let mut lease = Lease::granted(secs(10), now);
        assert_eq!(lease.on(Event::Tick, now + secs(5)), Some(Effect::Renew));
        assert_eq!(lease.on(Event::Renewed(secs(10)), now + secs(7)), None);
        assert_eq!(lease.ends(), now + secs(15));
    }

    #[test]
    fn a_refused_renewal_is_tried_again_until_the_lease_ends() {
        let begin = Instant::now();
        let mut now = begin;
        let mut lease = Lease::granted(secs(60), now);
        let mut tries = 0;
        loop {
            now = lease.next_wakeup().expect("not lost yet");
            match lease.on(Event::Tick, now) {
                Some(Effect::Renew) => {
                    tries += 1;
                    lease.on(Event::Refused { pause: None, jitter: 0.5 }, now);
                }
                Some(Effect::Lost(loss)) => {
                    assert_eq!(loss, Loss::RanOut);
                    break;
                }
                None => {}
            }
        }
        assert!(tries >= 4, "{tries}");
        assert_eq!(now, begin + secs(60));
    }

    #[test]
    fn a_conflict_ends_it_at_once_and_once() {
        let now = Instant::now();
        let mut lease = Lease::granted(secs(60), now);
        lease.on(Event::Tick, now + secs(30));
        assert_eq!(lease.on(Event::Conflict, now + secs(30)), Some(Effect::Lost(Loss::TakenAway)));
        assert_eq!(lease.on(Event::Conflict, now + secs(30)), None);
        assert_eq!(lease.next_wakeup(), None);
    }

    proptest! {
        /// Whatever the service answers, there is no storm: renewals are at least half a second apart, unless leases are shorter.
        #[test]
        fn there_is_no_storm(lengths in proptest::collection::vec((2..4000_u64, 0..3_u8, 0.0..1.0_f64), 1..200)) {
            let mut now = Instant::now();
            let mut lease = Lease::granted(secs(lengths[0].0), now);
            let mut last: Option<Instant> = None;
            for (length, answer, jitter) in lengths {
                let Some(next) = lease.next_wakeup() else { break };
                prop_assert!(next <= lease.ends());
                now = now.max(next);
                match lease.on(Event::Tick, now) {
                    Some(Effect::Renew) => {
                        if let Some(last) = last { prop_assert!(now - last >= Duration::from_millis(500)); }
                        last = Some(now);
                        match answer {
                            0 => { lease.on(Event::Refused { pause: None, jitter }, now); }
                            _ => { lease.on(Event::Renewed(secs(length)), now); }
                        }
                    }
                    Some(Effect::Lost(_)) => prop_assert!(now >= lease.ends()),
                    None => {}
                }
            }
        }
    }
}
