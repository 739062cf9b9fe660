//! What a task may say, and how to tell its author what is wrong with it.
//!
//! This crate owns three things and does no input or output of its own:
//!
//! * [`Document`]: the text of one JSON or YAML file, its value, and the line and column of everything in it;
//! * [`Problem`]: one thing that is wrong, with its field, its place and a sentence;
//! * the payload schemas (`native.json`, `docker.json`), the checker that holds a value against them, and the typed
//!   [`native::Payload`] and [`docker::Payload`], with what images are called ([`Reference`]).
//!
//! ```text
//! bytes ──Document::parse──▶ Value ──native::check──▶ Payload
//!             │                          │ docker::check
//!             ▼                          ▼
//!          Problem                  Vec<Problem> ──apply_places──▶ the same, with file, line and column
//! ```
//!
//! The schema files are the only source of what is accepted: the checker reads them, the log of a malformed task prints them, and a
//! test holds the checker against an independent implementation of JSON Schema.

mod check;
pub mod docker;
mod document;
pub mod limit;
pub mod native;
mod nearest;
mod problem;
mod reference;

pub use check::format::{date_time, is_uri};
pub use document::{
    Cursor, Document, MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_MEMBERS, Member, Repeats, members, taken_for_json, text,
};
pub use nearest::nearest;
pub use problem::{Place, Problem, apply_places, apply_places_below, escape_pointer_segment};
pub use reference::Reference;

use serde_json::Value;

/// Whether a payload is meant for a container: the reference worker decides by the property `image`, and so do we.
pub fn is_container_payload(payload: &Value) -> bool {
    payload.get("image").is_some()
}

/// The schema of all payloads, for people: that of native ones or that of containers.
pub fn schema_text() -> String {
    let indented = |schema: &str| schema.trim_end().replace('\n', "\n    ");
    format!(
        "{{\n  \"$schema\": \"http://json-schema.org/draft-07/schema#\",\n  \"$id\": \"/schemas/tc-worker/payload.json#\",\n  \
         \"title\": \"Payload of a task\",\n  \
         \"description\": \"With the property `image` it is for a container, without it for native commands.\",\n  \
         \"oneOf\": [\n    {},\n    {}\n  ]\n}}\n",
        indented(native::schema_text()),
        indented(docker::schema_text())
    )
}
