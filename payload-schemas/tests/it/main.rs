//! Tests of the crate from outside, over the files under `examples/` and against an independent implementation of JSON Schema.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod agreement;
mod documents;
mod examples;
