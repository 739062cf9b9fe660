//! The documents of an archive and of an image, with the fields that are read or written.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

pub(super) const CONFIG_TYPE: &str = "application/vnd.docker.container.image.v1+json";
pub(super) const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const LAYER_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar";
pub(super) const GZIP_LAYER_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Types of manifests, and of lists of them.
pub(super) const MANIFEST_TYPES: [&str; 2] = [MANIFEST_TYPE, "application/vnd.oci.image.manifest.v1+json"];
pub(super) const INDEX_TYPES: [&str; 2] =
    ["application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json"];
/// The annotation with the name of an image.
pub(super) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// Marks a manifest that only says something about another.
pub(super) const ATTESTATION_ANNOTATION: &str = "vnd.docker.reference.type";

/// What leads to another object.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: i64,
    #[serde(default, skip_serializing)]
    pub annotations: HashMap<String, String>,
    #[serde(default, skip_serializing)]
    pub platform: Option<Platform>,
}

/// Which machine something is for.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
}

/// `oci-layout`
#[derive(Debug, Deserialize)]
pub(super) struct Layout {
    #[serde(default, rename = "imageLayoutVersion")]
    pub version: String,
}

/// `index.json`, or a list of manifests.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// A manifest.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// An entry of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Saved {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub layers: Vec<String>,
}

/// The configuration of an image.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    #[serde(flatten)]
    pub platform: Platform,
    pub rootfs: RootFs,
}

/// What it is made of.
#[derive(Debug, Deserialize)]
pub(super) struct RootFs {
    #[serde(default)]
    pub diff_ids: Vec<String>,
}

/// Reads one of them. `what` names it.
pub(super) fn read<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{what}: {error}"))
}
