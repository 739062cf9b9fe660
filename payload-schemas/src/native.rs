//! The payload of a native task: what the reference worker's engine for the current user accepts, in types.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value, json};

use crate::check::mend::mend;
use crate::{Problem, check, date_time};

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the text is part of this program, and every test of this crate reads it")]
    serde_json::from_str(schema_text()).expect("native.json is JSON")
});

/// The schema as a value.
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// The schema as it stands in its file, for people.
pub fn schema_text() -> &'static str {
    include_str!("../native.json")
}

/// Checks a payload and turns it into types, or says everything that is wrong with it.
///
/// Pointers and fields are relative to the payload.
pub fn check(payload: &Value) -> Result<Payload, Vec<Problem>> {
    let mut problems = check::check(payload, schema());
    if problems.is_empty() {
        // What the schema accepts fits the types; an agreement test holds that. Were it otherwise, it would be one more problem.
        return Payload::deserialize(payload).map_err(|error| vec![Problem::new("", error.to_string())]);
    }
    for problem in &mut problems {
        if let Some(hint) = elsewhere(&problem.pointer) {
            problem.hint = Some(hint.to_owned());
        }
    }
    Err(problems)
}

/// What is left of a payload that [`check`] refuses when everything wrong is taken out of it, so that further rules can look at the
/// rest. It is nothing to run: what a payload must have and this one has not is made up, in the way that no rule minds, and so
/// are items of lists that were wrong; mounts that were are `null`.
pub fn mended(payload: &Value) -> Option<Payload> {
    let mut left = mend(payload, schema())?;
    left.entry("command").or_insert_with(|| json!([null]));
    left.entry("maxRunTime").or_insert_with(|| json!(1));
    for command in left.get_mut("command").and_then(Value::as_array_mut).into_iter().flatten() {
        match command {
            Value::Array(words) => fill(words, |_| json!("true")),
            command => *command = json!(["true"]),
        }
    }
    if let Some(artifacts) = left.get_mut("artifacts").and_then(Value::as_array_mut) {
        // Names of their own, so that none is there twice. Without a name, a path would be one that nobody has meant so.
        let name = |index: usize| format!("public/wrong/{index}");
        fill(artifacts, |index| json!({ "type": "file", "path": name(index) }));
        for (index, artifact) in artifacts.iter_mut().enumerate() {
            if payload["artifacts"][index].get("name").is_some() && artifact.get("name").is_none() {
                artifact["name"] = json!(name(index));
            }
        }
    }
    let codes = left.get_mut("onExitStatus").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    codes.for_each(drop_holes);
    left.get_mut("osGroups").into_iter().for_each(drop_holes);
    Payload::deserialize(Value::Object(left)).ok()
}

/// Puts something into the places of wrong items.
pub(crate) fn fill(items: &mut [Value], with: impl Fn(usize) -> Value) {
    items.iter_mut().enumerate().filter(|(_, item)| item.is_null()).for_each(|(index, item)| *item = with(index));
}

/// Closes the places of wrong items.
pub(crate) fn drop_holes(list: &mut Value) {
    if let Some(items) = list.as_array_mut() {
        items.retain(|item| !item.is_null());
    }
}

/// Properties that exist, but not in payloads of this kind.
fn elsewhere(pointer: &str) -> Option<&'static str> {
    match pointer {
        "/features/chainOfTrust" | "/features/runTaskAsCurrentUser" => Some(
            "only workers that run each task as a user of its own have this feature; this one runs tasks as the current user",
        ),
        "/scopes" | "/dependencies" | "/metadata" | "/provisionerId" | "/workerType" | "/taskQueueId" | "/deadline"
        | "/expires" | "/routes" | "/retries" | "/extra" | "/tags" | "/priority" => {
            Some("this belongs to the task, beside `payload`")
        }
        "/cache" | "/capabilities" | "/log" => Some("this belongs to payloads for containers, which have an `image`"),
        _ => None,
    }
}

