//! Taskcluster's services, as a client.
//!
//! ```text
//! Queue (typed calls) ─▶ Services (sign, retry) ─▶ Transport (one request, bounded) ─▶ network
//! ```
//!
//! Every attempt is signed anew, so that a clock that moved or credentials that were renewed in the meantime count. Every
//! attempt has a deadline, every sequence of attempts a total bound. It does not know tasks' payloads or what runs them.

mod auth;
mod claim;
mod content;
mod credentials;
mod error;
pub mod hawk;
mod index;
mod object;
mod purge_cache;
mod queue;
mod retry;
pub mod scripted;
mod secret;
mod services;
mod transport;
mod types;
mod worker_manager;

#[cfg(test)]
mod tests;

pub use auth::Auth;
pub use claim::{Claim, DEFAULT_LEASE, Reclaimed};
pub use content::{ArtifactContent, ObjectUrl};
pub use credentials::{Credentials, CredentialsCell};
pub use error::{ApiError, ErrorKind, pause};
pub use index::Index;
pub use object::{ObjectPlace, ObjectUpload};
pub use purge_cache::{OpenPurgeRequest, PurgeCache};
pub use queue::Queue;
pub use retry::RetryPolicy;
pub use secret::Secret;
pub use services::{Services, segment};
pub use transport::{ANSWER_BYTES, Body, HttpTransport, Opened, Request, Response, Transport, TransportError};
pub use types::{ArtifactAnswer, ArtifactInfo, NewArtifact, Reason, Resolution, Run, Task, TaskStatus};
pub use worker_manager::WorkerError;
