//! Signatures that have done their work.
//!
//! A signed request that somebody recorded must not work twice. But clients that get no answer, or are told that the server failed, send
//! the same signed request again, and some do not sign it anew. So a signature is spent only once a whole answer other than a failure of
//! the server was handed out for it; until then it may be repeated. The table is bounded: of signatures that could still be valid it knows
//! the latest.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;

/// Signatures that are remembered.
const MOST: usize = 32_768;

/// What tells two signatures apart: the first bytes of the code, which covers nonce, date, method, path, host, and port.
type Mark = [u8; 16];

#[derive(Debug, Default)]
struct Table {
    known: HashSet<Mark>,
    /// In the order in which they were spent, with the second after which the signature is too old anyway.
    order: VecDeque<(Mark, i64)>,
}

/// All spent signatures that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Spent(Mutex<Table>);

impl Spent {
    /// Whether this signature has done its work.
    pub(crate) fn knows(&self, signature: &Signature) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.contains(&signature.mark)
    }

    fn add(&self, signature: &Signature, now: Timestamp) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Spends a signature when the answer has been handed out.
pub(crate) struct Receipt {
    spent: Arc<Spent>,
    signature: Signature,
    now: Timestamp,
}

impl Receipt {
    /// To be kept with the answer.
    pub(crate) fn new(spent: Arc<Spent>, signature: Signature, now: Timestamp) -> Self {
        Self { spent, signature, now }
    }

    /// The answer is out.
    pub(crate) fn sign(self) {
        self.spent.add(&self.signature, self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(number: u64, until: i64) -> Signature {
        let mac: Vec<u8> = number.to_be_bytes().repeat(4);
        Signature::new(&mac, until).expect("a signature")
    }

    #[test]
    fn spent_signatures_are_remembered_while_they_would_be_valid() {
        let at = |second| Timestamp::from_second(second).expect("a date");
        let spent = Arc::new(Spent::default());
        assert!(!spent.knows(&signature(1, 100)));
        Receipt::new(spent.clone(), signature(1, 100), at(0)).sign();
        assert!(spent.knows(&signature(1, 100)));
        Receipt::new(spent.clone(), signature(2, 200), at(101)).sign();
        assert!(!spent.knows(&signature(1, 100)), "it is refused for its age now");
        assert!(spent.knows(&signature(2, 200)));
    }

    #[test]
    fn the_table_is_bounded() {
        let now = Timestamp::UNIX_EPOCH;
        let spent = Spent::default();
        for number in 0..MOST as u64 + 10 {
            spent.add(&signature(number, 100), now);
        }
        let table = spent.0.lock().expect("no panic");
        assert_eq!((table.known.len(), table.order.len()), (MOST, MOST));
        drop(table);
        assert!(!spent.knows(&signature(0, 100)));
        assert!(spent.knows(&signature(MOST as u64 + 9, 100)));
    }
}
