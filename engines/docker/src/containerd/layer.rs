//! Unpacking one layer the way containerd's own applier does, into a directory that becomes the upper one of a snapshot.
//!
//! Deletions become what overlayfs understands: a device `0/0`, and `trusted.overlay.opaque` on a directory. What depends on
//! the layers below is not known yet and is written down in [`Unpacked`]: directories that the layer did not mention, hard
//! links to files that it does not have, and deletions, which mean nothing in the lowest layer.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, Seek, Write},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{
    attributes::{allowed, attributes, make, times, tolerate},
    header::{Entry, Kind},
    tar::{Entries, TarError},
    tree::{Steps, Tree, is_directory, joined, look, remove, steps},
};

/// Marks the deletion of a file of the layers below.
const WHITEOUT: &[u8] = b".wh.";
/// Marks everything of the layers below in a directory as deleted.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Begins the names of other marks, which are nothing in an image.
const OTHER_MARK: &[u8] = b".wh..wh.";
/// The same as [`OPAQUE`] for overlayfs.
pub(super) const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";

/// Most bytes of what is written down about one layer.
const NOTED_BYTES: usize = 64 << 20;
/// How many bytes are written between two looks at the free space.
const SPACE_CHECK_BYTES: u64 = 64 << 20;

/// What an image may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes of all layers together, unpacked; and as many of their files in the archive.
    pub bytes: u64,
    /// Most entries of all layers together.
    pub entries: u64,
    /// What has to stay free on the disk, in bytes.
    pub keep_free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 4_000_000, keep_free_bytes: 256 << 20 }
    }
}

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerError {
    /// The archive.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// It is larger than allowed.
    #[error("{0}")]
    TooLarge(&'static str),
    /// There is no room.
    #[error("no room is left on the disk of the image store")]
    NoRoom,
    /// An entry could not be made.
    #[error("{path:?}: {error}")]
    Entry { path: String, error: io::Error },
}

/// What is left to be done once the layers below are known.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    /// Whether there is anything in it.
    pub filled: bool,
    /// Directories that were made because something is in them.
    pub implied: Vec<Steps>,
    /// Hard links to files that this layer does not have: the link, its target.
    pub links: Vec<(Steps, Steps)>,
    /// Deletions of files.
    pub deleted: Vec<Steps>,
    /// Directories of which everything below was deleted.
    pub opaque: Vec<Steps>,
}

/// One layer on its way to the disk.
pub(super) struct Unpacking<'a> {
    tree: Tree,
    limits: &'a mut Limits,
    unchecked_bytes: u64,
    noted_bytes: usize,
    implied: HashSet<Steps>,
    implied_order: Vec<Steps>,
    directories: Vec<(Steps, Timestamps)>,
    links: Vec<(Steps, Entry)>,
    result: Unpacked,
}

/// Unpacks a layer. The limits are lowered by what it used.
pub(super) fn unpack<R: BufRead>(entries: &mut Entries<R>, root: OwnedFd, limits: &mut Limits) -> Result<Unpacked, LayerError> {
    let mut unpacking = Unpacking {
        tree: Tree::new(root),
        limits,
        unchecked_bytes: SPACE_CHECK_BYTES,
        noted_bytes: 0,
        implied: HashSet::new(),
        implied_order: Vec::new(),
        directories: Vec::new(),
        links: Vec::new(),
        result: Unpacked::default(),
    };
    while let Some(entry) = entries.next()? {
        unpacking.limits.entries =
            unpacking.limits.entries.checked_sub(1).ok_or(LayerError::TooLarge("the image has too many files"))?;
        unpacking.limits.bytes =
            unpacking.limits.bytes.checked_sub(entry.bytes).ok_or(LayerError::TooLarge("the image is too large"))?;
        unpacking.put(&entry, entries)?;
    }
    unpacking.finish()
}

