//! The files of layers become objects of the content store, each as soon as it has been read, while the archive goes on.
//!
//! ```text
//! in the area ─put─▶ in the store's directory ─adopt─▶ known to containerd, held by the lease
//!                       │ a collection may run in this moment; then it is gone, and read from nowhere: an error
//! ```
//!
//! Everything but running containers needs these objects: `docker inspect` says little about an image without them, `docker save`
//! and `push` fail. What the archive does not name in the end is garbage when the lease ends.

use std::{io, path::Path};

use rustix::{fs::RenameFlags, io::Errno};
use tokio::sync::mpsc;

use super::{
    LoadError,
    archive::blob_name,
    area::Area,
    client::Client,
    commit::{fallback, hex},
    description::LayerFile,
    message::Labels,
};

/// How often a file is put into the content store before somebody who removes it each time wins.
const ATTEMPTS: usize = 3;
/// Files that may wait for containerd. The reader waits with the next one then.
pub(super) const WAITING: usize = 16;

/// A file of a layer that has been read.
#[derive(Debug)]
pub(super) struct Blob {
    /// Where its layer stands in the archive.
    pub at: usize,
    pub file: LayerFile,
    /// Whether it was written to the area, since the store did not have it.
    pub written: bool,
}

/// Where the files go.
pub(super) struct Blobs<'a> {
    /// The way to containerd, under the lease.
    pub client: &'a Client,
    /// The lease's identifier, which also begins the keys of what is made.
    pub lease: &'a str,
    pub area: &'a Area,
}

impl Blobs<'_> {
    /// Makes known whatever comes, until no more comes. After an error the rest is passed over, so that the reader goes on and
    /// can say what it thinks of the archive.
    pub(super) async fn adopt(&self, mut blobs: mpsc::Receiver<Blob>) -> Result<(), LoadError> {
        let mut done = Ok(());
        while let Some(blob) = blobs.recv().await {
            if done.is_ok() {
                done = self.one(&blob).await;
            }
        }
        done
    }

    async fn one(&self, Blob { at, file, written }: &Blob) -> Result<(), LoadError> {
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            if *written {
                let put = put(self.area, *at, self.area.blobs(), hex(&file.blob));
                fallback("put a layer into the content store", put)?;
            }
            let labels = Labels::from([("containerd.io/uncompressed".to_owned(), file.diff.clone())]);
            result = self.client.adopt(format!("{}-blob-{at}", self.lease), &file.blob, file.bytes, labels).await;
            // A file that nothing knows is garbage to a collection that runs in this moment.
            if result.is_ok() || !written || has_file(self.area.blobs(), hex(&file.blob)) {
                break;
            }
        }
        Ok(result?)
    }
}

fn has_file(directory: &Path, name: &str) -> bool {
    directory.join(name).is_file()
}

/// Moves a layer's file out of the area, if it is still there.
fn put(area: &Area, layer: usize, blobs: &Path, name: &str) -> io::Result<()> {
    let blobs = super::area::open(blobs)?;
    match rustix::fs::renameat_with(area.directory(), blob_name(layer), &blobs, name, RenameFlags::NOREPLACE) {
        // It is there, or it was moved before.
        Err(Errno::EXIST | Errno::NOENT) => Ok(()),
        moved => Ok(moved?),
    }
}
