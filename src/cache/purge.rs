//! When the purge-cache service is asked, and about what.
//!
//! ```text
//! never asked ──fine──▶ asked at T ──task with caches, or 6 h──▶ asked again since T − 5 min
//!      ▲ │                   ▲ │
//!      └─┘ failed            └─┘ failed: the next question covers that time, too
//! ```

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::table::PurgeRequest;
use crate::api::{ApiError, PurgeCache};

/// Without tasks that have caches, the service is asked this often.
const ASK_EVERY: SignedDuration = SignedDuration::from_hours(6);
/// The clocks of the service and of this machine may differ by this much.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(5);

/// Asks for purge requests of one pool.
pub struct Purges {
    service: PurgeCache,
    pool: String,
    /// When the last question was asked that got an answer.
    asked: Mutex<Option<Timestamp>>,
}

/// Whether it is time to ask, for a task without caches.
fn is_due(asked: Option<Timestamp>, now: Timestamp) -> bool {
    // A clock that went back says nothing about how long ago it was.
    asked.is_none_or(|asked| !(SignedDuration::ZERO..ASK_EVERY).contains(&now.duration_since(asked)))
}

/// From when on requests are new.
fn since(asked: Option<Timestamp>) -> Option<Timestamp> {
    asked.and_then(|asked| asked.checked_sub(CLOCK_SLACK).ok())
}

impl Purges {
    /// For a pool, `<provisionerId>/<workerType>`.
    pub fn new(service: PurgeCache, pool: String) -> Self {
        Self { service, pool, asked: Mutex::default() }
    }

    /// Whether a task without caches should ask, too.
    pub fn is_due(&self, now: Timestamp) -> bool {
        is_due(self.asked(), now)
    }

    /// Asks for what came up since the last answer.
    pub async fn ask(&self, now: Timestamp) -> Result<Vec<PurgeRequest>, ApiError> {
        let requests = self.service.requests(&self.pool, since(self.asked())).await?;
        self.note(now);
        Ok(requests
            .into_iter()
            .map(|request| PurgeRequest { cache_name: request.cache_name, before: request.before })
            .collect())
    }

    /// There are no caches, so there is nothing to ask about: requests until now mean none that will be made.
    pub fn nothing_to_purge(&self, now: Timestamp) {
        self.note(now);
    }

    fn note(&self, now: Timestamp) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        // Of two questions at once, the one asked later may be answered first.
        *asked = Some(asked.map_or(now, |asked| asked.max(now)));
    }

    fn asked(&self) -> Option<Timestamp> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        api::{
            CredentialsCell, Services,
            scripted::{Scripted, Seen, Step},
        },
        seam::{SeededRandom, SystemClock},
    };

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + secs).expect("a date")
    }

    #[test]
    fn a_task_without_caches_asks_every_six_hours() {
        assert!(is_due(None, at(0)));
        assert!(!is_due(Some(at(0)), at(0)) && !is_due(Some(at(0)), at(6 * 3600 - 1)));
        assert!(is_due(Some(at(0)), at(6 * 3600)) && is_due(Some(at(0)), at(-1)));
        assert_eq!((since(None), since(Some(at(0)))), (None, Some(at(-300))));
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_answer_moves_the_time_on() {
        let mut answers = [
            Step::answer(200, r#"{"requests": []}"#),
            Step::answer(403, "{}"),
            Step::answer(200, r#"{"requests": [{"cacheName": "c", "before": "2026-01-01T00:00:00Z", "workerType": "w"}]}"#),
        ]
        .into_iter();
        let script = move |_: &Seen| answers.next().expect("an answer");
        let transport = Arc::new(Scripted::new(script));
        let clock = Arc::new(SystemClock);
        let services = Services::new("http://tc.invalid", transport.clone(), clock, Arc::new(SeededRandom::new(1)));
        let service = PurgeCache::new(&services.expect("services"), CredentialsCell::anonymous());
        let purges = Purges::new(service, "p/w".to_owned());
        assert_eq!(purges.ask(at(0)).await.expect("an answer"), []);
        assert!(!purges.is_due(at(10)));
        purges.ask(at(1000)).await.expect_err("refused");
        assert_eq!(purges.ask(at(2000)).await.expect("an answer").len(), 1);
        let urls: Vec<String> = transport.seen().into_iter().map(|seen| seen.url).collect();
        let since = format!("since={}", format!("{:.3}", at(-300)).replace(':', "%3A"));
        assert!(urls[0].ends_with("/api/purge-cache/v1/purge-cache/p%2Fw"), "{urls:?}");
        assert!(urls[1].ends_with(&since) && urls[2].ends_with(&since), "{urls:?}");
    }
}
