//! What the engine's bad news about images mean.

use bollard::errors::Error;
use tc_engine::{EngineError, Fault};

/// Longest part of a message of the engine that is passed on.
const MESSAGE_CHARS: usize = 600;

/// Why the engine did not bring or load an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such image, it may not be had, or it is none.
    Final,
    /// The registry was asked too often.
    Limited,
    /// Something on the way failed; it may work later.
    Passing,
    /// The engine's disk is full.
    Room,
    /// The engine itself cannot be reached any more.
    Gone,
    /// The engine answers, but not as it should.
    Garbage,
}

/// What a message about a registry means. Only the text tells: most errors come in the middle of a stream.
fn about_registry(message: &str) -> Refusal {
    // Names and URLs are not looked at: an image may well be called `denied`, and have a day of April in its tag.
    let names = |word: &&str| word.contains('/') && *word != "i/o";
    let words: Vec<String> =
        message.split_whitespace().filter(|word| !names(word)).map(|word| word.trim_matches('"').to_lowercase()).collect();
    let text = words.join(" ");
    let any = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    if any(&["toomanyrequests", "rate limit", "too many requests", "http 429", "status: 429", "status code 429"]) {
        Refusal::Limited
    } else if any(&["no space left on device"]) {
        Refusal::Room
    } else if any(&[
        "dial tcp",
        "connection refused",
        "connection reset",
        "i/o timeout",
        "no such host",
        "tls handshake",
        "deadline exceeded",
        "client.timeout",
        "unexpected eof",
        "500 internal",
        "502 bad",
        "503 service",
        "504 gateway",
        "server gave http response",
    ]) {
        Refusal::Passing
    } else if any(&[
        "not found",
        "manifest unknown",
        "name unknown",
        "denied",
        "unauthorized",
        "authentication required",
        "no basic auth",
        "forbidden",
        "does not exist",
        "invalid",
        "no matching manifest",
        "unsupported",
        "not supported",
        "http 401",
        "http 403",
        "http 404",
    ]) {
        Refusal::Final
    } else {
        Refusal::Passing
    }
}

/// What an error of a pull means, and its text.
pub fn of_pull(error: &Error) -> (Refusal, String) {
    match error {
        Error::DockerResponseServerError { status_code: 404 | 400 | 401 | 403, message } => {
            let read = about_registry(message);
            (if read == Refusal::Passing { Refusal::Final } else { read }, short(message))
        }
        Error::DockerResponseServerError { message, .. } | Error::DockerStreamError { error: message } => {
            (about_registry(message), short(message))
        }
        other => of_engine(other),
    }
}

/// What an error of a load means, and its text: what the engine says about the archive itself is final.
pub fn of_load(error: &Error) -> (Refusal, String) {
    match error {
        Error::DockerResponseServerError { message, .. } | Error::DockerStreamError { error: message } => {
            (about_archive(message), short(message))
        }
        other => of_engine(other),
    }
}

/// What a message about an archive means.
pub fn about_archive(message: &str) -> Refusal {
    if message.to_lowercase().contains("no space left on device") { Refusal::Room } else { Refusal::Final }
}

/// What an error of any other call means, and its text.
pub fn of_engine(error: &Error) -> (Refusal, String) {
    match error {
        Error::HyperLegacyError { .. }
        | Error::HyperResponseError { .. }
        | Error::IOError { .. }
        | Error::SocketNotFoundError(_) => (Refusal::Gone, short(&with_causes(error))),
        // Its own trouble, which may pass; nothing is wrong with this worker.
        Error::DockerResponseServerError { status_code: status @ (409 | 500..), message } => {
            (Refusal::Passing, format!("the Docker engine says: {} (status {status})", short(message)))
        }
        Error::DockerResponseServerError { message, .. } | Error::DockerStreamError { error: message } => {
            (Refusal::Garbage, short(message))
        }
        Error::RequestTimeoutError => (Refusal::Gone, "it does not answer".to_owned()),
        other => (Refusal::Garbage, short(&other.to_string())),
    }
}

