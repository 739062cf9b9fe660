//! Clients: who may sign, with which token, and what it may do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A client as it is kept. Not `Debug`: it holds a secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Client {
    pub(crate) access_token: String,
    /// As they were given, roles not expanded.
    pub(crate) scopes: Vec<String>,
    pub(crate) description: String,
    pub(crate) expires: Timestamp,
    pub(crate) delete_on_expiration: bool,
    pub(crate) disabled: bool,
    pub(crate) created: Timestamp,
    pub(crate) last_modified: Timestamp,
    pub(crate) last_rotated: Timestamp,
}

impl Client {
    /// A client that never expires.
    pub(crate) fn lasting(access_token: String, scopes: Vec<String>, description: &str, now: Timestamp) -> Self {
        Self {
            access_token,
            scopes,
            description: description.to_owned(),
            expires: never(),
            delete_on_expiration: false,
            disabled: false,
            created: now,
            last_modified: now,
            last_rotated: now,
        }
    }

    /// Why it may not sign now.
    pub(crate) fn refusal(&self, client_id: &str, now: Timestamp) -> Option<String> {
        if self.disabled {
            return Some(format!("client \"{client_id}\" is disabled"));
        }
        (self.expires <= now).then(|| format!("client \"{client_id}\" expired at {:.3}", self.expires))
    }
}

/// The date that stands for no end: the year 3000.
pub(crate) fn never() -> Timestamp {
    Timestamp::from_second(32_503_680_000).unwrap_or(Timestamp::MAX)
}

/// Whether this can be a client id.
pub(crate) fn is_client_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!@/:.+|_-".contains(&b))
}

/// Whether this can be an access token: 22 to 66 characters of the alphabet of slugids.
pub(crate) fn is_access_token(text: &str) -> bool {
    (22..=66).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Whether this can be the id of a role.
pub(crate) fn is_role_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b))
}
