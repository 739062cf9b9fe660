//! `show-payload-schema`.

/// The schema of native payloads.
pub fn text() -> &'static str {
    tc_payload::native::schema_text()
}
