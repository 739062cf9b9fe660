//! The plan: which request meets which fault. Pure: the same rules, seed and order of requests give the same faults.
//!
//! Each rule counts the requests that match it and that no rule before it has spoiled, and throws a coin of its own for each of them: rules
//! `first 2` and `first 3` for one place follow each other, and a rule that is added at the end changes nothing for the others.

use std::time::Duration;

use super::rule::{After, Described, Kind, Refused, Rule, Side, cut_side};

/// What happens to one request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Fate {
    /// How long it waits first.
    pub(crate) delay: Duration,
    /// What happens then, and the position of the rule that wanted it.
    pub(crate) action: Option<(usize, Action)>,
}

/// What is done to one request, with nothing left to decide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Action {
    /// The connection ends, and the call takes no effect.
    DropRequest,
    /// The call takes effect, and the connection ends.
    DropAnswer,
    Refuse(Refused),
    /// The call takes effect; its answer is no JSON.
    Garbage,
    /// The call takes effect; its answer is no HTTP.
    NoHttp,
    CutRequest(u64),
    CutAnswer(After),
    /// Content-Length is larger or smaller than the body.
    WrongLength {
        larger: bool,
    },
    Expire,
    Steal,
}

impl Action {
    /// Whether what the call answers is handed out, but does not arrive as it is.
    pub(crate) fn breaks_the_answer(self) -> bool {
        matches!(self, Self::CutAnswer(_) | Self::WrongLength { .. })
    }
}

/// Rules and what they have seen.
#[derive(Debug)]
pub(crate) struct Plan {
    rules: Vec<Rule>,
    seed: u64,
    seen: Vec<u64>,
    met: Vec<u64>,
}

impl Plan {
    pub(crate) fn new(rules: Vec<Rule>, seed: u64) -> Self {
        Self { seen: vec![0; rules.len()], met: vec![0; rules.len()], rules, seed }
    }

    /// The rule at a position that a [`Fate`] names.
    pub(crate) fn rule(&self, position: usize) -> &str {
        self.rules.get(position).map_or("", |rule| &rule.text)
    }

    /// How many requests met each rule, in the order of the rules.
    pub(crate) fn met(&self) -> &[u64] {
        &self.met
    }

    /// What happens to this request. All delays add up; of everything else the first rule that applies decides.
    pub(crate) fn decide(&mut self, request: &Described<'_>) -> Fate {
        let mut fate = Fate::default();
        for (position, rule) in self.rules.iter().enumerate() {
            let taken = fate.action.is_some() && !matches!(rule.kind, Kind::Delay(_));
            if taken || !rule.place.matches(request) || !rule.kind.fits(request) {
                continue;
            }
            self.seen[position] += 1;
            let n = self.seen[position];
            let coin = |throw: u64| fraction([self.seed, position as u64, n, throw]);
            if !rule.limits.allow(n, coin(0)) {
                continue;
            }
            match rule.kind {
                Kind::Delay(time) => fate.delay += time,
                kind => fate.action = action(kind, request, coin(1) < 0.5).map(|action| (position, action)),
            }
            self.met[position] += 1;
        }
        fate
    }
}

fn action(kind: Kind, request: &Described<'_>, heads: bool) -> Option<Action> {
    Some(match kind {
        Kind::Delay(_) => return None,
        Kind::Drop(Some(Side::Request)) => Action::DropRequest,
        Kind::Drop(Some(Side::Answer)) => Action::DropAnswer,
        Kind::Drop(None) => {
            if heads {
                Action::DropRequest
            } else {
                Action::DropAnswer
            }
        }
        Kind::Status(refused) => Action::Refuse(refused),
        // Bytes that nobody can tell from the right ones would be no fault that a client could notice.
        Kind::Garbage { http: false } if request.service == super::names::STORE => Action::NoHttp,
        Kind::Garbage { http } => {
            if http {
                Action::NoHttp
            } else {
                Action::Garbage
            }
        }
        Kind::Cut { side, after } => match (cut_side(side, request.method), after) {
            (Side::Answer, after) => Action::CutAnswer(after),
            (Side::Request, After::Bytes(bytes)) => Action::CutRequest(bytes),
            (Side::Request, After::Half) => Action::CutRequest(request.body_bytes.unwrap_or_default() / 2),
        },
        Kind::WrongLength => Action::WrongLength { larger: heads },
        Kind::Expired => Action::Expire,
        Kind::Stolen => Action::Steal,
    })
}

/// A number in `0.0..1.0` that depends on all of these and looks as if it did not.
fn fraction(of: [u64; 4]) -> f64 {
    let mut state = 0_u64;
    for part in of {
        state = state.wrapping_add(part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^= state >> 31;
    }
    let high = u32::try_from(state >> 32).unwrap_or(u32::MAX);
    f64::from(high) / (f64::from(u32::MAX) + 1.0)
}
