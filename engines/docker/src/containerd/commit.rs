//! What was unpacked becomes an image: snapshots, objects of the content store, names. All under one lease.

use std::{fs::File, io};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{
    LoadError, Names,
    archive::{blob_name, tree_name},
    area::{Area, layers},
    client::{CallError, Client, SNAPSHOTTER},
    description::{Description, LayerPlace, Object},
    digests::chain,
    layer::{Limits, Unpacked},
    message::{Descriptor, Labels},
    packing::unpack_again,
    settle::{LostLinks, settle},
    tree::open_directory,
};

/// Everything that making an image needs.
pub(super) struct Commit<'a> {
    /// The way to containerd, under the lease.
    pub client: &'a Client,
    /// The lease's identifier, which also begins the keys of what is made.
    pub lease: &'a str,
    pub area: &'a Area,
    /// What is left to be done to each layer of the archive; nothing to those that were not unpacked, because the store has them.
    pub trees: Vec<Option<Unpacked>>,
    pub description: &'a Description,
    /// What the image may still use.
    pub limits: Limits,
}

/// What making an image has led to, besides the image.
pub(super) struct Made {
    /// Whether something was unpacked in vain.
    pub garbage: bool,
    pub lost_links: LostLinks,
}

impl From<CallError> for LoadError {
    fn from(error: CallError) -> Self {
        Self::Fallback(error.to_string())
    }
}

pub(super) fn fallback<T>(what: &str, done: io::Result<T>) -> Result<T, LoadError> {
    done.map_err(|error| LoadError::Fallback(format!("{what}: {error}")))
}

