//! Refusals, in the format of the services: `{code, message, requestInfo}`.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    auth::{Caller, Need},
    check::Broken,
    ledger::Unsettled,
    reply::Reply,
    state::Refusal,
};

/// Bodies above this size are not shown back to the caller.
const SHOWN_BODY_BYTES: usize = 4096;
/// Calls whose bodies hold secrets, and are never shown: callers log refusals.
const SECRET_BODIES: &[&str] =
    &["set", "registerWorker", "reregisterWorker", "createWorker", "updateWorker", "authenticateHawk"];

/// The services' words for what went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    MalformedPayload,
    InvalidRequestArguments,
    InputValidationError,
    InputError,
    AuthenticationFailed,
    InsufficientScopes,
    ResourceNotFound,
    MethodNotAllowed,
    RequestTimeout,
    RequestConflict,
    ResourceExpired,
    NoMatchingMethod,
    InputTooLarge,
    InternalServerError,
    ServiceUnavailable,
}

impl Code {
    /// The word that fits a status.
    pub(crate) fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            401 => Self::AuthenticationFailed,
            403 => Self::InsufficientScopes,
            404 => Self::ResourceNotFound,
            405 => Self::MethodNotAllowed,
            408 => Self::RequestTimeout,
            409 => Self::RequestConflict,
            410 => Self::ResourceExpired,
            413 => Self::InputTooLarge,
            500.. => Self::InternalServerError,
            _ => Self::InputError,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::MalformedPayload | Self::InvalidRequestArguments | Self::InputValidationError | Self::InputError => {
                StatusCode::BAD_REQUEST
            }
            Self::AuthenticationFailed => StatusCode::UNAUTHORIZED,
            Self::InsufficientScopes => StatusCode::FORBIDDEN,
            Self::ResourceNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::RequestConflict => StatusCode::CONFLICT,
            Self::ResourceExpired => StatusCode::GONE,
            Self::NoMatchingMethod => StatusCode::NOT_ACCEPTABLE,
            Self::InputTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A call that was refused.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
    status: StatusCode,
}

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status: code.status() }
    }

    /// One that was refused with a status of its own.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// All problems of a body in one message.
    pub(crate) fn invalid_body(method: &str, problems: &[Broken]) -> Self {
        let problems: Vec<&str> = problems.iter().map(AsRef::as_ref).collect();
        Self::new(
            Code::InputValidationError,
            format!("the request body is not what {method} takes:\n  * {}", problems.join("\n  * ")),
        )
    }

    /// What the caller would have needed.
    pub(crate) fn insufficient_scopes(caller: &Caller, need: &Need, missing: &Need) -> Self {
        let scopes: Vec<&str> = caller.scopes().collect();
        Self::new(
            Code::InsufficientScopes,
            format!(
                "client \"{}\" is missing scopes:\n\n```\n{:#}\n```\n\nit has:\n\n```\n{}\n```\n\nthis request needs:\n\n```\n{:#}\n```",
                caller.name(),
                missing.to_json(),
                scopes.join("\n"),
                need.to_json()
            ),
        )
    }

    /// The answer. `asked` is what the caller sent, as far as it is known.
    pub(crate) fn reply(&self, method: &str, params: &[(String, String)], body: Option<&[u8]>, now: Timestamp) -> Reply {
        let params: Map<String, Value> = params.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let payload = match body {
            Some(_) if SECRET_BODIES.contains(&method) => json!("(not shown)"),
            Some(bytes) if bytes.len() <= SHOWN_BODY_BYTES => serde_json::from_slice(bytes).unwrap_or(Value::Null),
            Some(bytes) => json!(format!("({} bytes, not shown)", bytes.len())),
            None => Value::Null,
        };
        let message = format!(
            "{}\n\n---\n\n* method:     {method}\n* errorCode:  {:?}\n* statusCode: {}\n* time:       {now:.3}",
            self.message,
            self.code,
            self.status.as_u16()
        );
        let info = json!({ "method": method, "params": params, "payload": payload, "time": format!("{now:.3}") });
        let body = json!({ "code": format!("{:?}", self.code), "message": message, "requestInfo": info });
        let mut reply = Reply::json(&body).with_status(self.status);
        if self.code == Code::AuthenticationFailed {
            reply = reply.with_header(http::header::WWW_AUTHENTICATE, "Hawk");
        }
        reply
    }
}

/// Whether the call changed anything is open then; clients repeat calls that were answered like this.
impl From<Unsettled> for Fault {
    fn from(why: Unsettled) -> Self {
        Self::new(Code::InternalServerError, format!("the call could not be kept: {why}"))
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::NotFound(_) => Code::ResourceNotFound,
            Refusal::Conflict(_) => Code::RequestConflict,
            Refusal::Input(_) => Code::InputError,
        };
        Self::new(code, refusal.to_string())
    }
}
