//! Graphs of tasks in files: what tasks are called, how they name one another, the form in which taskgraph writes them,
//! and where tasks come from that a template has made.
//!
//! Both who runs such files and who only checks them go by this. It reads no files and decides nothing about tasks.

pub mod circle;
pub mod documents;
pub mod label;
pub mod node;
pub mod reference;
pub mod rendered;
