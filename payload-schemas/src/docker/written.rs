//! A container payload as it is written, and how it becomes the payload that is run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;

use super::{Capabilities, Container, ImageForm, Payload, path};
use crate::native::{self, ArtifactSpec, FileOrDirectory, Logs, OnExit, ProxyInterface, seconds, timestamp};

/// The payload, property by property.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Written {
    image: Image,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(deserialize_with = "seconds")]
    max_run_time: u64,
    #[serde(default)]
    cache: BTreeMap<String, String>,
    #[serde(default)]
    artifacts: BTreeMap<String, Artifact>,
    #[serde(default)]
    capabilities: WrittenCapabilities,
    #[serde(default)]
    on_exit_status: OnExit,
    #[serde(default)]
    log: Option<String>,
    #[serde(default)]
    features: Features,
    #[serde(default)]
    superseder_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Image {
    Name(String),
    Form(Form),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
enum Form {
    #[serde(rename = "docker-image")]
    Named { name: String },
    #[serde(rename = "indexed-image")]
    Indexed { namespace: String, path: String },
    #[serde(rename = "task-image")]
    OfTask { task_id: String, path: String },
}

#[derive(Deserialize)]
struct Artifact {
    #[serde(rename = "type")]
    kind: Kind,
    path: String,
    #[serde(default, deserialize_with = "timestamp")]
    expires: Option<Timestamp>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    File,
    Directory,
    Volume,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WrittenCapabilities {
    privileged: bool,
    disable_seccomp: bool,
    devices: Devices,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Devices {
    loopback_video: bool,
    loopback_audio: bool,
    host_shared_memory: bool,
    kvm: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Features {
    local_live_log: bool,
    bulk_log: bool,
    artifacts: bool,
    taskcluster_proxy: bool,
    interactive: bool,
    allow_ptrace: bool,
    chain_of_trust: bool,
}

impl Default for Features {
    fn default() -> Features {
        Features {
            local_live_log: true,
            bulk_log: true,
            artifacts: true,
            taskcluster_proxy: false,
            interactive: false,
            allow_ptrace: false,
            chain_of_trust: false,
        }
    }
}

impl Written {
    /// The payload that is run.
    pub(super) fn into_payload(self) -> Payload {
        let Written { capabilities, features, .. } = &self;
        // Without artifacts there are no logs either, since these are artifacts.
        let published = features.artifacts;
        let common_features = native::Features {
            live_log: features.local_live_log && published,
            backing_log: features.bulk_log && published,
            taskcluster_proxy: features.taskcluster_proxy,
            interactive: features.interactive,
            chain_of_trust: features.chain_of_trust,
            ..native::Features::default()
        };
        let capabilities = Capabilities {
            privileged: capabilities.privileged,
            disable_seccomp: capabilities.disable_seccomp,
            allow_ptrace: features.allow_ptrace,
            loopback_video: capabilities.devices.loopback_video,
            loopback_audio: capabilities.devices.loopback_audio,
            host_shared_memory: capabilities.devices.host_shared_memory,
            kvm: capabilities.devices.kvm,
        };
        // The task relies on a volume's directory also when nothing of it is published.
        let volumes = self.artifacts.values().filter(|artifact| artifact.kind == Kind::Volume);
        let volumes: BTreeSet<String> = volumes.filter_map(|artifact| path::mount_point(&artifact.path).ok()).collect();
        let artifacts = self.artifacts.into_iter().filter(|_| published).map(|(name, artifact)| artifact.into_spec(name));
        let common = native::Payload {
            command: vec![self.command.clone()],
            env: self.env,
            max_run_time_secs: self.max_run_time,
            artifacts: artifacts.collect(),
            features: common_features,
            mounts: Vec::new(),
            os_groups: Vec::new(),
            on_exit: self.on_exit_status,
            logs: self.log.map_or_else(Logs::default, |live| Logs { backing: backing(&live), live }),
            proxy_interface: ProxyInterface::DockerBridge,
            superseder_url: self.superseder_url,
        };
        let container = Container {
            image: self.image.into(),
            command: self.command,
            caches: self.cache.into_iter().filter_map(|(name, path)| Some((name, path::mount_point(&path).ok()?))).collect(),
            volumes: volumes.into_iter().collect(),
            capabilities,
        };
        Payload { common, container }
    }
}

impl Artifact {
    fn into_spec(self, name: String) -> ArtifactSpec {
        ArtifactSpec {
            kind: if self.kind == Kind::File { FileOrDirectory::File } else { FileOrDirectory::Directory },
            path: path::readable(&self.path).unwrap_or(self.path),
            name: Some(name),
            expires: self.expires,
            content_type: None,
            content_encoding: None,
            optional: true,
        }
    }
}

impl From<Image> for ImageForm {
    fn from(image: Image) -> ImageForm {
        match image {
            Image::Name(name) | Image::Form(Form::Named { name }) => ImageForm::Registry(name),
            Image::Form(Form::Indexed { namespace, path }) => ImageForm::Indexed { namespace, path },
            Image::Form(Form::OfTask { task_id, path }) => ImageForm::Task { task_id, path },
        }
    }
}

/// An image that the schema has accepted.
pub(super) fn image(image: &serde_json::Value) -> Result<ImageForm, serde_json::Error> {
    Image::deserialize(image).map(Into::into)
}

/// The name of the whole log, from that of the live one: `_backing` before the last extension of its last part.
pub(super) fn backing(live: &str) -> String {
    let file = live.rfind('/').map_or(0, |slash| slash + 1);
    let dot = live[file..].rfind('.').map_or(live.len(), |dot| file + dot);
    format!("{}_backing{}", &live[..dot], &live[dot..])
}
