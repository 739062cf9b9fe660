//! What an archive of an image says about itself: its manifest and configuration, the order of its layers, its names. Pure.
//!
//! Read as the engine reads it. With an `oci-layout` in it the archive is an OCI layout, and the image's identifier is the
//! digest that `index.json` names. Otherwise `manifest.json` says which files are layers, and the identifier is the digest of
//! the manifest that is composed from it, byte for byte as containerd composes it. So an image has the identifier that
//! `docker load` of the same archive gives it.

use std::collections::HashMap;

use super::{
    digests::{digest_of, is_digest},
    documents::{
        self, ATTESTATION_ANNOTATION, CONFIG_TYPE, Config, Descriptor, GZIP_LAYER_TYPE, INDEX_TYPES, Index, LAYER_TYPE, Layout,
        MANIFEST_TYPE, MANIFEST_TYPES, Manifest, NAME_ANNOTATION, Saved,
    },
};
use crate::packing::Packing;

/// Most layers of an image: what overlayfs stacks.
const LAYERS: usize = 500;

/// How deep links in an archive may lead to links.
const ALIASES: usize = 8;

/// A layer that was in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayerFile {
    /// Digest of the file as it is in the archive.
    pub blob: String,
    /// Its size.
    pub bytes: u64,
    /// Digest of what it is without compression.
    pub diff: String,
    /// How it is compressed.
    pub packing: Packing,
}

/// Everything that was found in an archive. Paths are without `./`.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Small files, by path.
    pub files: HashMap<String, Vec<u8>>,
    /// Layers, by path: positions in `layers`.
    pub layer_paths: HashMap<String, usize>,
    /// The layers.
    pub layers: Vec<LayerFile>,
    /// Symbolic links, by path.
    pub aliases: HashMap<String, String>,
}

/// An object of an image other than a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub digest: String,
    pub bytes: Vec<u8>,
    /// What it refers to: the last part of a label, and a digest.
    pub refers: Vec<(String, String)>,
}

/// One layer of an image, from the lowest on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayerPlace {
    /// Digest of the file that the manifest names.
    pub blob: String,
    /// Digest that the configuration names.
    pub diff: String,
    /// Position in [`Contents::layers`], if the archive has it.
    pub found: Option<usize>,
}

/// An image, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    /// What the image is known by.
    pub target: Target,
    /// Names in full, such as `docker.io/library/debian:12`.
    pub names: Vec<String>,
    /// The configuration.
    pub config: Object,
    /// Manifest, and the list that it is in, in the order in which they are to be stored.
    pub manifests: Vec<Object>,
    pub layers: Vec<LayerPlace>,
}

/// The object that an image's name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub media_type: String,
    pub digest: String,
    pub bytes: i64,
}

/// Why an archive was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Puzzle {
    /// It contradicts itself.
    #[error("{0}")]
    Lie(String),
    /// The engine may make more of it.
    #[error("{0}")]
    Strange(String),
}

fn strange<T>(text: impl Into<String>) -> Result<T, Puzzle> {
    Err(Puzzle::Strange(text.into()))
}

fn read<'a, T: serde::Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, Puzzle> {
    documents::read(what, bytes).map_err(Puzzle::Strange)
}

/// Understands an archive. `architecture` is that of this machine, in the words of image configurations.
pub(super) fn describe(contents: &Contents, architecture: &str) -> Result<Description, Puzzle> {
    if let Some(bytes) = contents.files.get("oci-layout")
        && !read::<Layout>("oci-layout", bytes)?.version.is_empty()
    {
        return layout(contents, architecture);
    }
    let Some(bytes) = contents.files.get("manifest.json") else {
        return strange("it has neither an oci-layout nor a manifest.json");
    };
    saved(contents, bytes, architecture)
}

fn layout(contents: &Contents, architecture: &str) -> Result<Description, Puzzle> {
    let Some(bytes) = contents.files.get("index.json") else { return strange("it has no index.json") };
    let index: Index = read("index.json", bytes)?;
    let Some(target) = index.manifests.first() else { return strange("its index.json names no image") };
    if index.manifests.iter().any(|other| other.digest != target.digest) {
        return strange("it has several images");
    }
    let names = index.manifests.iter().filter_map(|manifest| manifest.annotations.get(NAME_ANNOTATION).cloned()).collect();
    let objects: HashMap<String, &Vec<u8>> = contents.files.values().map(|bytes| (digest_of(bytes), bytes)).collect();
    let object = |digest: &str| match objects.get(digest) {
        Some(bytes) => Ok(*bytes),
        None => strange(format!("it has no {digest}")),
    };
    let mut manifests = Vec::new();
    let mut chosen = target.clone();
    if INDEX_TYPES.contains(&target.media_type.as_str()) {
        let list = object(&target.digest)?;
        let index: Index = read("a list of manifests", list)?;
        let fits = |one: &&Descriptor| {
            let platform = one.platform.clone().unwrap_or_default();
            let here = platform.os == "linux" && platform.architecture == architecture;
            here && !one.annotations.contains_key(ATTESTATION_ANNOTATION) && objects.contains_key(&one.digest)
        };
        let mut fitting = index.manifests.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => chosen = one.clone(),
            _ => return strange("its list of manifests does not lead to one image for this machine"),
        }
        let numbered = index.manifests.iter().enumerate().map(|(at, one)| (format!("m.{at}"), one.digest.clone()));
        manifests.push(Object { digest: target.digest.clone(), bytes: list.clone(), refers: numbered.collect() });
    }
    if !MANIFEST_TYPES.contains(&chosen.media_type.as_str()) {
        return strange(format!("an object of type {:?} is no image", chosen.media_type));
    }
    let bytes = object(&chosen.digest)?;
    let manifest: Manifest = read("the manifest", bytes)?;
    manifests.insert(0, Object { digest: chosen.digest, bytes: bytes.clone(), refers: references(&manifest) });
    let found: Vec<_> =
        manifest.layers.iter().map(|layer| contents.layers.iter().position(|file| file.blob == layer.digest)).collect();
    let target = Target { media_type: target.media_type.clone(), digest: target.digest.clone(), bytes: target.size };
    finish(contents, object(&manifest.config.digest)?, &manifest, &found, (target, names, manifests), architecture)
}

