//! What this is.

use super::engine;

/// For people: the form that the reference worker uses.
pub fn long() -> String {
    format!("tc-worker ({} engine) {}", engine::NAME, short())
}

/// The number only.
pub fn short() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
