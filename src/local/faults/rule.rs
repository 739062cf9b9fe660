//! One rule: where it applies, what it does, and how often.

use std::time::Duration;

use http::{Method, StatusCode};

use super::names::{ARTIFACT, STORE};

/// A request, as far as rules look at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Described<'a> {
    pub(crate) method: &'a Method,
    /// The service that the path belongs to.
    pub(crate) service: &'a str,
    /// The endpoint's name in the service's reference.
    pub(crate) name: &'a str,
    /// The path, without the query.
    pub(crate) path: &'a str,
    /// How long its body says that it is.
    pub(crate) body_bytes: Option<u64>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// As it was written.
    pub(super) text: String,
    pub(super) place: Place,
    pub(super) kind: Kind,
    pub(super) limits: Limits,
}

/// Where a rule applies.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    pub(super) method: Option<Method>,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Everything,
    /// Stars in a name stand for anything.
    Name {
        service: Option<String>,
        name: String,
    },
    /// Stars in a path stand for anything, slashes included.
    Path(String),
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// The connection ends without an answer.
    Drop(Option<Side>),
    Delay(Duration),
    Status(Refused),
    /// An answer that is no JSON, or no HTTP.
    Garbage {
        http: bool,
    },
    Cut {
        side: Option<Side>,
        after: After,
    },
    WrongLength,
    Expired,
    Stolen,
}

/// Which half of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Answer,
}

/// How much of a body goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Bytes(u64),
    Half,
}

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// Whether the call took effect all the same.
    pub(crate) late: bool,
    pub(crate) retry_after_secs: Option<u64>,
}

/// How often a rule is met. All of them have to agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    /// Requests that match and are let through before anything else counts.
    pub(super) after: u64,
    /// Then only this many.
    pub(super) first: Option<u64>,
    /// Of them, every n-th.
    pub(super) every: u64,
    /// Of them, this part.
    pub(super) probability: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { after: 0, first: None, every: 1, probability: 1.0 }
    }
}

impl Limits {
    /// Whether the n-th request that matches meets the fault, `n` counting from 1 and `coin` being in `0.0..1.0`.
    pub(super) fn allow(&self, n: u64, coin: f64) -> bool {
        let Some(n) = n.checked_sub(self.after).filter(|n| *n > 0) else { return false };
        self.first.is_none_or(|first| n <= first) && n % self.every == 0 && coin < self.probability
    }
}

impl Place {
    pub(super) fn matches(&self, request: &Described<'_>) -> bool {
        // The same question about the same thing, without the body.
        let method =
            self.method.as_ref().is_none_or(|m| m == request.method || (m == Method::GET && request.method == Method::HEAD));
        method && self.what.matches(request.service, request.name, request.path)
    }
}

impl What {
    pub(super) fn matches(&self, service: &str, name: &str, path: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Path(pattern) => glob(pattern, path),
            // The queue has an endpoint of that name, too; whoever means that one says so.
            Self::Name { service: None, name: wanted } if wanted == ARTIFACT => service == STORE,
            Self::Name { service: wanted, name: pattern } => {
                wanted.as_ref().is_none_or(|wanted| wanted == service) && glob(pattern, name)
            }
        }
    }
}

impl Kind {
    /// Whether this can happen to this request at all.
    pub(super) fn fits(self, request: &Described<'_>) -> bool {
        match self {
            Self::Expired => request.service == STORE,
            Self::Stolen => is_of_a_run(request.service, request.name),
            // A body that is shorter ends before it could be cut.
            Self::Cut { side, after: After::Bytes(after) } if cut_side(side, request.method) == Side::Request => {
                request.body_bytes.is_none_or(|bytes| bytes > after)
            }
            Self::Cut { side, after: After::Half } if cut_side(side, request.method) == Side::Request => {
                request.body_bytes.is_some_and(|bytes| bytes > 0)
            }
            _ => true,
        }
    }
}

/// Uploads are cut where they are, everything else in its answer, unless the rule says it.
pub(super) fn cut_side(side: Option<Side>, method: &Method) -> Side {
    side.unwrap_or(if method == Method::PUT { Side::Request } else { Side::Answer })
}

/// Whether a call needs the claim of a run.
pub(super) fn is_of_a_run(service: &str, name: &str) -> bool {
    const CALLS: &[&str] =
        &["claimWork", "reclaimTask", "createArtifact", "finishArtifact", "reportCompleted", "reportFailed", "reportException"];
    service == "queue" && CALLS.contains(&name)
}

/// Whether a pattern with stars matches a text. Each star is tried at the earliest place first, and only the last one moves on, so the
/// cost is bounded by the product of both lengths.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), star) {
            (Some(b'*'), _) => {
                star = Some((p, t));
                p += 1;
            }
            (Some(letter), _) if *letter == text[t] => {
                p += 1;
                t += 1;
            }
            (_, Some((at, from))) => {
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
            (_, None) => return false,
        }
    }
    pattern[p..].iter().all(|letter| *letter == b'*')
}
