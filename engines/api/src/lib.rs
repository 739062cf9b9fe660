//! The boundary between the worker and whatever runs a task's commands.
//!
//! This crate owns the words both sides use and nothing else: no engine, no I/O. What a run may do next is decided by the
//! type it holds, so a step cannot be skipped:
//!
//! ```text
//! Engine ──reserve(Names)──▶ Ground ──create(SandboxPlan)──▶ Sandbox ──start(Sink)──▶ RunHandle
//!                              │                               │                        │ run(i), stop(reason, grace)
//!                              └───────────quiesce()───────────┴──────quiesce()─────────┤
//!                                                                                       ▼
//!                                                               Gone ◀──destroy()──── Quiet ──read(path)──▶ entries
//! ```
//!
//! * [`Ground`] is reserved space: a directory, perhaps a user or a network. Nothing of the task runs in it.
//! * [`Sandbox`] is ready to start. It cannot be made from something that was not reserved.
//! * [`Quiet`] means that every process of the task is dead, and that this was verified. Only from here may files be read.
//! * [`Gone`] means that nothing of the run is left. A run without it cannot be resolved.

mod boundary;
mod command;
pub mod fake;
mod image;
mod plan;
mod quiet;

pub use boundary::{Engine, EngineError, Fault, Gone, Ground, Identity, Room, RunHandle, Sandbox, Swept};
pub use command::{CommandEnd, Exit, Over, Sink, StopReason};
pub use image::{Image, ImageBytes, ImageStream, ImageWant, Progress, WantKey};
pub use plan::{Bind, CommandSpec, ContainerPlan, Environment, Keep, Limits, Names, Owner, SandboxPlan};
pub use quiet::{Content, Entry, EntryFault, Kind, OpenFile, Pieces, Quiet, ReadError, Reopen, leads_out};
