//! What is in the store's directories, in full.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{archives::short, engine::Engine};
use crate::containerd::{
    area::{Area, layers},
    digests::chain,
};

/// Everything about one file that a layer says, as text.
pub(super) type Listing = BTreeMap<String, String>;

/// The directories of an image's layers, from the highest on.
pub(super) async fn directories(engine: &Engine, image: &str) -> Vec<PathBuf> {
    let diffs = engine.docker(&["image", "inspect", "--format", "{{join .RootFS.Layers \" \"}}", image]);
    let diffs: Vec<String> = diffs.split(' ').map(str::to_owned).collect();
    let lease = engine.store.lease().await.expect("a lease");
    let area = Area::make(&lease.client, &lease.id, engine.store.pid).await.expect("an area");
    let key = format!("{}-look", lease.id);
    let mounts = lease.client.prepare(&key, chain(&diffs).last().expect("layers")).await.expect("a snapshot");
    let lower = layers(&mounts).expect("mounts").lower.iter().map(|path| area.reach(path)).collect();
    lease.end(true).await;
    lower
}

/// Lists the layers of an image.
pub(super) async fn list(engine: &Engine, image: &str) -> Vec<Listing> {
    let mut listings = Vec::new();
    for directory in directories(engine, image).await {
        let mut listing = Listing::new();
        walk(&directory, &directory, &mut listing);
        listings.push(listing);
    }
    listings
}

fn walk(root: &Path, directory: &Path, listing: &mut Listing) {
    for entry in std::fs::read_dir(directory).expect("listed") {
        let path = entry.expect("an entry").path();
        let status = std::fs::symlink_metadata(&path).expect("a status");
        let kind = status.file_type();
        let what = if kind.is_symlink() {
            format!("-> {}", std::fs::read_link(&path).expect("a link").display())
        } else if kind.is_file() {
            format!("{} bytes {} links {}", status.size(), short(&std::fs::read(&path).expect("read")), status.nlink())
        } else {
            format!("device {}", status.rdev())
        };
        let mut names = vec![0; 4096];
        let length = rustix::fs::llistxattr(&path, names.as_mut_slice()).expect("attributes");
        let mut attributes: Vec<String> = names[..length]
            .split(|&b| b == 0)
            .filter(|name| !name.is_empty())
            .map(|name| {
                let mut value = vec![0; 4096];
                let length = rustix::fs::lgetxattr(&path, name, value.as_mut_slice()).expect("an attribute");
                format!("{}={:?}", String::from_utf8_lossy(name), &value[..length])
            })
            .collect();
        attributes.sort();
        // Marks of deletions are made in the moment, and nobody sees their times.
        let mark = status.mode() & 0o170_000 == 0o020_000 && status.rdev() == 0;
        let times = if mark { "now".to_owned() } else { format!("{}.{}", status.mtime(), status.mtime_nsec()) };
        let text = format!("{:o} {}:{} {times} {what} {attributes:?}", status.mode(), status.uid(), status.gid());
        listing.insert(path.strip_prefix(root).expect("below").display().to_string(), text);
        if kind.is_dir() {
            walk(root, &path, listing);
        }
    }
}

/// Compares listings and says how they differ.
pub(super) fn assert_same(theirs: &[Listing], ours: &[Listing]) {
    assert_eq!(theirs.len(), ours.len(), "as many layers");
    for (at, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
        let paths: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
        for path in paths {
            let (mut their, mut our) = (theirs.get(path).cloned(), ours.get(path).cloned());
            // A directory that the layer did not mention gets the time at which something was put into it. Here it keeps
            // the time that it has below.
            if their.as_deref().is_some_and(is_new_directory) {
                their = their.map(|text| without_time(&text));
                our = our.map(|text| without_time(&text));
            }
            assert_eq!(their, our, "layer {at} from above: {path}");
        }
    }
}

fn is_new_directory(text: &str) -> bool {
    let secs: u64 = text.split([' ', '.']).nth(2).and_then(|secs| secs.parse().ok()).unwrap_or_default();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    text.starts_with('4') && secs + 3600 > now
}

fn without_time(text: &str) -> String {
    let words = text.split(' ').enumerate();
    words.filter(|(at, _)| *at != 2).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}

/// All that the store holds: snapshots and files, by name.
pub(super) async fn footprint(engine: &Engine) -> Vec<String> {
    let lease = engine.store.lease().await.expect("a lease");
    let area = Area::make(&lease.client, &lease.id, engine.store.pid).await.expect("an area");
    let mounts = lease.client.prepare(&format!("{}-look", lease.id), "").await.expect("a snapshot");
    let upper = area.reach(&layers(&mounts).expect("mounts").upper);
    let snapshots = upper.ancestors().nth(2).expect("the directory of snapshots").to_owned();
    let blobs = area.blobs().to_owned();
    lease.end(true).await;
    let mut names: Vec<String> = [snapshots, blobs]
        .iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flatten()
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Waits until the store holds nothing that it did not hold before. Others may use it meanwhile.
pub(super) async fn nothing_left(engine: &Engine, before: &[String]) {
    let mut left = Vec::new();
    for _ in 0..ROUNDS {
        left = footprint(engine).await;
        left.retain(|name| !before.contains(name));
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("left in the store: {left:?}");
}

/// How often it is looked at.
const ROUNDS: usize = 300;
