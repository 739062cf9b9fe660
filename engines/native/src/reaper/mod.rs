//! The reaper: where no control group can be made, one small process of its own is the ancestor of everything in a run.
//!
//! ```text
//! worker ──Ask over a socket──▶ reaper ──starts──▶ command ──▶ … (orphans come back to the reaper)
//!        ◀──────Tell───────────
//! ```
//!
//! As a "subreaper" it becomes the parent of every descendant that loses its own, so its tree is the run, whatever sessions
//! and process groups are made in it. When its socket closes, because the worker is gone, it kills its tree and ends.

mod client;
mod process;
mod wire;

pub use client::{Reaper, end};
pub use process::reaper_main;
pub use wire::Tell;

/// First argument with which the worker's program becomes a reaper.
pub const REAPER_COMMAND: &str = "reaper";
