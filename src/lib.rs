//! `tc-worker`: a worker agent for Taskcluster.
//!
//! This page is the map of the house. Each room says in its own page what it owns, and draws its states if it has any.
//!
//! ```text
//!                 cli ──▶ config
//!                  │
//!                  ▼
//! queue ◀─api─▶ worker ──one task per run──▶ run ──▶ feature (the optional parts)
//!   ▲             │                           │ │ │
//!   │             └─ observe                  │ │ └─▶ tc_engine: Ground ▶ Sandbox ▶ RunHandle ▶ Quiet ▶ Gone
//!   └── local (the embedded queue)            │ └───▶ artifact, content
//!                                             └─────▶ log
//! ```
//!
//! | room | owns |
//! |---|---|
//! | [`cli`] | commands, what a person sees, exit codes |
//! | [`config`] | from a file to checked settings, with every problem at once |
//! | [`api`] | Taskcluster's services as a client: signing, retries, typed calls |
//! | [`worker`] | the claim loop: when to claim, slots, the end |
//! | [`run`] | one run, from the claim to its resolution: phases, lease, outcome |
//! | [`feature`] | the optional parts of a run, and the table that starts and stops them |
//! | [`log`] | the task log: format, spool, live readers, compression |
//! | [`artifact`] | finding, encoding and uploading what a task left behind |
//! | [`content`] | fetching what a task needs: resumed, hashed, decompressed on the way |
//! | [`cache`] | writable caches: who has them, when they are kept, how they end |
//! | [`graph`] | what tasks in files are called, how they name one another, where rendered ones come from |
//! | [`check`] | what is wrong with tasks, graphs, templates and configurations, told before anything runs |
//! | [`observe`] | status file, metrics lines, memory |
//! | [`local`] | the embedded queue: pure state machine, routes, store |
//! | [`seam`] | clock, disk, randomness, the machine: what tests replace |
//!
//! Engines live in crates of their own: `tc_engine` is the boundary, `tc_engine_native` runs processes as the current user,
//! `tc_sys` holds the system calls, and with them all unsafe code. `tc_payload` holds payload schemas and diagnostics.
//!
//! A run goes through the phases of [`run::outcome::Phase`], each with a type of its own: what was not prepared cannot start,
//! what may still write cannot be read, what was not cleaned up is resolved as the worker's error and takes the machine out
//! of service.

pub mod api;
pub mod artifact;
pub mod cache;
pub mod check;
pub mod cli;
pub mod config;
pub mod content;
pub mod feature;
pub mod graph;
pub mod local;
pub mod log;
pub mod observe;
pub mod run;
pub mod seam;
pub mod worker;
