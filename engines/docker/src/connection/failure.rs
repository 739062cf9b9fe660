//! How a call to the engine can fail, told apart by what may have happened on the other side.

use std::{error::Error as _, io, time::Duration};

use bollard::errors::Error;
use tc_engine::{EngineError, Fault};

use super::host::Unreachable;

/// Longest sentence of an engine that is passed on.
const MESSAGE_BYTES: usize = 16 * 1024;

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The engine said no.
    #[error("{message} (status {status})")]
    Answer {
        /// HTTP status.
        status: u16,
        /// The engine's own sentence.
        message: String,
    },
    /// No connection came about, so nothing was asked.
    #[error("{why}")]
    Unreachable {
        /// What an operator has to know.
        why: String,
        /// Nobody is there: no socket, or nobody who listens. An engine that is only stuck still has its socket.
        absent: bool,
    },
    /// The connection broke before the answer was complete: the engine may have done what it was asked, or may still do it.
    #[error("the connection to the Docker engine broke: {0}")]
    Broken(String),
    /// No answer in time; what was asked may still happen.
    #[error("the Docker engine did not answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// Something came back that is no answer.
    #[error("the Docker engine's answer cannot be understood: {0}")]
    Garbage(String),
}

impl Failure {
    /// An answer of the engine.
    pub(crate) fn answer(status: u16, message: &str) -> Self {
        let message = message.trim_end();
        let end = (0..=message.len().min(MESSAGE_BYTES)).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        Self::Answer { status, message: message[..end].to_owned() }
    }

    /// The status, if the engine answered.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answer { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the engine says that the thing does not exist.
    pub fn is_missing(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether the engine does not speak the version of the API that was agreed on, so that another was started meanwhile.
    pub(crate) fn is_about_version(&self) -> bool {
        matches!(self, Self::Answer { status: 400, message } if message.contains("client version"))
    }

    /// Whether the next answer may come from another engine than the last one.
    pub(super) fn may_mean_another_engine(&self) -> bool {
        self.is_about_version() || matches!(self, Self::Unreachable { .. } | Self::Broken(_))
    }

    /// The failure of something that an author has no influence on. `what` names the call, as in `create a network`.
    pub fn because(self, fault: Fault, what: &str) -> EngineError {
        EngineError::new(fault, format!("{what}: {self}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => Self::answer(status_code, &message),
            // bollard's own bound; ours are shorter, so this comes from calls of others.
            Error::RequestTimeoutError => Self::TimedOut(super::CALL_BOUND),
            Error::JsonDataError { .. } | Error::JsonSerdeError { .. } | Error::StrParseError { .. } => {
                Self::Garbage(error.to_string())
            }
            Error::IOError { err } => io(&err),
            Error::HyperResponseError { err } => hyper(&err),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// What an error of a socket means.
pub(crate) fn io(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Unreachable>()) {
        Some(Unreachable(why)) => {
            let absent = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
            Failure::Unreachable { why: why.clone(), absent }
        }
        None => Failure::Broken(error.to_string()),
    }
}

/// What an error of an HTTP exchange means.
pub(crate) fn hyper(error: &hyper::Error) -> Failure {
    // The error itself says only in which step it came up.
    let text = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    let inner = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let is_too_long = inner.is_some_and(|inner| inner.kind() == io::ErrorKind::InvalidData);
    if error.is_parse() || is_too_long { Failure::Garbage(text) } else { Failure::Broken(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_says_is_cut() {
        let long = "é".repeat(MESSAGE_BYTES);
        let Failure::Answer { message, .. } = Failure::answer(500, &long) else { panic!("an answer") };
        assert_eq!(message.len(), MESSAGE_BYTES);
        let odd = format!("x{long}");
        let Failure::Answer { message, .. } = Failure::answer(500, &odd) else { panic!("an answer") };
        assert_eq!(message.len(), MESSAGE_BYTES - 1);
    }

    #[test]
    fn a_connection_that_never_was_is_told_from_one_that_broke() {
        let never = io::Error::new(io::ErrorKind::NotFound, Unreachable("no socket".into()));
        let absent = Failure::Unreachable { why: "no socket".into(), absent: true };
        assert_eq!(Failure::from(Error::IOError { err: never }), absent);
        let stuck = io::Error::new(io::ErrorKind::WouldBlock, Unreachable("its queue is full".into()));
        assert!(matches!(Failure::from(Error::IOError { err: stuck }), Failure::Unreachable { absent: false, .. }));
        let broke = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(matches!(Failure::from(Error::IOError { err: broke }), Failure::Broken(_)));
    }
}
