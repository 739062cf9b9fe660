//! Rules of the house that no compiler checks: what the dependency tree may contain, how source files look.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod deny;
mod dependencies;
mod sources;
