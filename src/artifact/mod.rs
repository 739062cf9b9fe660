//! Artifacts: what a task left behind is found, encoded, and uploaded; so is its log.
//!
//! ```text
//! specs ─▶ Quiet::read ─▶ entry ─┬─ a file ──▶ body (as it is, or gzip) ─▶ createArtifact ─▶ PUT ─▶ Uploaded
//!                                └─ a fault ─▶ createArtifact(error)                             ─▶ Missing
//! ```
//!
//! The bytes that are hashed, the bytes that are sent and the bytes of the file are the same bytes: the length is that of the
//! open file, a file that gives fewer or other bytes at a second attempt is an error, and a cut connection is never a success.
//! Which [names](name) can be had is known before anything runs.
//! It does not decide what a result means for the task; [`crate::feature`] does.

mod body;
mod collect;
mod content;
mod gzip;
pub mod name;
mod place;
mod put;
mod reading;
#[cfg(test)]
mod tests;

pub use body::Body;
pub use collect::{Collected, Ending, Row, Surroundings, collect};
pub use content::{content_encoding, content_type};
pub use put::{Target, UploadError, publish};
