//! Tokens for websocktunnel: JSON Web Tokens, signed with a secret that the tunnel's server has, too.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

/// How long a token is valid.
const VALID_FOR: SignedDuration = SignedDuration::from_hours(96);
/// How much before it was made, because clocks differ.
const DRIFT: SignedDuration = SignedDuration::from_mins(15);

/// A token (HS256), and when it ends.
pub(super) fn token(secret: &str, now: Timestamp, client_id: &str, audience: &str, tunnel_client: &str) -> (String, Timestamp) {
    let expires = now.saturating_add(VALID_FOR).unwrap_or(now);
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let claims = json!({
        "tid": tunnel_client, "aud": audience, "sub": client_id, "iss": "taskcluster-auth", "iat": now.as_second(),
        "exp": expires.as_second(), "nbf": now.saturating_sub(DRIFT).unwrap_or(now).as_second(),
    });
    let encode = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    (format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)), expires)
}
