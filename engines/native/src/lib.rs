//! Tasks as native processes of the worker's own user.
//!
//! What this engine promises, and what it cannot: after Quiet no process of the task is alive, whatever it did to its
//! session, its parents or its output, and nothing outside of the task directory is read by following a link of the task.
//! But the task runs as the worker's own user. It can signal the worker, and where it may write to the control group
//! hierarchy (as root, or where a hierarchy was delegated to this user) it can move its processes out of its group. Only
//! a user of its own takes that away.
//!
//! ```text
//! NativeEngine ─▶ Place (task directory) ─▶ Tree (cgroup or reaper) + Pipe ─▶ Running ─▶ NativeQuiet
//! ```
//!
//! * `cgroup` and `reaper` are the two ways to hold the processes of a run together; `tree` is what they have in common.
//! * `output` carries what commands write; `program` turns a command into something to execute; `run` is the run itself.
//! * `orphans` waits for processes that the worker has not started; `processes` reads the process table.
//! * `step` is a detour for workers that the kernel spares when memory runs out.
//! * `read` and `quiet` are for afterwards.

mod cgroup;
mod engine;
mod environment;
mod ground;
mod orphans;
mod output;
mod processes;
mod program;
mod quiet;
mod read;
mod reaper;
mod run;
mod step;
mod tree;

pub use engine::{Containment, NativeEngine, NativeOptions};
pub use reaper::{REAPER_COMMAND, reaper_main};
