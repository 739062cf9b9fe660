//! Signatures that have done their work.
//!
//! A signed request that somebody recorded must not work twice. But clients that get no answer, or are told that the server failed, send
//! the same signed request again, and some do not sign it anew. So a signature is spent only once a whole answer other than a failure of
//! the server was handed out for it; until then it may be repeated, but not by several at once:
//!
//! ```text
//!  new ──receipt──▶ busy ──an answer was handed out──▶ spent
//!   ▲                └── no answer, or the server failed: the next one may ──┐
//!   └────────────────────────────────────────────────────────────────────────┘
//! ```
//! The table is bounded: of signatures that could still be valid it knows the latest, and as many are busy as there are requests.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Notify;

/// Signatures that are remembered.
const MOST: usize = 32_768;

/// How long a request waits for another one with the same signature: longer than a claim is answered, which takes longest.
const PATIENCE: Duration = Duration::from_secs(30);

/// What tells two signatures apart: the first bytes of the code, which covers nonce, date, method, path, host, and port.
type Mark = [u8; 16];

#[derive(Debug, Default)]
struct Table {
    known: HashSet<Mark>,
    /// In the order in which they were spent, with the second after which the signature is too old anyway.
    order: VecDeque<(Mark, i64)>,
    /// Those of requests that are being answered.
    busy: HashSet<Mark>,
}

/// All spent signatures that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    table: Mutex<Table>,
    /// One is busy no more.
    freed: Notify,
}

/// Why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Replayed {
    #[error("this signature was used before: every request has to be signed anew")]
    Spent,
    #[error("another request with this signature is still being answered: every request has to be signed anew")]
    Busy,
}

impl Spent {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this signature has done its work.
    pub(crate) fn knows(&self, signature: &Signature) -> bool {
        self.table().known.contains(&signature.mark)
    }

    /// The receipt for an answer to a request with this signature. Of several requests with the same one, one is answered after the other, and
    /// those that come after an answer are refused.
    pub(crate) async fn receipt(self: &Arc<Self>, signature: Signature, now: Timestamp) -> Result<Receipt, Replayed> {
        let turn = async {
            loop {
                let mut freed = std::pin::pin!(self.freed.notified());
                // From here on nothing is missed.
                freed.as_mut().enable();
                {
                    let mut table = self.table();
                    if table.known.contains(&signature.mark) {
                        return Err(Replayed::Spent);
                    }
                    if table.busy.insert(signature.mark) {
                        return Ok(Receipt { spent: Arc::clone(self), signature, now });
                    }
                }
                freed.await;
            }
        };
        tokio::time::timeout(PATIENCE, turn).await.unwrap_or(Err(Replayed::Busy))
    }

    fn add(&self, signature: &Signature, now: Timestamp) {
        let mut table = self.table();
        while table.order.len() >= MOST || table.order.front().is_some_and(|(_, until)| *until < now.as_second()) {
            let Some((oldest, _)) = table.order.pop_front() else { break };
            table.known.remove(&oldest);
        }
        if table.known.insert(signature.mark) {
            table.order.push_back((signature.mark, signature.until));
        }
    }
}

/// A valid signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signature {
    mark: Mark,
    until: i64,
}

impl Signature {
    /// The signature with this code, which is valid up to this second. A code is never that short, as it was verified.
    pub(crate) fn new(mac: &[u8], until: i64) -> Option<Self> {
        Some(Self { mark: mac.get(..16)?.try_into().ok()?, until })
    }
}

/// Put on a request whose answer will not arrive whole, because faults want it so: its signature is not spent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unanswered;

/// Spends a signature when the answer has been handed out. Dropped before that, it leaves the signature to the next one.
pub(crate) struct Receipt {
    spent: Arc<Spent>,
    signature: Signature,
    now: Timestamp,
}

impl Receipt {
    /// The answer is out.
    pub(crate) fn sign(self) {
        self.spent.add(&self.signature, self.now);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.spent.table().busy.remove(&self.signature.mark);
        self.spent.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(number: u64, until: i64) -> Signature {
        let mac: Vec<u8> = number.to_be_bytes().repeat(4);
        Signature::new(&mac, until).expect("a signature")
    }

    #[tokio::test]
    async fn spent_signatures_are_remembered_while_they_would_be_valid() {
        let at = |second| Timestamp::from_second(second).expect("a date");
        let spent = Arc::new(Spent::default());
        assert!(!spent.knows(&signature(1, 100)));
        spent.receipt(signature(1, 100), at(0)).await.expect("a receipt").sign();
        assert!(spent.knows(&signature(1, 100)));
        assert_eq!(spent.receipt(signature(1, 100), at(0)).await.err(), Some(Replayed::Spent));
        spent.receipt(signature(2, 200), at(101)).await.expect("a receipt").sign();
        assert!(!spent.knows(&signature(1, 100)), "it is refused for its age now");
        assert!(spent.knows(&signature(2, 200)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_with_a_signature_is_answered_after_the_other() {
        let (now, of_it) = (Timestamp::UNIX_EPOCH, signature(1, 100));
        let spent = Arc::new(Spent::default());
        let first = spent.receipt(of_it, now).await.expect("a receipt");
        let another = spent.receipt(signature(2, 100), now).await.expect("others do not wait");
        assert_eq!(spent.receipt(of_it, now).await.err(), Some(Replayed::Busy));
        // One that got no answer leaves the place to the next, one that did does not.
        let (second, ()) = tokio::join!(spent.receipt(of_it, now), async { drop(first) });
        let second = second.expect("a receipt");
        let (third, ()) = tokio::join!(spent.receipt(of_it, now), async { second.sign() });
        assert_eq!(third.err(), Some(Replayed::Spent));
        drop(another);
        assert!(spent.table().busy.is_empty());
    }

    #[test]
    fn the_table_is_bounded() {
        let now = Timestamp::UNIX_EPOCH;
        let spent = Spent::default();
        for number in 0..MOST as u64 + 10 {
            spent.add(&signature(number, 100), now);
        }
        let table = spent.table();
        assert_eq!((table.known.len(), table.order.len()), (MOST, MOST));
        drop(table);
        assert!(!spent.knows(&signature(0, 100)));
        assert!(spent.knows(&signature(MOST as u64 + 9, 100)));
    }
}
