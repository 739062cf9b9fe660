//! Writable caches: directories that tasks hand on to each other.
//!
//! Owns which caches there are, who has them, and their end. Does not own how a task gets at one: container tasks have it
//! mounted, and native mounts will move it. Nor does it own ownership inside of a cache, which nobody changes.
//!
//! ```text
//!           lease                  give_back(Keep)
//! nothing ────────▶ in use ───────────────────────────────▶ free ──lease──▶ in use …
//!                     │ give_back(Discard), purge request,    │ purge request, trim, make_room,
//!                     │ death of the worker                   │ somebody deletes it
//!                     └───────────────▶ gone ◀────────────────┘
//! ```
//!
//! * A cache is the state that a finished task left, or gone. Never a half-written one, whenever the worker dies.
//! * One task has it at a time, also if several processes share the directory.
//! * Anyone may delete caches, the table, or the whole directory at any time. That is a miss and never an error.
//!
//! `table` decides, `store` acts, `places` says what names on the disk mean.

pub mod file;
mod lease;
mod locked;
pub mod places;
mod purge;
mod recover;
mod room;
mod store;
pub mod table;
#[cfg(test)]
mod tests;
mod trash;

pub use lease::{Lease, Returned, Verdict};
pub use places::TABLE;
pub use purge::Purges;
pub use store::{CacheError, CacheStore, Options};
pub use table::PurgeRequest;
pub use trash::Powers;
