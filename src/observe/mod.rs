//! What the worker says about itself and its machine, for programs that watch it.

pub mod memory;
pub mod metrics;
pub mod status;
