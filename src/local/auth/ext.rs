//! `ext`, in which a signature carries certificates and restrictions.

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;
use serde_json::Value;

use super::certificate::Certificate;

/// What `ext` may hold.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ext {
    pub(crate) certificate: Option<Certificate>,
    pub(crate) authorized_scopes: Option<Vec<String>>,
}

/// What it says. An empty one says nothing.
pub(crate) fn parse(text: &str) -> Result<Ext, String> {
    let bytes = decode_any_base64(text).ok_or("ext is not base64")?;
    let mut value: Value = serde_json::from_slice(&bytes).map_err(|_| "ext is not JSON".to_owned())?;
    // Credentials carry the certificate as a string, and some clients leave it one.
    if let Some(inner) = value.get("certificate").and_then(Value::as_str) {
        value["certificate"] = serde_json::from_str(inner).map_err(|_| "ext.certificate is not JSON".to_owned())?;
    }
    serde_json::from_value(value).map_err(|error| format!("ext is malformed: {error}"))
}

/// The reference decodes both alphabets, padded or not, so clients send all of them.
pub(crate) fn decode_any_base64(text: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [&STANDARD, &URL_SAFE].into_iter().find_map(|alphabet| GeneralPurpose::new(alphabet, lenient).decode(text).ok())
}
