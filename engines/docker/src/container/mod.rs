//! One container: asked for, watched, heard, ended, removed.
//!
//! ```text
//!               create                     start                       wait answers
//! (nothing) ─────────────▶ Created + heard ─────────▶ Running ─────────────────────────▶ Ended ──remove──▶ (nothing)
//!     │                       │                                                            ▲
//!     └── the engine says no ─┴────────────▶ Refused: a line in the log and exit code 125, 126 or 127
//! ```
//!
//! * [`spec`] is what the engine is asked for, [`gpus`] a part of it; [`refusal`] is its no. All three are pure.
//! * [`birth`] creates, and knows what to do when nobody can say whether it did.
//! * [`volume`] makes the volumes that an image declares start empty.
//! * [`order`] starts it, also when replies are lost, and never after the run was given up.
//! * [`output`] hears the container; [`end`] waits for its end and tells how it ended.
//! * [`death`] kills, and proves that nothing of it runs or will run.
//! * [`removal`] removes, and believes it only when the engine says that nothing is there.

pub(crate) mod birth;
pub(crate) mod death;
pub(crate) mod end;
mod gpus;
pub(crate) mod order;
pub(crate) mod output;
pub(crate) mod refusal;
pub(crate) mod removal;
pub(crate) mod spec;
pub(crate) mod volume;
