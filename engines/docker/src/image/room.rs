//! Removing images when the disk is short, the least recently used first.
//!
//! Never one that a container was made from, running or not, and never one that a task asked for a moment ago: its
//! container may not exist yet. Names are removed one by one and never by force, so the engine has the last word about what
//! is in use.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use bollard::{
    models::ImageSummary,
    query_parameters::{ListContainersOptionsBuilder, ListImagesOptionsBuilder},
};
use nix::sys::statvfs::statvfs;
use tc_engine::Room;

use super::{Collect, Inner, load::OWN_REPOSITORY, table::Rows};
use crate::containerd::peer;

/// An image that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    id: String,
    names: Vec<String>,
    bytes: u64,
    used: u64,
    shown: String,
}

/// Chooses what may go, in this order.
fn candidates(images: &[ImageSummary], rows: &Rows, used: &HashSet<String>, collect: Collect, recent: u64) -> Vec<Candidate> {
    let ours = |name: &str| {
        name.starts_with(&format!("{OWN_REPOSITORY}:")) || rows.keys.contains_key(&format!("registry:{}", in_full(name)))
    };
    let mut out: Vec<Candidate> = images
        .iter()
        .filter(|image| !used.contains(&image.id))
        .filter_map(|image| {
            let row = rows.images.get(&image.id);
            let names: Vec<String> = image.repo_tags.iter().filter(|name| !name.starts_with("<none>")).cloned().collect();
            // Also what a load left when this worker died right after it, or when the table was lost.
            let only_ours = !names.is_empty() && names.iter().all(|name| name.starts_with(&format!("{OWN_REPOSITORY}:")));
            let brought = row.is_some_and(|row| row.brought) || only_ours;
            // A name that somebody else gave makes it theirs, too.
            let may = collect == Collect::Host || brought && names.iter().all(|name| ours(name));
            let last = row.map_or(0, |row| row.used);
            let shown = row.map(|row| row.shown.clone()).filter(|shown| !shown.is_empty());
            (may && last <= recent).then(|| Candidate {
                id: image.id.clone(),
                shown: shown.or_else(|| names.first().cloned()).unwrap_or_else(|| image.id.clone()),
                names,
                bytes: u64::try_from(image.size).unwrap_or_default(),
                used: last,
            })
        })
        .collect();
    out.sort_by(|a, b| (a.used, &a.id).cmp(&(b.used, &b.id)));
    out
}

fn in_full(name: &str) -> String {
    super::reference::Reference::parse(name).map_or_else(|| name.to_owned(), |reference| reference.to_string())
}

impl Inner {
    /// The directory of an engine on this machine, as it can be seen from here.
    async fn root(&self) -> Result<Option<PathBuf>, bollard::errors::Error> {
        let root = self.ask(|| self.connection.docker().info()).await?.docker_root_dir;
        let (Some(root), Some(socket)) = (root, self.connection.host().strip_prefix("unix://")) else { return Ok(None) };
        // The engine may have mounts of its own, which are seen through its process by those who may look.
        let inside = peer(socket).await.map(|pid| PathBuf::from(format!("/proc/{pid}/root{root}")));
        Ok(Some(inside.filter(|path| statvfs(path).is_ok()).unwrap_or_else(|| PathBuf::from(root))))
    }

    pub(super) async fn room(&self) -> Option<Room> {
        let root = self.root().await.ok()??;
        let disk = statvfs(&root).ok()?;
        let free_bytes = (self.options.free_bytes)(&root)?;
        Some(Room { free_bytes, size_bytes: disk.blocks() * disk.fragment_size() })
    }

    pub(super) async fn make_room(&self, bytes: u64) -> Vec<String> {
        match self.try_make_room(bytes).await {
            Ok(said) => said,
            Err(error) => {
                tracing::warn!("make room among the images: {error}");
                Vec::new()
            }
        }
    }

