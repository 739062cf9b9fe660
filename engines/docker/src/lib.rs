//! Tasks in containers, through the Docker Engine API.
//!
//! ```text
//! DockerEngine ──reserve──▶ Ground ──create──▶ Sandbox ──start──▶ RunHandle ──quiesce──▶ Quiet ──destroy──▶ Gone
//!      │                    directory,         container,         start it,               archive           container, volumes,
//!      │ health, sweep      network            attached, watched  hear it                                   network, directory
//!      ▼
//! Connection: one address, one version of the API
//! ```
//!
//! | room | owns |
//! |---|---|
//! | [`connection`] | the way to the engine: address, negotiated version, calls, raw streams |
//! | [`engine`](DockerEngine) | whether the engine is fit; where runs begin |
//! | `ground`, `sandbox`, `run`, `quiet` | the stages of a run, as the boundary draws them |
//! | `container` | one container: what is asked for, its output, its end, its removal |
//! | `network`, `directory` | what else a run gets |
//! | `tree` | deleting what a container has made and this worker may not delete |
//! | `labels`, `sweep` | whose something is, and removing what the dead left |
//! | [`image`] | bringing images, knowing which are there, removing those nobody uses |
//! | [`archive`] | reading what a container left behind |
//! | [`containerd`] | images written past the engine, into the store it shares with containerd |
//!
//! What holds: nothing that the engine says is read without a limit, no call is waited for without a bound, and whether a call
//! was refused, was never made, or may have been carried out are different errors. What a run made is removed when the engine
//! says that it is not there any more.
//!
//! The processor times of a command are zero: an engine knows them only while a container runs, and asking it all the time
//! costs more than they are worth.

pub mod archive;
pub mod connection;
mod container;
pub mod containerd;
mod directory;
mod engine;
mod ground;
pub mod image;
mod labels;
mod network;
mod packing;
mod quiet;
mod run;
mod sandbox;
mod sweep;
mod tree;

pub use connection::Connection;
pub use engine::{Bounds, DockerEngine, DockerOptions};
pub use labels::{OwnerIdentity, Process};
