//! The payload of a container task: what docker-worker accepts, in types.
//!
//! ```text
//!         docker.json   rules            written
//! Value ──────▶ schema ──────▶ Written ────────▶ Payload { common: native::Payload, container: Container }
//!                 │      │
//!                 └──────┴──▶ Vec<Problem>, of both at once
//! ```

mod path;
mod rules;
mod written;

pub use path::kept_by_the_engine;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::check::mend::mend;
use crate::{Problem, check, native};
use written::Written;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the text is part of this program, and every test of this crate reads it")]
    serde_json::from_str(schema_text()).expect("docker.json is JSON")
});

/// The schema as a value.
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// The schema as it stands in its file, for people.
pub fn schema_text() -> &'static str {
    include_str!("../../docker.json")
}

/// Everything that the schema alone has against a payload. [`check`] knows of further rules.
pub fn against_schema(payload: &Value) -> Vec<Problem> {
    let mut problems = check::check(payload, schema());
    for problem in &mut problems {
        if let Some(hint) = elsewhere(&problem.pointer) {
            problem.hint = Some(hint.to_owned());
        }
    }
    problems
}

/// Checks a payload and turns it into types, or says everything that is wrong with it.
///
/// Pointers and fields are relative to the payload.
pub fn check(payload: &Value) -> Result<Payload, Vec<Problem>> {
    let mut problems = against_schema(payload);
    problems.extend(rules::problems(payload));
    if !problems.is_empty() {
        return Err(problems);
    }
    // What the schema accepts fits the types; an agreement test holds that. Were it otherwise, it would be one more problem.
    let written = Written::deserialize(payload).map_err(|error| vec![Problem::new("", error.to_string())])?;
    Ok(written.into_payload())
}

/// What is left of a payload that [`check`] refuses when everything wrong is taken out of it, so that further rules can look at the
/// rest. It is nothing to run: what a payload must have and this one has not is made up, in the way that no rule minds.
pub fn mended(payload: &Value) -> Option<Payload> {
    let mut left = mend(payload, schema())?;
    let codes = left.get_mut("onExitStatus").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    codes.for_each(native::drop_holes);
    if let Some(words) = left.get_mut("command").and_then(Value::as_array_mut) {
        native::fill(words, |_| json!("true"));
    }
    let mut left = Value::Object(left);
    for problem in rules::problems(&left) {
        rules::take_out(&mut left, &problem.pointer);
    }
    let object = left.as_object_mut()?;
    object.entry("image").or_insert_with(|| json!("wrong"));
    object.entry("maxRunTime").or_insert_with(|| json!(1));
    Written::deserialize(left).ok().map(Written::into_payload)
}

/// Reads what a payload could have as its `image`. Pointers and fields are relative to it.
pub fn image(image: &Value) -> Result<ImageForm, Vec<Problem>> {
    let mut problems = check::check_part(image, &schema()["properties"]["image"], schema());
    problems.extend(rules::image_problem(image));
    if !problems.is_empty() {
        return Err(problems);
    }
    written::image(image).map_err(|error| vec![Problem::new("", error.to_string())])
}

/// Properties that exist, but not in payloads of this kind, and those that are gone.
fn elsewhere(pointer: &str) -> Option<&'static str> {
    match pointer {
        "/scopes" | "/dependencies" | "/metadata" | "/provisionerId" | "/workerType" | "/taskQueueId" | "/deadline"
        | "/expires" | "/routes" | "/retries" | "/extra" | "/tags" | "/priority" => {
            Some("this belongs to the task, beside `payload`")
        }
        "/mounts" | "/osGroups" | "/logs" | "/taskclusterProxyInterface" => {
            Some("this belongs to native payloads, which have no `image`; containers have `cache`, `artifacts` and `log`")
        }
        "/features/liveLog" => Some("in payloads for containers it is called `localLiveLog`"),
        "/features/backingLog" => Some("in payloads for containers it is called `bulkLog`"),
        "/features/dind"
        | "/features/dockerSave"
        | "/features/balrogVPNProxy"
        | "/features/balrogStageVPNProxy"
        | "/features/relengAPIProxy" => Some("docker-worker had this feature once; no worker has it any more"),
        _ => None,
    }
}

/// A container payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// What it has in common with native tasks. Its one command may be empty. Paths of artifacts are absolute paths in the
    /// container, none of them has to be there, and they are sorted by name.
    pub common: native::Payload,
    /// What only containers have.
    pub container: Container,
}

/// What a container task says beyond the parts that all tasks have ([`crate::native::Payload`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Where its image comes from.
    pub image: ImageForm,
    /// Arguments for the image's entry point; empty for what the image runs by itself.
    pub command: Vec<String>,
    /// Writable caches: the path in the container by the cache's name. Paths are absolute, without `.`, `..` and empty parts,
    /// differ from each other and from all volumes, and are to be taken literally.
    pub caches: BTreeMap<String, String>,
    /// Paths of artifacts of the type `volume`, in order, each once; absolute and clean as those of caches.
    pub volumes: Vec<String>,
    /// What it may do beyond an ordinary container, as far as the pool allows it.
    pub capabilities: Capabilities,
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageForm {
    /// From a registry, by a name as the author wrote it, which [`crate::Reference`] can read.
    Registry(String),
    /// From the task that the index knows under a name.
    Indexed {
        /// The name in the index.
        namespace: String,
        /// The artifact's name.
        path: String,
    },
    /// From a task.
    Task {
        /// The task.
        task_id: String,
        /// The artifact's name.
        path: String,
    },
}

impl ImageForm {
    /// The form under which the image is looked up: two that are equal then mean one image, however a name was written.
    #[must_use]
    pub fn canonical(&self) -> Self {
        match self {
            Self::Registry(name) => {
                Self::Registry(crate::Reference::parse(name).map_or_else(|_| name.clone(), |name| name.canonical()))
            }
            Self::Indexed { .. } | Self::Task { .. } => self.clone(),
        }
    }
}

/// What a container may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the schema describes each")]
pub struct Capabilities {
    pub privileged: bool,
    pub disable_seccomp: bool,
    pub allow_ptrace: bool,
    pub loopback_video: bool,
    pub loopback_audio: bool,
    pub host_shared_memory: bool,
    pub kvm: bool,
}

#[cfg(test)]
mod tests;
