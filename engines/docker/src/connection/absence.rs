//! For how long nobody has been at the engine's address.
//!
//! ```text
//!            nobody is there                     nobody is there, and calls come often
//! Present ───────────────────▶ Absent since then ──────────────────────────────────────▶ …
//!    ▲                                │
//!    └────────────────────────────────┴── any other result of a call, or no calls for a while
//! ```
//!
//! Whoever waits for an engine asks it again and again. A refusal that came long after the one before belongs to another time.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Refusals that are further apart say nothing about the time between them.
const GAP: Duration = Duration::from_secs(5);

/// What refused connections have shown.
#[derive(Debug, Default)]
pub(super) struct Absence(Mutex<Option<Refused>>);

#[derive(Debug, Clone, Copy)]
struct Refused {
    first: Instant,
    last: Instant,
}

impl Absence {
    /// Notes what one call has shown.
    pub(super) fn note(&self, absent: bool, now: Instant) {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = absent.then(|| match *refused {
            Some(Refused { first, last }) if now.duration_since(last) <= GAP => Refused { first, last: now },
            _ => Refused { first: now, last: now },
        });
    }

    /// How long it lasts.
    pub(super) fn lasts(&self, now: Instant) -> Duration {
        let refused = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused
            .filter(|refused| now.duration_since(refused.last) <= GAP)
            .map_or(Duration::ZERO, |r| now.duration_since(r.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_lasts_until_somebody_is_there() {
        let (absence, begin) = (Absence::default(), Instant::now());
        let at = |secs| begin + Duration::from_secs(secs);
        assert_eq!(absence.lasts(at(0)), Duration::ZERO);
        for secs in 0..=9 {
            absence.note(true, at(secs));
        }
        assert_eq!(absence.lasts(at(10)), Duration::from_secs(10));
        absence.note(false, at(10));
        assert_eq!(absence.lasts(at(10)), Duration::ZERO);
    }

    #[test]
    fn an_earlier_absence_is_another_one() {
        let (absence, begin) = (Absence::default(), Instant::now());
        let at = |secs| begin + Duration::from_secs(secs);
        absence.note(true, at(0));
        assert_eq!(absence.lasts(at(60)), Duration::ZERO, "nobody has looked");
        absence.note(true, at(60));
        assert_eq!(absence.lasts(at(61)), Duration::from_secs(1));
    }
}
