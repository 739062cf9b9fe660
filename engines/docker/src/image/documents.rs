//! The documents of an image archive: which image it holds, and the same under a name of ours.
//!
//! Two formats, often both in one archive: `manifest.json` (`docker save`, kaniko and others) and the OCI layout
//! (`oci-layout`, `index.json`, blobs by digest). Names in an archive are never given to the engine: a task could
//! otherwise put its image in the place of another one. Of several images only the first is taken.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::known::{LayerMember, Store};
use crate::packing::Packing;

/// Names of the documents that are held back and written anew at the end.
pub const HELD: [&str; 4] = ["manifest.json", "index.json", "oci-layout", "repositories"];
/// How deep indexes may contain indexes.
const INDEX_DEPTH: u32 = 3;

/// SHA-256 in hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Lowercase hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
        for nibble in [byte >> 4, byte & 15] {
            digits.extend(char::from_digit(u32::from(nibble), 16));
        }
        digits
    })
}

/// What was collected on the way.
#[derive(Debug, Default)]
pub struct Documents {
    /// Held documents by cleaned name.
    pub held: BTreeMap<String, Bytes>,
    /// Small JSON members by cleaned name: configurations and manifests are among them.
    pub kept: BTreeMap<String, Bytes>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// The image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// SHA-256 of its configuration in hexadecimal digits.
    pub config_sha256: String,
    /// Size of its configuration.
    pub config_bytes: usize,
    /// Its layers from the bottom: what they unpack to.
    pub diff_ids: Vec<String>,
    /// And the members that they are, as named by the archive.
    pub layers: Vec<String>,
}

/// The diff ids of an image's configuration, if this is one.
pub fn diff_ids_of(config: &[u8]) -> Option<Vec<String>> {
    serde_json::from_slice::<Config>(config).ok().map(|config| config.rootfs.diff_ids)
}

impl Documents {
    /// Whether an engine with containerd's store reads the OCI documents.
    pub fn is_oci(&self) -> bool {
        self.held.contains_key("oci-layout")
    }

    fn index(&self) -> Option<Value> {
        serde_json::from_slice(self.held.get("index.json")?).ok()
    }

    fn blob(&self, digest: &str) -> Option<&Bytes> {
        self.kept.get(&format!("blobs/sha256/{}", digest.strip_prefix("sha256:")?))
    }

    /// The first image of `manifest.json`, or else of the index.
    fn first(&self) -> Result<ManifestItem, String> {
        if let Some(manifest) = self.held.get("manifest.json") {
            let items: Vec<ManifestItem> =
                serde_json::from_slice(manifest).map_err(|error| format!("no image: read manifest.json: {error}"))?;
            return items.into_iter().next().ok_or_else(|| "no image: its manifest.json lists none".to_owned());
        }
        if !self.held.contains_key("index.json") {
            return Err("no image: it has neither manifest.json nor index.json".to_owned());
        }
        let index = self.index().ok_or("no image: its index.json cannot be read")?;
        let manifest = self.descend(&index, INDEX_DEPTH).ok_or("no image: its index.json leads to no manifest")?;
        let path = |digest: &Value| {
            digest.as_str().and_then(|digest| digest.strip_prefix("sha256:")).map(|hex| format!("blobs/sha256/{hex}"))
        };
        let layers =
            manifest["layers"].as_array().map(|layers| layers.iter().filter_map(|layer| path(&layer["digest"])).collect());
        let config = path(&manifest["config"]["digest"]).ok_or("no image: its manifest names no configuration")?;
        Ok(ManifestItem { config, repo_tags: None, layers })
    }

    /// The first manifest of an image below an index or manifest.
    fn descend(&self, document: &Value, depth: u32) -> Option<Value> {
        if document["config"].is_object() {
            return Some(document.clone());
        }
        let depth = depth.checked_sub(1)?;
        document["manifests"].as_array()?.iter().filter(|entry| entry["platform"]["os"] != "unknown").find_map(|entry| {
            let below = serde_json::from_slice(self.blob(entry["digest"].as_str()?)?).ok()?;
            self.descend(&below, depth)
        })
    }

    /// The configuration, if it was kept.
    pub fn config(&self) -> Option<Bytes> {
        self.kept.get(&super::tar::clean(&self.first().ok()?.config)).cloned()
    }

