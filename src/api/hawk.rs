//! Signing requests with Hawk (`https://github.com/mozilla/hawk`, version 1, SHA-256), as Taskcluster uses it: no payload
//! hash, and an `ext` that carries the certificate of temporary credentials and, if wanted, a narrower set of scopes.
//!
//! Only signing is here. The embedded queue verifies with another implementation, so that each proves the other.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::Credentials;

/// What is signed of a request.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// `GET`, `POST` …
    pub method: &'a str,
    /// Path and query exactly as they are sent.
    pub resource: &'a str,
    /// Host in lower case, without port.
    pub host: &'a str,
    /// Port, also where it is the scheme's own.
    pub port: u16,
}

/// The `ext` of these credentials; empty for permanent ones with all of their scopes.
///
/// # Errors
/// When the certificate is no JSON.
pub fn ext(credentials: &Credentials, authorized_scopes: Option<&[String]>) -> Result<String, serde_json::Error> {
    let mut ext = serde_json::Map::new();
    if let Some(certificate) = credentials.certificate.as_ref().filter(|c| !c.is_empty()) {
        ext.insert("certificate".to_owned(), serde_json::from_str::<Value>(certificate.expose())?);
    }
    if let Some(scopes) = authorized_scopes {
        ext.insert("authorizedScopes".to_owned(), json!(scopes));
    }
    Ok(if ext.is_empty() { String::new() } else { BASE64_STANDARD.encode(Value::Object(ext).to_string()) })
}

/// The value of the `Authorization` header. `timestamp` is in seconds since 1970; `nonce` is used once.
pub fn header(target: Target<'_>, credentials: &Credentials, timestamp: i64, nonce: &str, ext: &str) -> String {
    let mac = mac("header", target, credentials, timestamp, nonce, ext);
    let ext = if ext.is_empty() { String::new() } else { format!(", ext=\"{ext}\"") };
    format!("Hawk id=\"{}\", ts=\"{timestamp}\", nonce=\"{nonce}\"{ext}, mac=\"{mac}\"", credentials.client_id)
}

/// The value of the query parameter `bewit`: a signature in a URL, for `GET` only, valid until `expires` (seconds since 1970).
pub fn bewit(target: Target<'_>, credentials: &Credentials, expires: i64, ext: &str) -> String {
    let target = Target { method: "GET", ..target };
    let mac = mac("bewit", target, credentials, expires, "", ext);
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}\\{expires}\\{mac}\\{ext}", credentials.client_id))
}

fn mac(kind: &str, target: Target<'_>, credentials: &Credentials, timestamp: i64, nonce: &str, ext: &str) -> String {
    let Target { method, resource, host, port } = target;
    // The line after the port is that of the payload hash, which Taskcluster does not use.
    let text = format!("hawk.1.{kind}\n{timestamp}\n{nonce}\n{method}\n{resource}\n{host}\n{port}\n\n{ext}\n");
    let key = hmac::Key::new(hmac::HMAC_SHA256, credentials.access_token.expose().as_bytes());
    BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}
