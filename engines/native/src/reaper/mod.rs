//! Where no control group can be made: one small process per run, below which everything of the task stays.
//!
//! The reaper is this program again, started with the hidden sub-command [`REAPER_COMMAND`]. It is a subreaper, so daemons
//! that lose their parents become its children instead of leaving the tree. It starts commands on request, reports how they
//! end, and kills until it has no children left. When the worker goes away, however it does, the kernel closes the worker's
//! end of the socket between them; the reaper then kills its tree and ends. (A parent-death signal would not do: it is sent
//! when the *thread* that started the process ends.)
//!
//! ```text
//! worker [`Link`]                        reaper [`reaper_main`]
//!   ──── S + program, output pipe ────▶   start
//!   ◀─── Started | Refused ───────────
//!   ◀─── Ended ───────────────────────   the command, not its background processes
//!   ──── T ───────────────────────────▶   ask everything to end
//!   ──── K ───────────────────────────▶   kill until nothing is left; start nothing any more
//!   ◀─── Empty ───────────────────────
//!   ──── end of file ─────────────────▶   K, and end
//! ```
//!
//! A task can kill its reaper, since both belong to one user. The socket's end tells the worker; see [`crate::orphans`] for
//! what it does then.

mod child;
mod link;
pub(crate) mod wire;

pub use child::reaper_main;
pub(crate) use link::{Launched, Link};

/// The hidden sub-command that makes this program a reaper: its first argument.
pub const REAPER_COMMAND: &str = "reaper";