impl Commit<'_> {
    /// Makes the image; it is there once its name is.
    pub(super) async fn perform(mut self, names: Names) -> Result<Made, LoadError> {
        let diffs: Vec<String> = self.description.layers.iter().map(|layer| layer.diff.clone()).collect();
        let chain = chain(&diffs);
        let top = chain.last().map(|top| (format!("containerd.io/gc.ref.snapshot.{SNAPSHOTTER}"), top.clone()));
        self.object("config", &self.description.config, top.into_iter().collect()).await?;
        let stored = self.area.blobs().join(hex(&self.description.config.digest));
        if !stored.is_file() {
            return Err(LoadError::Fallback("the content store's files are not where they should be".to_owned()));
        }
        // Each of these calls waits for the disk once or twice, and they wait for different files.
        let mut trees = std::mem::take(&mut self.trees);
        let (lost_links, ()) = tokio::try_join!(self.snapshots(&chain, &mut trees), self.manifests())?;
        self.names(names).await?;
        Ok(Made { garbage: trees.iter().flatten().any(|unpacked| unpacked.filled), lost_links })
    }

    async fn manifests(&self) -> Result<(), LoadError> {
        for (at, object) in self.description.manifests.iter().enumerate() {
            let refers =
                object.refers.iter().map(|(part, digest)| (format!("containerd.io/gc.ref.content.{part}"), digest.clone()));
            self.object(&format!("manifest-{at}"), object, refers.collect()).await?;
        }
        Ok(())
    }

    async fn snapshots(&self, chain: &[String], trees: &mut [Option<Unpacked>]) -> Result<LostLinks, LoadError> {
        let (mut lost, mut limits) = (LostLinks::default(), self.limits);
        for (at, name) in chain.iter().enumerate() {
            if !self.has(name).await? {
                let parent = at.checked_sub(1).map_or("", |below| chain[below].as_str());
                lost.add(self.snapshot(at, (parent, name), trees, &mut limits).await?);
            }
        }
        Ok(lost)
    }

    /// Whether a snapshot is there, and now stays as long as the lease.
    async fn has(&self, name: &str) -> Result<bool, LoadError> {
        if !self.client.has_snapshot(name).await? {
            return Ok(false);
        }
        self.client.hold_snapshot(self.lease, name).await?;
        // It may have been removed just before it was held.
        Ok(self.client.has_snapshot(name).await?)
    }

    async fn snapshot(
        &self,
        at: usize,
        (parent, name): (&str, &str),
        trees: &mut [Option<Unpacked>],
        limits: &mut Limits,
    ) -> Result<LostLinks, LoadError> {
        let number = at + 1;
        let taken = self.description.layers[at].found.and_then(|found| {
            let unpacked = trees[found].take()?;
            // An empty layer may stand in several places; another is gone once it was moved.
            if !unpacked.filled {
                trees[found] = Some(Unpacked::default());
            }
            Some((tree_name(found), unpacked))
        });
        let (tree, unpacked) = match taken {
            Some(taken) => taken,
            None => self.unpack_again(at, limits).await?,
        };
        let key = format!("{}-{at}", self.lease);
        let mounts = self.client.prepare(&key, parent).await?;
        let layers = layers(&mounts)
            .ok_or_else(|| LoadError::Fallback("the snapshotter's mounts are not those of overlayfs".to_owned()))?;
        let upper = self.area.reach(&layers.upper);
        let lower: Vec<_> = layers.lower.iter().map(|path| self.area.reach(path)).collect();
        let tree = fallback("open a layer", open_directory(self.area.directory(), tree.as_bytes()))?;
        let settled = tokio::task::spawn_blocking(move || settle(tree, &unpacked, &upper, &lower)).await;
        let lost = fallback(&format!("layer {number}"), settled.unwrap_or_else(|error| Err(io::Error::other(error))))?;
        match self.client.commit(&key, name).await {
            Err(error) if error.is_duplicate() => {
                // Somebody else made the same one meanwhile.
                self.client.remove_snapshot(&key).await?;
                if self.has(name).await? { Ok(lost) } else { Err(error.into()) }
            }
            done => Ok(done.map(|()| lost)?),
        }
    }

    /// Unpacks a layer once more, out of its file: it stands in two places of the image, or the store has it unpacked in
    /// another place than this one.
    async fn unpack_again(&self, at: usize, limits: &mut Limits) -> Result<(String, Unpacked), LoadError> {
        let place = &self.description.layers[at];
        let missing = |error: io::Error| {
            LoadError::Fallback(format!("layer {} is not there to be put on the one below: {error}", at + 1))
        };
        let file = self.blob(place).map_err(missing)?;
        let tree = format!("again-{at}");
        let made = rustix::fs::mkdirat(self.area.directory(), tree.as_str(), Mode::RWXU).map_err(io::Error::from);
        let root = made.and_then(|()| open_directory(self.area.directory(), tree.as_bytes()));
        let root = fallback("make a directory for a layer", root)?;
        let (blob, diff, mut left) = (place.blob.clone(), place.diff.clone(), *limits);
        let unpacking = tokio::task::spawn_blocking(move || {
            let unpacked = unpack_again(file, (&blob, &diff), root, &mut left);
            unpacked.map(|unpacked| (unpacked, left))
        });
        // Bounded by what a layer may hold.
        let done = unpacking.await.map_err(|error| LoadError::Fallback(format!("unpack a layer: {error}")))?;
        let (unpacked, left) = done?;
        *limits = left;
        Ok((tree, unpacked))
    }

    /// The file of a layer, which is in the area until it has been put into the content store.
    fn blob(&self, place: &LayerPlace) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Some(found) = place.found {
            match rustix::fs::openat(self.area.directory(), blob_name(found), flags, Mode::empty()) {
                Err(Errno::NOENT) => {}
                opened => return Ok(opened?.into()),
            }
        }
        let blobs = super::area::open(self.area.blobs())?;
        Ok(rustix::fs::openat(blobs, hex(&place.blob), flags, Mode::empty())?.into())
    }

    async fn object(&self, what: &str, object: &Object, labels: Labels) -> Result<(), LoadError> {
        let reference = format!("{}-{what}", self.lease);
        Ok(self.client.write(reference, &object.digest, object.bytes.clone(), labels).await?)
    }

    async fn names(&self, names: Names) -> Result<(), LoadError> {
        let target = &self.description.target;
        let descriptor = Descriptor {
            media_type: target.media_type.clone(),
            digest: target.digest.clone(),
            size: target.bytes,
            annotations: Labels::new(),
        };
        let wanted = match names {
            Names::Archive => self.description.names.as_slice(),
            Names::None => &[],
        };
        for name in wanted {
            // An image that loses its only name is kept without one, as the engine does it.
            if let Some(before) = self.client.image(name).await?.and_then(|image| image.target)
                && before.digest != target.digest
                && self.client.names_of(&before.digest).await?.len() == 1
            {
                self.client.name(&nameless(&before.digest), before).await?;
            }
            self.client.name(name, descriptor.clone()).await?;
        }
        if wanted.is_empty() && self.client.names_of(&target.digest).await?.is_empty() {
            self.client.name(&nameless(&target.digest), descriptor).await?;
        }
        Ok(())
    }
}

/// What Docker calls an image without a name.
fn nameless(digest: &str) -> String {
    format!("moby-dangling@{digest}")
}

pub(super) fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}
