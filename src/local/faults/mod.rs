//! Faults on purpose: what networks, proxies and services do on a bad day, for tests and for people who try their clients.
//!
//! ```text
//!  "PUT artifact: cut after 1MB, 10%" ─ grammar ─▶ Rule ─┐
//!                                                        ▼
//!  request ─ listen ─▶ route ─▶ around ─ description ─▶ Plan ─▶ Fate        (rule, plan: pure, seeded)
//!                                 │                               │
//!                                 ├─ before, instead of, after ◀──┘
//!                                 ▼                      what HTTP does not allow
//!                              endpoint        answer ────── Breach ──────▶ listen: written past hyper, then closed
//! ```
//! - `grammar`, `rule`, `names`: what a rule says. `plan`: which request meets which fault; the same seed gives the same faults.
//! - `effect`: the one layer in front of every endpoint. `breach`: answers that no HTTP library would send. `theft`: claims that are lost.
//!
//! Faults that spoil an answer let the call take effect first, as in real networks; what takes no effect is `drop request`, `cut request`,
//! `status`, `expired`. Refusals leave the connection open.

pub(crate) mod breach;
mod effect;
mod grammar;
mod names;
mod plan;
mod rule;
#[cfg(test)]
mod tests;
mod theft;

pub use grammar::ParseError;
pub use rule::Rule;

pub(crate) use effect::{Layer, around, around_store};

/// The rules of a server, and the seed of their coins.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The rules; none by default.
    pub rules: Vec<Rule>,
    /// The same seed, rules and order of requests give the same faults.
    pub seed: u64,
}

impl Faults {
    /// Reads rules as `tc-worker queue --fault` takes them.
    ///
    /// # Errors
    /// The first rule that is none, and the place in it.
    pub fn parse<'a>(seed: u64, rules: impl IntoIterator<Item = &'a str>) -> Result<Self, ParseError> {
        Ok(Self { rules: rules.into_iter().map(str::parse).collect::<Result<_, _>>()?, seed })
    }
}
