//! `show-payload-schema`.

/// The schema of all payloads, native ones and those for containers.
pub fn text() -> String {
    tc_payload::schema_text()
}