impl Unpacking<'_> {
    fn put<R: BufRead>(&mut self, entry: &Entry, entries: &mut Entries<R>) -> Result<(), LayerError> {
        let failed = |error| at(&entry.path, error);
        let mut parent = steps(&entry.path).map_err(failed)?;
        // The root itself is the snapshot's.
        let Some(name) = parent.pop() else { return Ok(()) };
        self.result.filled = true;
        let place = self.tree.make(&parent).map_err(failed)?;
        let (real, made) = (place.steps, place.made);
        for depth in real.len() - made..real.len() {
            self.note(&real[..=depth])?;
            if self.implied.insert(real[..=depth].to_vec()) {
                self.implied_order.push(real[..=depth].to_vec());
            }
        }
        let mut whole = real;
        whole.push(name);
        let name = whole.last().map_or(&b""[..], Vec::as_slice);
        if let Some(deleted) = name.strip_prefix(WHITEOUT) {
            let deleted = deleted.to_vec();
            whole.pop();
            return self.delete(entry, whole, deleted).map_err(failed);
        }
        let directory = self.tree.find(&whole[..whole.len() - 1]).map_err(failed)?;
        let mut opaque = false;
        if let Some(there) = look(directory, name).map_err(failed)? {
            // Directories are merged, anything else is replaced.
            if !(is_directory(&there) && entry.kind == Kind::Directory) {
                opaque = entry.kind == Kind::Directory && is_whiteout(&there);
                remove(directory, name).map_err(failed)?;
            }
        }
        match entry.kind {
            Kind::File => self.file(entry, &whole, entries)?,
            Kind::HardLink => return self.link(entry, whole),
            _ => make(directory, name, entry).map_err(failed)?,
        }
        if entry.kind == Kind::Directory {
            self.implied.remove(&whole);
            self.note(&whole)?;
            if opaque {
                // It was deleted and made anew: nothing of what was in it comes back.
                let open = self.tree.find(&whole).map_err(failed)?;
                rustix::fs::fsetxattr(open, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())
                    .map_err(|errno| failed(errno.into()))?;
                self.result.opaque.push(whole.clone());
            }
            self.directories.push((whole, times(entry)));
        }
        Ok(())
    }

    fn file<R: BufRead>(&mut self, entry: &Entry, whole: &[Vec<u8>], entries: &mut Entries<R>) -> Result<(), LayerError> {
        let failed = |error| at(&entry.path, error);
        let (name, parent) = whole.split_last().ok_or_else(|| failed(Errno::INVAL.into()))?;
        let directory = self.tree.find(parent).map_err(failed)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = rustix::fs::openat(directory, name.as_slice(), flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|errno| failed(errno.into()))?;
        loop {
            let part = entries.data()?;
            let amount = part.len();
            if amount == 0 {
                let Some(hole) = entries.hole() else { break };
                let hole = i64::try_from(hole).map_err(|_| failed(Errno::FBIG.into()))?;
                file.seek(io::SeekFrom::Current(hole)).map_err(failed)?;
                continue;
            }
            file.write_all(part).map_err(failed)?;
            entries.take(amount);
            self.unchecked_bytes = self.unchecked_bytes.saturating_add(amount as u64);
            if self.unchecked_bytes >= SPACE_CHECK_BYTES {
                self.unchecked_bytes = 0;
                let space = rustix::fs::fstatvfs(self.tree.root()).map_err(|errno| failed(errno.into()))?;
                if space.f_bavail.saturating_mul(space.f_frsize) < self.limits.keep_free_bytes {
                    return Err(LayerError::NoRoom);
                }
            }
        }
        if entries.is_sparse() {
            // It may end with a hole.
            file.set_len(entry.bytes).map_err(failed)?;
        }
        let set = || -> io::Result<()> {
            rustix::fs::fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
            for (name, value) in allowed(entry) {
                tolerate(rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()), name, true)?;
            }
            // After the owner, since a change of it takes the set-id bits away.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))?;
            Ok(rustix::fs::futimens(&file, &times(entry))?)
        };
        set().map_err(failed)
    }

    fn link(&mut self, entry: &Entry, whole: Steps) -> Result<(), LayerError> {
        if !self.try_link(entry, &whole)? {
            self.note(&whole)?;
            self.noted_bytes += entry.link.len();
            self.links.push((whole, entry.clone()));
        }
        Ok(())
    }

    /// Makes a hard link; `false` if its target is not there.
    fn try_link(&mut self, entry: &Entry, whole: &[Vec<u8>]) -> Result<bool, LayerError> {
        let failed = |error| at(&entry.path, error);
        let mut target = steps(&entry.link).map_err(failed)?;
        let Some(target_name) = target.pop() else { return Err(failed(Errno::PERM.into())) };
        let from = match self.tree.find(&target) {
            Ok(directory) => directory.try_clone_to_owned().map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        let (name, parent) = whole.split_last().ok_or_else(|| failed(Errno::INVAL.into()))?;
        let directory = self.tree.find(parent).map_err(failed)?;
        match rustix::fs::linkat(&from, target_name.as_slice(), directory, name.as_slice(), AtFlags::empty()) {
            // The attributes of a link are those of the file, written once more.
            Ok(()) => attributes(directory, name, entry).map(|()| true).map_err(failed),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    fn delete(&mut self, entry: &Entry, parent: Steps, name: Vec<u8>) -> io::Result<()> {
        self.note(&parent).map_err(io::Error::other)?;
        let directory = self.tree.find(&parent)?;
        let whole_name = [WHITEOUT, &name].concat();
        if whole_name == OPAQUE {
            rustix::fs::fsetxattr(directory, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())?;
            self.result.opaque.push(parent);
            return Ok(());
        }
        if whole_name.starts_with(OTHER_MARK) {
            return Ok(());
        }
        if matches!(name.as_slice(), b"" | b"." | b"..") {
            return Err(Errno::INVAL.into());
        }
        let mut whole = parent;
        match look(directory, &name)? {
            None => {
                rustix::fs::mknodat(directory, name.as_slice(), FileType::CharacterDevice, Mode::empty(), 0)?;
                let owner = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
                rustix::fs::chownat(directory, name.as_slice(), owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
                whole.push(name);
                self.result.deleted.push(whole);
            }
            // The deletion is of what is below; what this layer has in its place stays.
            Some(there) if is_directory(&there) => {
                let open = super::tree::open_directory(directory, &name)?;
                rustix::fs::fsetxattr(open, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())?;
                whole.push(name);
                self.result.opaque.push(whole);
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Accounts for a path that is remembered.
    fn note(&mut self, path: &[Vec<u8>]) -> Result<(), LayerError> {
        self.noted_bytes += path.iter().map(|step| step.len() + size_of::<Vec<u8>>()).sum::<usize>();
        if self.noted_bytes > NOTED_BYTES {
            return Err(LayerError::TooLarge("a layer has too many directories, links or deletions"));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Unpacked, LayerError> {
        // Links may stand before their targets, and before links that are their targets.
        let mut pending = std::mem::take(&mut self.links);
        loop {
            let before = pending.len();
            let mut left = Vec::new();
            for (whole, entry) in pending {
                if !self.try_link(&entry, &whole)? {
                    left.push((whole, entry));
                }
            }
            pending = left;
            if pending.len() == before || pending.is_empty() {
                break;
            }
        }
        for (whole, entry) in pending {
            let target = steps(&entry.link).map_err(|error| at(&entry.path, error))?;
            self.result.links.push((whole, target));
        }
        // Last, since every file made in a directory changes its time.
        for (whole, times) in std::mem::take(&mut self.directories) {
            match self.tree.find(&whole) {
                Ok(directory) => {
                    rustix::fs::futimens(directory, &times).map_err(|errno| at(&joined(&whole), errno.into()))?;
                }
                // It was replaced by something else later.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(at(&joined(&whole), error)),
            }
        }
        let implied = self.implied;
        self.result.implied = self.implied_order.into_iter().filter(|steps| implied.contains(steps)).collect();
        Ok(self.result)
    }
}

fn at(path: &[u8], error: io::Error) -> LayerError {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return LayerError::NoRoom;
    }
    let path = String::from_utf8_lossy(&path[..path.len().min(300)]).into_owned();
    LayerError::Entry { path, error }
}

/// Whether overlayfs takes it for a deletion.
pub(super) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
