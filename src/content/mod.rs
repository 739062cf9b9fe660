//! Content: brings bytes from where others keep them, whole and checked, or says why not.
//!
//! ```text
//! Source ─locate─▶ URL ─▶ fetch ─▶ digest ─▶ unpack ─▶ Stream
//!            ▲             │       (SHA-256,  (chosen by    next() … none after the verified end
//!            └──expired────┘        transport  the first
//!                                   encoding)  bytes)
//! ```
//! - A [`Source`] knows where the bytes are now; today there is one, [`Artifact`]. URLs and literal text of mounts are others.
//! - `fetch` is a task of its own. It goes on where a connection broke off, and proves that what comes is what came before.
//! - `digest` and `unpack` have a thread each; bounded channels between the stages hold at most 8 MB.
//! - The digest is that of the content without the encoding of its transport (`Content-Encoding: gzip`), as mounts declare it.
//!
//! It decides nothing about tasks: a [`ContentError`] says whose fault it is. It stores nothing.

mod answer;
mod codec;
mod digest;
mod error;
mod fetch;
mod image;
mod parcel;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod unpack;

pub use codec::Format;
pub use error::ContentError;
pub use image::ImageArchive;
pub use source::{Artifact, Located, Source};
pub use stream::{Packing, Stream, open};
