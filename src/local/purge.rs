//! The purge-cache service: who wants which caches to be made anew.
//!
//! [`Requests`] is a plain value; the calls are below it. A request is forgotten after a day, as caches of workers that have not
//! asked for that long are nobody's concern here.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    auth::Need,
    check::{Fields, TASK_QUEUE_ID, Text},
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    ledger::{Damage, Kind, Ledger, OpenError},
    page::Page,
    reply::Reply,
    view::Date,
};

/// How long a request is shown.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);
/// Requests that are kept; the oldest give way.
const MOST: usize = 1000;

/// Open requests: the time before which caches are meant, by pool and cache name.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    open: BTreeMap<Key, Timestamp>,
    /// Those that are not in the ledger as they are here.
    changed: Vec<Key>,
}

/// Pool and cache name.
type Key = (String, String);

/// Records under [`record`]. The bytes are the date.
const KIND: Kind = "purge";

/// A request's name: `<pool>/<cache name>`, and a pool has exactly one slash.
fn record((pool, cache_name): (&str, &str)) -> String {
    format!("{pool}/{cache_name}")
}

/// Pool and cache name of such a name.
fn split(record: &str) -> Option<(&str, &str)> {
    let (at, _) = record.match_indices('/').nth(1)?;
    Some((record.get(..at)?, record.get(at + 1..)?))
}

impl Requests {
    /// The requests that were kept.
    pub(crate) fn restore(ledger: &Ledger) -> Result<Self, OpenError> {
        let (mut open, mut damage) = (BTreeMap::new(), Damage::default());
        ledger.each(KIND, |key, bytes| {
            let before = str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
            let request = damage.unless(KIND, key, split(key).zip(before));
            open.extend(request.map(|((pool, name), before)| ((pool.to_owned(), name.to_owned()), before)));
        })?;
        damage.tell();
        Ok(Self { open, changed: Vec::new() })
    }

    /// Notes what has changed.
    fn keep(&mut self, ledger: &Ledger) {
        for key in self.changed.drain(..) {
            let record = record((&key.0, &key.1));
            match self.open.get(&key) {
                Some(before) => ledger.put(KIND, &record, before.to_string().into_bytes()),
                None => ledger.remove(KIND, &record),
            }
        }
    }

    /// Makes a request, or makes an earlier one later.
    fn add(&mut self, now: Timestamp, pool: &str, cache_name: &str) {
        self.forget(now);
        let key = (pool.to_owned(), cache_name.to_owned());
        if self.open.len() >= MOST
            && !self.open.contains_key(&key)
            && let Some(oldest) = self.open.iter().min_by_key(|(_, before)| **before).map(|(key, _)| key.clone())
        {
            self.open.remove(&oldest);
            self.changed.push(oldest);
        }
        self.changed.push(key.clone());
        self.open.insert(key, now);
    }

    /// The open requests that `wanted` says.
    fn open(&mut self, now: Timestamp, wanted: impl Fn(&str, Timestamp) -> bool) -> Vec<(&str, &str, Timestamp)> {
        self.forget(now);
        let all = self.open.iter().map(|((pool, name), before)| (pool.as_str(), name.as_str(), *before));
        all.filter(|(pool, _, before)| wanted(pool, *before)).collect()
    }

    fn forget(&mut self, now: Timestamp) {
        let Self { open, changed } = self;
        open.retain(|key, before| {
            let kept = now.duration_since(*before) < KEPT_FOR;
            if !kept {
                changed.push(key.clone());
            }
            kept
        });
    }
}

/// The pool in the path.
fn pool(call: &Call) -> Result<&str, Fault> {
    let pool = call.param("workerPoolId");
    match TASK_QUEUE_ID.problem(pool) {
        None => Ok(pool),
        Some(problem) => Err(Fault::new(Code::InvalidRequestArguments, format!("workerPoolId `{pool}` {problem}"))),
    }
}

/// `purgeCache`
pub(crate) async fn request(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let pool = pool(&call)?;
    let mut problems = Vec::new();
    let cache_name = Fields::of(&call.body, "", &mut problems).and_then(|mut fields| {
        fields.only(&["cacheName"]);
        fields.text("cacheName", &Text::up_to(4096)).map(str::to_owned)
    });
    let Some(cache_name) = cache_name.filter(|_| problems.is_empty()) else {
        return Err(Fault::invalid_body("purgeCache", &problems));
    };
    call.authorize(&Need::scope(format!("purge-cache:{pool}:{cache_name}")))?;
    let mut requests = desk.purges.lock().unwrap_or_else(PoisonError::into_inner);
    requests.add(call.now, pool, &cache_name);
    requests.keep(&desk.ledger);
    Ok(Reply::json(&json!({})))
}

/// `purgeRequests`
pub(crate) async fn requests(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let pool = pool(&call)?;
    call.authorize(&Need::scope(format!("purge-cache:purge-requests::{pool}")))?;
    let since = match call.query("since") {
        None => Timestamp::MIN,
        Some(text) => text
            .parse::<Timestamp>()
            .map_err(|_| Fault::new(Code::InvalidRequestArguments, format!("since `{text}` must be a date and time")))?,
    };
    let mut requests = desk.purges.lock().unwrap_or_else(PoisonError::into_inner);
    let open = requests.open(call.now, |of, before| of == pool && before >= since);
    Ok(Reply::json(&json!({ "requests": open.into_iter().map(shown).collect::<Vec<_>>() })))
}

/// `allPurgeRequests`
pub(crate) async fn all(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    call.authorize(&Need::scope("purge-cache:all-purge-requests"))?;
    let page = Page::of(&call)?;
    let after = page.after_as(|record| split(record).map(|(pool, cache_name)| (pool.to_owned(), cache_name.to_owned())))?;
    let after = after.as_ref().map(|(pool, cache_name)| (pool.as_str(), cache_name.as_str()));
    let mut requests = desk.purges.lock().unwrap_or_else(PoisonError::into_inner);
    let open = requests.open(call.now, |_, _| true).into_iter();
    let open = open.filter(|(pool, name, _)| after.is_none_or(|after| (*pool, *name) > after)).take(page.collect());
    let named = open.map(|request| (record((request.0, request.1)), request)).collect();
    Ok(Reply::json(&page.answer("requests", named, |(record, _)| record, |(_, request)| shown(*request))))
}

fn shown((pool, cache_name, before): (&str, &str, Timestamp)) -> Value {
    let (provisioner_id, worker_type) = pool.split_once('/').unwrap_or((pool, ""));
    json!({
        "provisionerId": provisioner_id, "workerType": worker_type, "cacheName": cache_name, "before": Date(before),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_renewed_forgotten_and_bounded() {
        let at = |secs: i64| Timestamp::from_second(1_800_000_000 + secs).expect("a date");
        let mut requests = Requests::default();
        requests.add(at(0), "p/w", "a");
        requests.add(at(10), "p/w", "a");
        requests.add(at(20), "p/x", "a");
        assert_eq!(requests.open(at(30), |pool, _| pool == "p/w"), [("p/w", "a", at(10))]);
        assert_eq!(requests.open(at(24 * 3600 + 15), |_, _| true), [("p/x", "a", at(20))]);
        for number in 0..2 * MOST {
            requests.add(at(100), "p/w", &number.to_string());
        }
        assert_eq!(requests.open.len(), MOST);
    }
}