    /// Which image this is. None if its configuration was not kept; an error if the archive is none of an image.
    pub fn describe(&self) -> Result<Option<Described>, String> {
        let first = self.first()?;
        let Some(config) = self.kept.get(&super::tar::clean(&first.config)) else { return Ok(None) };
        let Some(diff_ids) = diff_ids_of(config) else { return Ok(None) };
        let layers = first.layers.unwrap_or_default();
        if layers.len() != diff_ids.len() {
            return Err(format!("no image: {} layers, but its configuration has {}", layers.len(), diff_ids.len()));
        }
        Ok(Some(Described { config_sha256: sha256_hex(config), config_bytes: config.len(), diff_ids, layers }))
    }

    /// The documents for the engine, with `name` as the image's only name.
    pub fn rewritten(&self, name: &Name, store: Store) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut out = Vec::new();
        let first = self.first()?;
        if let Some(layout) = self.held.get("oci-layout") {
            out.push(("oci-layout".to_owned(), layout.to_vec()));
        }
        if let Some(mut index) = self.index() {
            let config =
                self.kept.get(&super::tar::clean(&first.config)).map(|config| format!("sha256:{}", sha256_hex(config)));
            let entries = index["manifests"].as_array().cloned().unwrap_or_default();
            let chosen = entries
                .iter()
                .find(|entry| config.as_deref().is_some_and(|config| self.reaches(entry, config, INDEX_DEPTH)))
                .or(entries.first());
            index["manifests"] = json!(chosen.map(|entry| named(entry.clone(), name)).as_slice());
            out.push(("index.json".to_owned(), index.to_string().into_bytes()));
        }
        // The graph drivers know `manifest.json` only.
        if self.held.contains_key("manifest.json") || store == Store::Graph {
            let item = ManifestItem { repo_tags: Some(vec![name.full()]), ..first };
            out.push(("manifest.json".to_owned(), json!([item]).to_string().into_bytes()));
        }
        Ok(out)
    }

    fn reaches(&self, entry: &Value, config: &str, depth: u32) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        let Some(document) = entry["digest"].as_str().and_then(|digest| self.blob(digest)) else { return false };
        let Ok(document) = serde_json::from_slice::<Value>(document) else { return false };
        document["config"]["digest"] == config
            || document["manifests"]
                .as_array()
                .is_some_and(|entries| entries.iter().any(|entry| self.reaches(entry, config, depth)))
    }
}

/// The name of an image that came as an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Registry and path.
    pub repository: String,
    /// Tag.
    pub tag: String,
}

impl Name {
    /// Both.
    pub fn full(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

fn named(mut entry: Value, name: &Name) -> Value {
    if !entry["annotations"].is_object() {
        entry["annotations"] = json!({});
    }
    entry["annotations"]["io.containerd.image.name"] = json!(name.full());
    entry["annotations"]["org.opencontainers.image.ref.name"] = json!(name.tag);
    entry
}

/// OCI documents for an archive that has none, so that it may lack layers whose blobs the engine has. The manifest is the
/// one that the engine would have made from `manifest.json`, so the image gets the same identifier.
pub fn oci_documents(image: &Described, layers: &[LayerMember], name: &Name) -> Option<Vec<(String, Vec<u8>)>> {
    let layers: Option<Vec<Value>> = layers
        .iter()
        .map(|layer| {
            let packed = match layer.packing {
                Packing::Plain => "",
                // So the engine calls whatever is compressed; when it unpacks a layer, its first bytes count.
                Packing::Gzip | Packing::Zstd => ".gzip",
            };
            Some(json!({
                "mediaType": format!("application/vnd.docker.image.rootfs.diff.tar{packed}"),
                "digest": format!("sha256:{}", layer.sha256.as_ref()?),
                "size": layer.bytes,
            }))
        })
        .collect();
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": format!("sha256:{}", image.config_sha256),
            "size": image.config_bytes,
        },
        "layers": layers?,
    })
    .to_string()
    .into_bytes();
    let digest = sha256_hex(&manifest);
    let entry = json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": manifest.len() });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [named(entry, name)],
    });
    Some(vec![
        (format!("blobs/sha256/{digest}"), manifest),
        ("index.json".to_owned(), index.to_string().into_bytes()),
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ])
}