/// The error for the caller. `what` names the object.
pub fn error(what: &str, refusal: Refusal, message: &str) -> EngineError {
    let (fault, text) = match refusal {
        Refusal::Final => (Fault::Task, format!("{what}: {message}")),
        Refusal::Limited | Refusal::Passing => (Fault::Resource, format!("{what}: {message}")),
        Refusal::Room => (Fault::Resource, format!("{what}: the engine's disk is full: {message}")),
        Refusal::Gone => (Fault::Lost, format!("{what}: the engine went away: {message}")),
        Refusal::Garbage => (Fault::Worker, format!("{what}: {message}")),
    };
    EngineError::new(fault, text)
}

/// An error of a call that is not about the task's image.
pub fn engine_error(what: &str, cause: &Error) -> EngineError {
    let (refusal, message) = of_engine(cause);
    error(what, refusal, &message)
}

/// Whether it may be over with the next call: the engine answers that it has trouble, or breaks a connection off.
pub fn is_momentary(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 409 | 500.., .. } | Error::HyperResponseError { .. })
}

/// Whether the engine says that there is no such thing.
pub fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// Whether the engine has only part of an image that it was asked to describe. In containerd's store the name of an image
/// outlives its configuration, manifest or layers when these are removed on their own or a removal was interrupted. Docker then
/// describes it without any layers, with an empty `RootFS`, which a client does not even read.
pub fn is_half_there(error: &Error) -> bool {
    matches!(error, Error::JsonDataError { message, .. } if message.contains("missing field `Type`"))
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

fn short(message: &str) -> String {
    message.trim().chars().take(MESSAGE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_registries_are_told_apart() {
        for (message, refusal) in [
            ("manifest for debian:nope not found: manifest unknown: manifest unknown", Refusal::Final),
            ("pull access denied for x, repository does not exist or may require 'docker login'", Refusal::Final),
            ("Head \"http://127.0.0.1:5000/v2/x/manifests/1\": no basic auth credentials", Refusal::Final),
            ("unexpected status from HEAD request to http://x/v2/: 401 Unauthorized", Refusal::Final),
            ("toomanyrequests: You have reached your pull rate limit.", Refusal::Limited),
            ("Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host", Refusal::Passing),
            ("received unexpected HTTP status: 503 Service Unavailable", Refusal::Passing),
            ("write /var/lib/docker/x: no space left on device", Refusal::Room),
            ("something nobody has seen yet", Refusal::Passing),
            // As the three engines say it.
            ("unexpected status from HEAD request to http://r:5000/v2/x/manifests/1: 429 Too Many Requests", Refusal::Limited),
            ("error parsing HTTP 429 response body: invalid character 'o' in literal null: \"nope\"", Refusal::Limited),
            ("Get \"https://r:5000/v2/\": dial tcp 127.0.0.1:5000: i/o timeout", Refusal::Passing),
            ("Head \"http://127.0.0.1:5000/v2/x/manifests/1\": EOF", Refusal::Passing),
            (
                "failed to resolve reference \"r:5000/x:1\": unexpected status from HEAD request to x: 403 Forbidden",
                Refusal::Final,
            ),
            ("error parsing HTTP 404 response body: unexpected end of JSON input: \"\"", Refusal::Final),
            // Names say nothing.
            ("manifest for r:4290/ci:20240429 not found: manifest unknown: manifest unknown", Refusal::Final),
            ("failed to resolve reference \"r:5000/ci:20240429\": r:5000/ci:20240429: not found", Refusal::Final),
            ("manifest for ci@sha256:429f not found: manifest unknown", Refusal::Final),
            ("received unexpected HTTP status of r/denied/forbidden: 503 Service Unavailable", Refusal::Passing),
            ("Head \"http://r:5000/v2/invalid/denied/manifests/1\": EOF", Refusal::Passing),
        ] {
            assert_eq!(about_registry(message), refusal, "{message}");
        }
    }

    #[test]
    fn control_characters_of_the_engine_do_not_reach_the_log() {
        assert_eq!(short("a\x1b[31m\nb"), "a [31m b");
    }
}
