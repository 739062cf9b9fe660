//! What can go wrong with a call.

use std::time::Duration;

use http::{HeaderMap, header};

use super::transport::{Response, TransportError, http_date};
use crate::log::format::one_line;

/// Longest part of a service's own message that is kept, in characters.
const MESSAGE_BOUND: usize = 2000;
/// Longest pause that a service may ask for.
const PAUSE_BOUND: Duration = Duration::from_secs(600);

/// A call that brought no usable answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call}: {kind}")]
pub struct ApiError {
    /// Name of the call, for instance `queue.claimWork`.
    pub call: &'static str,
    /// What happened.
    pub kind: ErrorKind,
    retry_after: Option<Duration>,
}

/// What happened to a call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ErrorKind {
    /// No answer came.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The service refused.
    #[error("HTTP status {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// The status.
        status: u16,
        /// The service's code for the error, for instance `RequestConflict`; empty if it gave none.
        code: String,
        /// Beginning of the service's message.
        message: String,
    },
    /// The answer is not what the service's reference promises.
    #[error("answer not understood: {0}")]
    Garbage(String),
    /// The request cannot be made.
    #[error("{0}")]
    Request(String),
}

impl ApiError {
    /// An error of the given kind.
    pub fn new(call: &'static str, kind: ErrorKind) -> Self {
        Self { call, kind, retry_after: None }
    }

    /// The error that a refusing answer stands for.
    pub fn refused(call: &'static str, response: &Response) -> Self {
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let text = |key: &str| body.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        // What follows the dashes only repeats the request.
        let lines = text("message").lines().map(str::trim).take_while(|line| *line != "---");
        let message = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        let kind = ErrorKind::Status {
            status: response.status,
            code: text("code").chars().take(64).collect(),
            // It stands in logs, and repeats what others have sent.
            message: one_line(&message.chars().take(MESSAGE_BOUND).collect::<String>()).into_owned(),
        };
        Self { call, kind, retry_after: pause(&response.headers) }
    }

    /// The HTTP status, if the service answered.
    pub fn status(&self) -> Option<u16> {
        match self.kind {
            ErrorKind::Status { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Whether the service says that the state of the task does not allow the call.
    pub fn is_conflict(&self) -> bool {
        self.status() == Some(409)
    }

    /// Whether the same call may succeed later: no answer, half an answer, a failing service, or too many calls.
    pub fn is_temporary(&self) -> bool {
        match &self.kind {
            ErrorKind::Transport(TransportError::Request(_) | TransportError::TooLarge) | ErrorKind::Request(_) => false,
            ErrorKind::Transport(_) | ErrorKind::Garbage(_) => true,
            ErrorKind::Status { status, .. } => *status >= 500 || *status == 429,
        }
    }

    /// How long the service asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// `Retry-After`, up to a bound: seconds, or a date that counts from the answer's own.
pub fn pause(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = if let Ok(secs) = text.parse() {
        Duration::from_secs(secs)
    } else {
        let now = http_date(headers.get(header::DATE)?.to_str().ok()?)?;
        Duration::try_from(http_date(text)?.duration_since(now)).ok()?
    };
    Some(pause.min(PAUSE_BOUND))
}
