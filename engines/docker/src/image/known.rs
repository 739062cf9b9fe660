//! What the engine has of an archive that is only just coming, as far as it can be told.
//!
//! A layer is identified by what it unpacks to (its diff id), and an engine has it *in a place*: on top of the same
//! layers below. So it is known by the list of diff ids up to it. Members of an archive carry neither; what is guessed from
//! their names is verified when the manifest and the configuration have come (see [`super::filter`]).

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::packing::Packing;

/// Members smaller than this are sent in any case: there is nothing to gain, and the smallest layers stand in many places.
pub const WORTH_SKIPPING_BYTES: u64 = 64 << 10;

/// How an engine keeps images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Unpacked layers alone. An archive is read through its `manifest.json`, an image is named by its configuration.
    Graph,
    /// Blobs as they came, and unpacked layers. An archive is read through its `index.json` if it has an `oci-layout`.
    Containerd,
    /// Something else, for instance Podman's: the whole archive is sent.
    Unknown,
}

/// A layer as a member of an archive that was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMember {
    /// Its cleaned name in the archive.
    pub name: String,
    /// Its size there.
    pub bytes: u64,
    /// What it unpacks to, `sha256:…`.
    pub diff_id: String,
    /// SHA-256 of the member itself in hexadecimal digits, if it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// How it is packed.
    pub packing: Packing,
}

/// What is known about the engine's layers.
#[derive(Debug, Clone)]
pub struct Known {
    store: Store,
    /// Diff ids of each image, from the bottom.
    chains: Vec<Vec<String>>,
    diff_ids: HashSet<String>,
    members: HashMap<String, LayerMember>,
}

impl Known {
    /// From the layers of the images that the engine has, and from the members of earlier archives whose images it still has.
    pub fn new(store: Store, chains: Vec<Vec<String>>, members: impl IntoIterator<Item = LayerMember>) -> Self {
        let diff_ids = chains.iter().flatten().cloned().collect();
        let members = members.into_iter().map(|member| (member.name.clone(), member)).collect();
        Self { store, chains, diff_ids, members }
    }

    /// Nothing is known.
    pub fn nothing(store: Store) -> Self {
        Self::new(store, Vec::new(), [])
    }

    /// How the engine keeps images.
    pub fn store(&self) -> Store {
        self.store
    }

    /// Whether the last of these layers is there, on top of the others.
    pub fn has_chain(&self, diff_ids: &[String]) -> bool {
        self.chains.iter().any(|chain| chain.starts_with(diff_ids))
    }

    /// The member under this name of an earlier archive.
    pub fn member(&self, name: &str) -> Option<&LayerMember> {
        self.members.get(name)
    }

    /// Whether a member is a layer that the engine has, as far as its name and size tell.
    pub fn probably_has(&self, name: &str, bytes: u64) -> bool {
        if bytes < WORTH_SKIPPING_BYTES {
            return false;
        }
        let earlier = self.members.get(name).filter(|member| member.bytes == bytes);
        match self.store {
            Store::Graph => {
                earlier.is_some_and(|member| self.diff_ids.contains(&member.diff_id))
                    || diff_id_in(name).is_some_and(|diff_id| self.diff_ids.contains(&diff_id))
            }
            Store::Containerd => earlier.is_some_and(|member| member.sha256.is_some()),
            Store::Unknown => false,
        }
    }
}

/// The diff id in a name by which some programs store an unpacked layer: `blobs/sha256/<hex>` or `<hex>.tar`.
fn diff_id_in(name: &str) -> Option<String> {
    let hex = name.strip_prefix("blobs/sha256/").or_else(|| name.strip_suffix(".tar"))?;
    is_sha256(hex).then(|| format!("sha256:{hex}"))
}

/// Whether a name contains 64 hexadecimal digits as one of its parts, as the names of layers do in all formats.
pub fn looks_like_layer(name: &str) -> bool {
    name.split(['/', '.', ':']).any(is_sha256)
}

fn is_sha256(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_layer_is_known_in_its_place_only() {
        let known = Known::new(Store::Graph, vec![ids(&["a", "b", "c"]), ids(&["a", "x"])], []);
        assert!(known.has_chain(&ids(&["a", "b"])));
        assert!(known.has_chain(&ids(&["a", "x"])));
        assert!(!known.has_chain(&ids(&["b"])));
        assert!(!known.has_chain(&ids(&["a", "b", "c", "d"])));
    }

    #[test]
    fn names_tell_what_a_member_probably_is() {
        let hex = "ab".repeat(32);
        let gz = format!("{}.tar.gz", "cd".repeat(32));
        let member = LayerMember {
            name: gz.clone(),
            bytes: 1 << 20,
            diff_id: format!("sha256:{hex}"),
            sha256: None,
            packing: Packing::Gzip,
        };
        let known = Known::new(Store::Graph, vec![vec![format!("sha256:{hex}")]], [member.clone()]);
        assert!(known.probably_has(&format!("blobs/sha256/{hex}"), 1 << 20));
        assert!(known.probably_has(&format!("{hex}.tar"), 1 << 20));
        assert!(!known.probably_has(&format!("{hex}.tar"), 100), "too small to be worth it");
        assert!(known.probably_has(&gz, 1 << 20));
        assert!(!known.probably_has(&gz, 1 << 21), "another size is another member");
        assert!(!Known::new(Store::Graph, vec![], [member.clone()]).probably_has(&gz, 1 << 20), "the image is gone");
        assert!(!Known::new(Store::Containerd, vec![], [member.clone()]).probably_has(&gz, 1 << 20), "digest unknown");
        let digested = LayerMember { sha256: Some("cd".repeat(32)), ..member };
        assert!(Known::new(Store::Containerd, vec![], [digested.clone()]).probably_has(&gz, 1 << 20));
        assert!(!Known::new(Store::Unknown, vec![], [digested]).probably_has(&gz, 1 << 20));
        assert!(looks_like_layer(&format!("{hex}/layer.tar")) && looks_like_layer(&gz));
        assert!(!looks_like_layer("manifest.json"));
    }
}