/// A native payload.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    /// Programs with their arguments, run in this order. At least one, none of them empty.
    pub command: Vec<Vec<String>>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long all commands together may take, in seconds; at least 1.
    #[serde(rename = "maxRunTime", deserialize_with = "seconds")]
    pub max_run_time_secs: u64,
    /// What to publish.
    #[serde(default)]
    pub artifacts: Vec<ArtifactSpec>,
    /// What is switched on.
    #[serde(default)]
    pub features: Features,
    /// Mounts, which the schema has checked.
    #[serde(default)]
    pub mounts: Vec<Value>,
    /// Supplementary groups.
    #[serde(default)]
    pub os_groups: Vec<String>,
    /// Exit codes with a meaning.
    #[serde(default, rename = "onExitStatus")]
    pub on_exit: OnExit,
    /// Names of the logs.
    #[serde(default)]
    pub logs: Logs,
    /// Where the proxy listens.
    #[serde(default, rename = "taskclusterProxyInterface")]
    pub proxy_interface: ProxyInterface,
    /// Accepted, without effect.
    #[serde(default)]
    pub superseder_url: Option<String>,
}

/// One file or directory to publish.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactSpec {
    /// What the path must be.
    #[serde(rename = "type")]
    pub kind: FileOrDirectory,
    /// Relative to the task's directory, or absolute.
    pub path: String,
    /// Name to publish it under; see [`ArtifactSpec::published_name`].
    #[serde(default)]
    pub name: Option<String>,
    /// When it expires; with the task if this is not said.
    #[serde(default, deserialize_with = "timestamp")]
    pub expires: Option<Timestamp>,
    /// Media type; told by the extension if this is not said.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Encoding in the store; told by the extension if this is not said.
    #[serde(default)]
    pub content_encoding: Option<Encoding>,
    /// Missing is no failure.
    #[serde(default)]
    pub optional: bool,
}

impl ArtifactSpec {
    /// The name to publish it under: an empty one counts as none.
    pub fn published_name(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.path)
    }
}

/// What an artifact's path must be.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum FileOrDirectory {
    /// One file.
    File,
    /// A directory, all files below it.
    Directory,
}

/// How an artifact is stored.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As it is.
    Identity,
    /// Compressed.
    Gzip,
}

/// Switches. Those that are on by default are no request of the author's.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the schema describes each")]
pub struct Features {
    pub backing_log: bool,
    pub live_log: bool,
    pub resource_monitor: bool,
    pub taskcluster_proxy: bool,
    pub interactive: bool,
    pub loopback_audio: bool,
    pub loopback_video: bool,
    /// Only payloads for containers can ask for it here.
    pub chain_of_trust: bool,
}

impl Default for Features {
    fn default() -> Features {
        Features {
            backing_log: true,
            live_log: true,
            resource_monitor: true,
            taskcluster_proxy: false,
            interactive: false,
            loopback_audio: false,
            loopback_video: false,
            chain_of_trust: false,
        }
    }
}

/// Exit codes with a meaning.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct OnExit {
    /// The task is run again.
    #[serde(deserialize_with = "exit_codes")]
    pub retry: Vec<i64>,
    /// Writable caches are thrown away.
    #[serde(deserialize_with = "exit_codes")]
    pub purge_caches: Vec<i64>,
}

/// Artifact names of the logs.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Logs {
    /// While the task runs.
    pub live: String,
    /// Afterwards.
    pub backing: String,
}

impl Default for Logs {
    fn default() -> Logs {
        Logs { live: "public/logs/live.log".to_owned(), backing: "public/logs/live_backing.log".to_owned() }
    }
}

/// Where the proxy listens.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyInterface {
    /// Only for the task's own processes.
    #[default]
    Localhost,
    /// For containers that the task starts, too.
    DockerBridge,
}