/// What follows a link to the end.
fn alias<'a>(contents: &'a Contents, path: &'a str) -> &'a str {
    let mut path = path;
    for _ in 0..ALIASES {
        match contents.aliases.get(path) {
            Some(target) => path = target,
            None => break,
        }
    }
    path
}

fn saved(contents: &Contents, bytes: &[u8], architecture: &str) -> Result<Description, Puzzle> {
    let saved: Vec<Saved> = read("manifest.json", bytes)?;
    let [saved] = saved.as_slice() else { return strange(format!("it has {} images", saved.len())) };
    let Some(config) = contents.files.get(alias(contents, &saved.config)) else {
        return strange(format!("it has no configuration {:?}", saved.config));
    };
    let mut layers = Vec::new();
    let mut found = Vec::new();
    for path in &saved.layers {
        let Some(&at) = contents.layer_paths.get(alias(contents, path)) else {
            return strange(format!("it has no layer {path:?}"));
        };
        let file = &contents.layers[at];
        let media_type = match file.packing {
            Packing::Plain => LAYER_TYPE,
            // So containerd calls whatever is compressed; when it unpacks a layer, its first bytes count.
            Packing::Gzip | Packing::Zstd => GZIP_LAYER_TYPE,
        };
        layers.push(descriptor(media_type, &file.blob, file.bytes));
        found.push(Some(at));
    }
    let config_digest = digest_of(config);
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE.to_owned(),
        config: descriptor(CONFIG_TYPE, &config_digest, config.len() as u64),
        layers,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| Puzzle::Strange(format!("compose the manifest: {error}")))?;
    let digest = digest_of(&bytes);
    let target = Target {
        media_type: MANIFEST_TYPE.to_owned(),
        digest: digest.clone(),
        bytes: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
    };
    let names = saved.repo_tags.iter().flatten().filter_map(|name| in_full(name)).collect();
    let manifests = vec![Object { digest, bytes, refers: references(&manifest) }];
    finish(contents, config, &manifest, &found, (target, names, manifests), architecture)
}

fn descriptor(media_type: &str, digest: &str, bytes: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.to_owned(),
        size: i64::try_from(bytes).unwrap_or(i64::MAX),
        annotations: HashMap::new(),
        platform: None,
    }
}

/// The labels by which the garbage collector goes from a manifest to what it refers to.
fn references(manifest: &Manifest) -> Vec<(String, String)> {
    let config = ("config".to_owned(), manifest.config.digest.clone());
    let layers = manifest.layers.iter().enumerate().map(|(at, layer)| (format!("l.{at}"), layer.digest.clone()));
    std::iter::once(config).chain(layers).collect()
}

fn finish(
    contents: &Contents,
    config: &[u8],
    manifest: &Manifest,
    found: &[Option<usize>],
    (target, names, manifests): (Target, Vec<String>, Vec<Object>),
    architecture: &str,
) -> Result<Description, Puzzle> {
    let parsed: Config = read("the image's configuration", config)?;
    if parsed.platform.os != "linux" || parsed.platform.architecture != architecture {
        return strange(format!("it is for {}/{}", parsed.platform.os, parsed.platform.architecture));
    }
    let diffs = parsed.rootfs.diff_ids;
    if diffs.len() != manifest.layers.len() {
        return Err(Puzzle::Lie(format!(
            "its configuration has {} layers and its manifest {}",
            diffs.len(),
            manifest.layers.len()
        )));
    }
    if diffs.len() > LAYERS {
        return strange(format!("it has {} layers", diffs.len()));
    }
    let digests = diffs.iter().chain(manifest.layers.iter().map(|layer| &layer.digest));
    if let Some(odd) = digests.chain([&target.digest]).find(|digest| !is_digest(digest)) {
        return strange(format!("{odd:?} is no digest"));
    }
    let mut layers = Vec::new();
    for (at, (diff, layer)) in diffs.into_iter().zip(&manifest.layers).enumerate() {
        if let Some(file) = found[at].map(|at| &contents.layers[at])
            && file.diff != diff
        {
            let number = at + 1;
            return Err(Puzzle::Lie(format!("layer {number} is {}, its configuration says {diff}", file.diff)));
        }
        layers.push(LayerPlace { blob: layer.digest.clone(), diff, found: found[at] });
    }
    let config = Object { digest: manifest.config.digest.clone(), bytes: config.to_vec(), refers: Vec::new() };
    if digest_of(&config.bytes) != config.digest {
        return Err(Puzzle::Lie("its configuration is not the one that its manifest names".to_owned()));
    }
    Ok(Description { target, names, config, manifests, layers })
}