    async fn try_make_room(&self, bytes: u64) -> Result<Vec<String>, bollard::errors::Error> {
        let docker = self.connection.docker();
        let root = self.root().await?;
        let all = ListContainersOptionsBuilder::default().all(true).build();
        let containers = self.ask(|| docker.list_containers(Some(all.clone()))).await?;
        let used: HashSet<String> = containers.into_iter().filter_map(|container| container.image_id).collect();
        let tagged = ListImagesOptionsBuilder::default().all(false).build();
        let images = self.ask(|| docker.list_images(Some(tagged.clone()))).await?;
        let recent = self.now_secs().saturating_sub(self.options.keep_recent.as_secs());
        let free = || root.as_deref().and_then(|root| (self.options.free_bytes)(root));
        let before = free();
        let mut by_size = 0;
        let mut said = Vec::new();
        for candidate in candidates(&images, &self.table.rows(), &used, self.options.collect, recent) {
            let freed = match (before, free()) {
                (Some(before), Some(now)) => now.saturating_sub(before),
                _ => by_size,
            };
            if freed >= bytes {
                break;
            }
            // A task may have asked for it since.
            if self.table.rows().images.get(&candidate.id).is_some_and(|row| row.used > recent) {
                continue;
            }
            match self.remove_all(&candidate).await {
                Ok(()) => {
                    self.table.change(|rows| rows.forget(&candidate.id));
                    by_size += candidate.bytes;
                    said.push(format!("removed image {} ({} MB)", candidate.shown, candidate.bytes / 1_000_000));
                }
                Err(error) => tracing::info!("image {} stays: {error}", candidate.shown),
            }
        }
        Ok(said)
    }

    async fn remove_all(&self, candidate: &Candidate) -> Result<(), bollard::errors::Error> {
        for name in &candidate.names {
            match self.remove(name).await {
                Err(error) if !super::failure::is_missing(&error) => return Err(error),
                _ => {}
            }
        }
        // What has no name, or is still known by a digest.
        match self.remove(&candidate.id).await {
            Err(error) if !super::failure::is_missing(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Bytes that are free on the disk of this path, if it is here.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let disk = statvfs(path).ok()?;
    Some(disk.blocks_available() * disk.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::table::{ImageRow, KeyRow};

    fn image(id: &str, names: &[&str]) -> ImageSummary {
        let repo_tags = names.iter().map(|name| (*name).to_owned()).collect();
        ImageSummary { id: id.to_owned(), repo_tags, size: 1, ..ImageSummary::default() }
    }

    #[test]
    fn images_of_others_may_go_only_if_the_host_is_to_be_collected() {
        let own = format!("{OWN_REPOSITORY}:1");
        let images = [
            image("ours", &[&own]),
            image("pulled", &["debian:12"]),
            image("pulled and named by others", &["debian:13", "theirs:1"]),
            image("there before", &["debian:11"]),
            image("theirs", &["theirs:2"]),
            image("in use", &[]),
            image("asked for just now", &[]),
        ];
        let mut rows = Rows::default();
        let row = |brought, used| ImageRow { brought, used, ..ImageRow::default() };
        let rest = [("pulled", true, 5), ("pulled and named by others", true, 4), ("there before", false, 3)];
        for (id, brought, used) in rest.into_iter().chain([("asked for just now", true, 100)]) {
            rows.images.insert(id.to_owned(), row(brought, used));
        }
        for (tag, id) in [("12", "pulled"), ("13", "pulled and named by others"), ("11", "there before")] {
            let row = KeyRow { id: id.to_owned(), sha256: None, checked: None };
            rows.keys.insert(format!("registry:docker.io/library/debian:{tag}"), row);
        }
        let used = HashSet::from(["in use".to_owned()]);
        let may = |collect| {
            let found = candidates(&images, &rows, &used, collect, 50);
            found.into_iter().map(|candidate| candidate.id).collect::<Vec<_>>()
        };
        assert_eq!(may(Collect::Own), ["ours", "pulled"]);
        assert_eq!(may(Collect::Host), ["ours", "theirs", "there before", "pulled and named by others", "pulled"]);
    }
}
