//! Where containerd keeps the files of a snapshot, as seen from here.
//!
//! containerd may live in a mount namespace or below a root of its own, so the path that it gives is tried as it is and below
//! `/proc/<its process>/root`. That a directory found so is the right one is not believed: something is put into it, and
//! containerd is asked how much it sees.

use std::{
    ffi::OsStr,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags};

use super::{client::Client, message::Mount, tree::remove};

/// How many directories are put into a place to recognise it.
const MARKS: i64 = 3;

/// The content store's directory beside the snapshotter's.
const BLOBS: &str = "io.containerd.content.v1.content/blobs/sha256";

/// The directories of a snapshot that is written to, as containerd names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layers {
    /// Where what is written goes.
    pub upper: PathBuf,
    /// What it lies on, from the highest on.
    pub lower: Vec<PathBuf>,
}

/// Reads the mounts of a snapshot of the overlay snapshotter.
pub(super) fn layers(mounts: &[Mount]) -> Option<Layers> {
    let [mount] = mounts else { return None };
    let path = |text: &str| PathBuf::from(text);
    let plain = match mount.kind.as_str() {
        "bind" => Some(Layers { upper: path(&mount.source), lower: Vec::new() }),
        "overlay" => {
            let option = |name: &str| mount.options.iter().find_map(|option| option.strip_prefix(name));
            let lower = option("lowerdir=")?.split(':').map(path).collect();
            Some(Layers { upper: path(option("upperdir=")?), lower })
        }
        _ => None,
    };
    plain.filter(|layers| std::iter::once(&layers.upper).chain(&layers.lower).all(|path| path.is_absolute()))
}

/// A directory on the file system of the snapshots, which goes with its lease.
#[derive(Debug)]
pub(super) struct Area {
    /// What stands before containerd's paths here: nothing, or a directory under `/proc`.
    prefix: PathBuf,
    directory: OwnedFd,
    /// Where the content store has its files.
    blobs: PathBuf,
}

/// Opens a directory at an absolute path of ours.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

impl Area {
    /// Makes a snapshot under the client's lease and finds its directory. `pid` is containerd's process, if it is known.
    pub(super) async fn make(client: &Client, key: &str, pid: Option<i32>) -> Result<Self, String> {
        let mounts = client.prepare(key, "").await.map_err(|error| error.to_string())?;
        let layers = layers(&mounts).ok_or("the snapshotter's mounts are not those of overlayfs")?;
        // <root>/io.containerd.snapshotter.v1.overlayfs/snapshots/<number>/fs
        let root = layers.upper.ancestors().nth(4).ok_or("the snapshotter's directories are not where they should be")?;
        let prefixes = std::iter::once(PathBuf::new()).chain(pid.map(|pid| PathBuf::from(format!("/proc/{pid}/root"))));
        let mut why = String::new();
        for prefix in prefixes {
            match open(&below(&prefix, &layers.upper)) {
                Ok(directory) if is_same(client, key, directory.as_fd()).await? => {
                    // It may not be there before the first file is.
                    let blobs = below(&prefix, &root.join(BLOBS));
                    return Ok(Self { prefix, directory, blobs });
                }
                Ok(_) => why = format!("{} is another directory here", layers.upper.display()),
                Err(error) => why = format!("{}: {error}", layers.upper.display()),
            }
        }
        Err(format!("containerd's directories are not within reach: {why}"))
    }

    /// The directory.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// One of containerd's paths as it is here.
    pub(super) fn reach(&self, path: &Path) -> PathBuf {
        below(&self.prefix, path)
    }

    /// The directory of the content store's files. Their names are digests.
    pub(super) fn blobs(&self) -> &Path {
        &self.blobs
    }
}

fn below(prefix: &Path, path: &Path) -> PathBuf {
    if prefix.as_os_str().is_empty() { path.to_owned() } else { prefix.join(path.strip_prefix("/").unwrap_or(path)) }
}

/// Whether containerd sees what is put into a directory.
async fn is_same(client: &Client, key: &str, directory: BorrowedFd<'_>) -> Result<bool, String> {
    let inodes = || async { client.inodes(key).await.map_err(|error| error.to_string()) };
    let before = inodes().await?;
    let names: Vec<String> = (0..MARKS).map(|number| format!("mark-{number}")).collect();
    let put = |name: &String| rustix::fs::mkdirat(directory, name.as_str(), Mode::RWXU).is_ok();
    let all = names.iter().all(put);
    let after = inodes().await;
    for name in &names {
        remove(directory, OsStr::new(name).as_bytes()).map_err(|error| format!("remove a mark: {error}"))?;
    }
    Ok(all && after? == before + MARKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount { kind: kind.to_owned(), source: source.to_owned(), options: options.iter().map(|&o| o.to_owned()).collect() }
    }

    #[test]
    fn mounts_of_the_snapshotter() {
        let lowest = layers(&[mount("bind", "/s/1/fs", &["rw", "rbind"])]).expect("one");
        assert_eq!(lowest, Layers { upper: "/s/1/fs".into(), lower: vec![] });
        let options = ["workdir=/s/3/work", "upperdir=/s/3/fs", "lowerdir=/s/2/fs:/s/1/fs"];
        let higher = layers(&[mount("overlay", "overlay", &options)]).expect("one");
        assert_eq!(higher, Layers { upper: "/s/3/fs".into(), lower: vec!["/s/2/fs".into(), "/s/1/fs".into()] });
        assert_eq!(layers(&[mount("ext4", "/dev/mapper/x", &[])]), None);
        assert_eq!(layers(&[mount("bind", "relative", &[])]), None);
        assert_eq!(layers(&[mount("overlay", "overlay", &["lowerdir=/a"])]), None);
    }
}