/// Any whole number of at least 1, 1.0 and 1e3 included. What is beyond the type is as good as forever.
pub(crate) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Number::deserialize(deserializer).map(|number| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, as it should")]
        number.as_u64().unwrap_or_else(|| number.as_f64().unwrap_or_default() as u64)
    })
}

/// Whole numbers. What is beyond the type is no exit code of anything, and stays so when it saturates.
fn exit_codes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i64>, D::Error> {
    let numbers = Vec::<Number>::deserialize(deserializer)?;
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, as it should")]
    let codes = numbers.iter().map(|number| number.as_i64().unwrap_or_else(|| number.as_f64().unwrap_or_default() as i64));
    Ok(codes.collect())
}

pub(crate) fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    date_time(&text).map(Some).ok_or_else(|| serde::de::Error::custom("not a date and time"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::{Encoding, FileOrDirectory, Logs, ProxyInterface, check};
    use serde_json::json;

    #[test]
    fn the_smallest_payload_gets_the_documented_defaults() {
        let payload = check(&json!({"command": [["true"]], "maxRunTime": 1.0})).unwrap();
        assert_eq!(payload.command, [["true"]]);
        assert_eq!(payload.max_run_time_secs, 1);
        assert!(payload.features.live_log && payload.features.backing_log && payload.features.resource_monitor);
        assert!(!payload.features.taskcluster_proxy && !payload.features.interactive);
        assert_eq!(payload.logs, Logs::default());
        assert_eq!(payload.proxy_interface, ProxyInterface::Localhost);
        assert!(payload.on_exit.retry.is_empty() && payload.artifacts.is_empty() && payload.mounts.is_empty());
    }

    #[test]
    fn every_part_arrives_in_its_type() {
        let payload = check(&json!({
            "command": [["a", "b"], ["c"]], "maxRunTime": 1e30, "env": {"A": "1"}, "osGroups": ["kvm"],
            "features": {"liveLog": false, "taskclusterProxy": true}, "taskclusterProxyInterface": "docker-bridge",
            "logs": {"live": "x"}, "onExitStatus": {"retry": [1, 2.0, 1e25], "purgeCaches": [0]},
            "mounts": [{"cacheName": "c", "directory": "d"}],
            "artifacts": [{"type": "directory", "path": "out", "name": "", "expires": "2030-01-01T00:00:00Z", "contentEncoding": "gzip",
                "contentType": "text/plain", "optional": true}],
        }))
        .unwrap();
        assert_eq!(payload.max_run_time_secs, u64::MAX);
        assert_eq!(payload.on_exit.retry, [1, 2, i64::MAX]);
        assert_eq!((payload.logs.live.as_str(), payload.logs.backing.as_str()), ("x", "public/logs/live_backing.log"));
        assert!(!payload.features.live_log && payload.features.backing_log && payload.features.taskcluster_proxy);
        let artifact = &payload.artifacts[0];
        assert_eq!((artifact.kind, artifact.content_encoding), (FileOrDirectory::Directory, Some(Encoding::Gzip)));
        assert_eq!(artifact.published_name(), "out");
        assert_eq!(artifact.expires.unwrap().to_string(), "2030-01-01T00:00:00Z");
    }

    #[test]
    fn sentences_that_programs_read_are_literal() {
        let problems = check(&json!({
            "command": [["true"]], "maxRunTime": 0, "onExitStatus": {"retry": [-1], "purgeCaches": [-1]},
            "artifacts": [{"type": "file", "path": "x", "contentEncoding": "jpg"}],
        }))
        .unwrap_err();
        let said: Vec<String> = problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
        assert_eq!(
            said,
            [
                "maxRunTime: Must be greater than or equal to 1",
                "onExitStatus.retry.0: Must be greater than or equal to 1",
                "onExitStatus.purgeCaches.0: Must be greater than or equal to 0",
                "artifacts.0.contentEncoding: artifacts.0.contentEncoding must be one of the following: \"identity\", \"gzip\"",
            ]
        );
    }
}
