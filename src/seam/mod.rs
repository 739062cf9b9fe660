//! The seams: everything through which the outside world reaches the worker, except HTTP and engines.
//!
//! HTTP's seam is [`crate::api::Transport`], the engines' is `tc_engine::Engine`. With all of them replaced, the real drivers
//! run on a paused clock without touching the machine.

mod clock;
mod disk;
mod host;
mod random;

pub use clock::{Clock, SystemClock, TestClock};
pub use disk::{Disk, Lasting, SystemDisk};
pub use host::{HostActions, NoHostActions, SystemHost};
pub use random::{Random, SeededRandom, SystemRandom, slugid};