/// A name with everything that may be left out of it; `None` if it is no name with a tag.
fn in_full(name: &str) -> Option<String> {
    let (path, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    let (host, rest) = match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest.to_owned()),
        Some(_) => ("docker.io", path.to_owned()),
        None => ("docker.io", format!("library/{path}")),
    };
    let plain =
        |text: &str, more: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    (plain(tag, "_.-") && plain(host, ".-:") && plain(&rest, "._-/") && name.len() <= 512)
        .then(|| format!("{host}/{rest}:{tag}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn contents(config: &serde_json::Value, files: &[(&str, serde_json::Value)]) -> Contents {
        let mut contents = Contents::default();
        let digest = |letter: char| format!("sha256:{}", letter.to_string().repeat(64));
        contents.layers.push(LayerFile { blob: digest('a'), bytes: 10, diff: digest('a'), packing: Packing::Plain });
        contents.layers.push(LayerFile { blob: digest('b'), bytes: 20, diff: digest('c'), packing: Packing::Gzip });
        contents.layer_paths = HashMap::from([("1/layer.tar".to_owned(), 0), ("2.tar.gz".to_owned(), 1)]);
        contents.aliases = HashMap::from([("3/layer.tar".to_owned(), "1/layer.tar".to_owned())]);
        contents.files.insert("config.json".to_owned(), config.to_string().into_bytes());
        for (path, value) in files {
            contents.files.insert((*path).to_owned(), value.to_string().into_bytes());
        }
        contents
    }

    fn config(diffs: &str) -> serde_json::Value {
        let diffs: Vec<_> = diffs.chars().map(|letter| format!("sha256:{}", letter.to_string().repeat(64))).collect();
        json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diffs}})
    }

    fn manifest(layers: &[&str]) -> serde_json::Value {
        json!([{"Config": "config.json", "RepoTags": ["a/b:1", "x.org/c:2", "odd name:3"], "Layers": layers}])
    }

    #[test]
    fn an_archive_with_a_manifest_of_paths() {
        let layers = manifest(&["1/layer.tar", "2.tar.gz", "3/layer.tar"]);
        let contents = contents(&config("aca"), &[("manifest.json", layers)]);
        let description = describe(&contents, "amd64").expect("understood");
        assert_eq!(description.layers.iter().map(|layer| layer.found).collect::<Vec<_>>(), [Some(0), Some(1), Some(0)]);
        assert_eq!(description.names, ["docker.io/a/b:1", "x.org/c:2"]);
        let composed = String::from_utf8(description.manifests[0].bytes.clone()).expect("text");
        let config = digest_of(&contents.files["config.json"]);
        let start = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST_TYPE}\",\"config\":{{\"mediaType\":\"{CONFIG_TYPE}\",\
             \"digest\":\"{config}\",\"size\":{}}},\"layers\":[{{\"mediaType\":\"{LAYER_TYPE}\",",
            contents.files["config.json"].len()
        );
        assert!(composed.starts_with(&start), "{composed}");
        assert_eq!(description.target.digest, digest_of(composed.as_bytes()));
    }

    #[test]
    fn archives_that_contradict_themselves() {
        let lying = contents(&config("ab"), &[("manifest.json", manifest(&["1/layer.tar", "2.tar.gz"]))]);
        assert!(matches!(describe(&lying, "amd64"), Err(Puzzle::Lie(_))));
        let short = contents(&config("a"), &[("manifest.json", manifest(&["1/layer.tar", "2.tar.gz"]))]);
        assert!(matches!(describe(&short, "amd64"), Err(Puzzle::Lie(_))));
    }

    #[test]
    fn what_is_left_to_the_engine() {
        let usual = manifest(&["1/layer.tar", "2.tar.gz"]);
        for (files, architecture) in [
            (vec![], "amd64"),
            (vec![("manifest.json", usual.clone())], "arm64"),
            (vec![("manifest.json", json!([]))], "amd64"),
            (vec![("manifest.json", manifest(&["nothing"]))], "amd64"),
            (vec![("manifest.json", json!({"not": "a list"}))], "amd64"),
            (vec![("manifest.json", usual), ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))], "amd64"),
        ] {
            let contents = contents(&config("ac"), &files);
            assert!(matches!(describe(&contents, architecture), Err(Puzzle::Strange(_))), "{files:?}");
        }
    }
}
