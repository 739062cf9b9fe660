//! `tc-worker`: a worker agent for Taskcluster.
//!
//! This page is the map of the house. It will say what each room owns and how a task flows through them.

pub mod api;
pub mod artifact;
pub mod cli;
pub mod config;
pub mod feature;
pub mod local;
pub mod log;
pub mod observe;
pub mod run;
pub mod seam;
pub mod worker;
