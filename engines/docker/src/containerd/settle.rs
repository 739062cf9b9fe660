//! A layer finds its place: what depended on the layers below is done, and its files move into the snapshot.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{
    layer::{OPAQUE_ATTRIBUTE, Unpacked, is_whiteout},
    tree::{Steps, Tree, is_directory, joined, look, open_directory},
};

/// Most directories and links of one layer for which the layers below are searched.
const SEARCHES: usize = 20_000;
/// Most bytes that are copied out of the layers below.
const COPIED_BYTES: u64 = 4 << 30;
/// How many links may lead to one another in the wrong order.
const ROUNDS: usize = 4;
/// Longest list of attributes, and longest attribute, as in the kernel.
const ATTRIBUTE_BYTES: usize = 64 * 1024;

/// Hard links to nothing, which were left out. No engine loads an image with such a link; what else is in it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostLinks {
    /// How many.
    pub count: usize,
    /// One of them and its target, below the root.
    pub example: Option<(String, String)>,
}

impl LostLinks {
    /// Adds those of another layer.
    pub(super) fn add(&mut self, more: Self) {
        self.count += more.count;
        self.example = self.example.take().or(more.example);
    }
}

/// Completes the layer in the directory `tree` and moves it to `upper`. `lower` are the layers below, the highest first.
pub(super) fn settle(tree: OwnedFd, unpacked: &Unpacked, upper: &Path, lower: &[PathBuf]) -> io::Result<LostLinks> {
    let upper = super::area::open(upper)?;
    let mut tree = Tree::new(tree);
    if unpacked.implied.len() + unpacked.links.len() > SEARCHES {
        return Err(io::Error::other("too much of a layer depends on the layers below"));
    }
    if lower.is_empty() {
        undelete(&mut tree, unpacked)?;
    }
    for steps in &unpacked.implied {
        inherit(&mut tree, steps, lower)?;
    }
    let lost = link_all(&mut tree, &unpacked.links, lower)?;
    if !lower.is_empty() && unpacked.opaque.iter().any(Vec::is_empty) {
        rustix::fs::fsetxattr(&upper, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())?;
    }
    for item in tc_sys::directory::list(tree.root())? {
        rustix::fs::renameat(tree.root(), item.name.as_c_str(), &upper, item.name.as_c_str())?;
    }
    Ok(lost)
}

/// In the lowest layer there is nothing to delete, and marks of deletions would be files like any other.
fn undelete(tree: &mut Tree, unpacked: &Unpacked) -> io::Result<()> {
    for steps in &unpacked.deleted {
        let Some((name, parent)) = steps.split_last() else { continue };
        let Ok(directory) = tree.find(parent) else { continue };
        // Something may have been put in its place later.
        if look(directory, name)?.is_some_and(|stat| is_whiteout(&stat)) {
            rustix::fs::unlinkat(directory, name.as_slice(), AtFlags::empty())?;
        }
    }
    for steps in &unpacked.opaque {
        let Ok(directory) = tree.find(steps) else { continue };
        match rustix::fs::fremovexattr(directory, OPAQUE_ATTRIBUTE) {
            Err(Errno::NODATA) => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// A directory that the layer did not mention is as it is below.
fn inherit(tree: &mut Tree, steps: &[Vec<u8>], lower: &[PathBuf]) -> io::Result<()> {
    let Some((name, parent)) = steps.split_last() else { return Ok(()) };
    for path in lower {
        let mut below = Tree::open(path)?;
        let Some((directory, stat)) = real(&mut below, parent, name)? else { continue };
        if is_directory(&stat) {
            let from = open_directory(directory, name)?;
            let Ok(to) = tree.find(steps) else { return Ok(()) };
            return copy_attributes(from.as_fd(), to, &stat);
        }
        return Ok(());
    }
    Ok(())
}

/// What is at a path, going through directories only.
fn real<'a>(tree: &'a mut Tree, parent: &[Vec<u8>], name: &[u8]) -> io::Result<Option<(BorrowedFd<'a>, Stat)>> {
    for depth in 0..parent.len() {
        let directory = tree.find(&parent[..depth])?;
        if !look(directory, &parent[depth])?.is_some_and(|stat| is_directory(&stat)) {
            return Ok(None);
        }
    }
    let directory = tree.find(parent)?;
    Ok(look(directory, name)?.map(|stat| (directory, stat)))
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    let mut names = vec![0; ATTRIBUTE_BYTES];
    let length = match rustix::fs::flistxattr(from, names.as_mut_slice()) {
        Err(Errno::NOTSUP) => 0,
        listed => listed?,
    };
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty() && !name.starts_with(b"trusted.")) {
        let mut value = vec![0; ATTRIBUTE_BYTES];
        let length = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
        rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(rustix::fs::futimens(to, &times(stat))?)
}

fn times(stat: &Stat) -> Timestamps {
    let moment = |secs, nanos: u64| Timespec { tv_sec: secs, tv_nsec: i64::try_from(nanos).unwrap_or_default() };
    Timestamps {
        last_access: moment(stat.st_atime, stat.st_atime_nsec),
        last_modification: moment(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Makes the links whose targets are below. Some may lead to others, whatever their order. Returns those without a target.
fn link_all(tree: &mut Tree, links: &[(Steps, Steps)], lower: &[PathBuf]) -> io::Result<LostLinks> {
    let mut copies = Copies { lower, made: HashMap::new(), left_bytes: COPIED_BYTES };
    let mut pending: Vec<&(Steps, Steps)> = links.iter().collect();
    for _ in 0..ROUNDS {
        let mut left = Vec::new();
        for pair in pending {
            if !copies.link(tree, &pair.0, &pair.1).map_err(|error| failed(pair, &error))? {
                left.push(pair);
            }
        }
        pending = left;
    }
    let shown = |steps: &Steps| String::from_utf8_lossy(&joined(steps)).into_owned();
    let example = pending.first().map(|(link, target)| (shown(link), shown(target)));
    Ok(LostLinks { count: pending.len(), example })
}

fn failed((link, target): &(Steps, Steps), error: &io::Error) -> io::Error {
    let shown = |steps: &Steps| String::from_utf8_lossy(&joined(steps)).into_owned();
    io::Error::other(format!("hard link {:?} to {:?}: {error}", shown(link), shown(target)))
}

/// Hard links to files of the layers below. The file is copied into this layer, as overlayfs does it when such a link is
/// made in a container; further links to it share the copy.
struct Copies<'a> {
    lower: &'a [PathBuf],
    /// The first link to each target.
    made: HashMap<Steps, Steps>,
    left_bytes: u64,
}

impl Copies<'_> {
    /// Makes one link; `false` if its target is nowhere.
    fn link(&mut self, tree: &mut Tree, link: &Steps, target: &Steps) -> io::Result<bool> {
        let (Some((name, parent)), Some((target_name, target_parent))) = (link.split_last(), target.split_last()) else {
            return Err(Errno::PERM.into());
        };
        let to = tree.find(parent)?.try_clone_to_owned()?;
        // Another link may have brought it here.
        let here = self.made.get(target).unwrap_or(target);
        if let Some((here_name, here_parent)) = here.split_last()
            && let Ok(from) = tree.find(here_parent)
        {
            match rustix::fs::linkat(from, here_name.as_slice(), &to, name.as_slice(), AtFlags::empty()) {
                Err(Errno::NOENT) => {}
                linked => return Ok(linked.map(|()| true)?),
            }
        }
        for path in self.lower {
            let mut below = Tree::open(path)?;
            match see(&mut below, target_parent, target_name)? {
                Sight::Found(stat) => {
                    let from = below.find(target_parent)?;
                    self.copy(from, target_name, &stat, to.as_fd(), name)?;
                    self.made.insert(target.clone(), link.clone());
                    return Ok(true);
                }
                Sight::Further => {}
                Sight::End => break,
            }
        }
        Ok(false)
    }

    fn copy(&mut self, from: BorrowedFd<'_>, name: &[u8], stat: &Stat, to: BorrowedFd<'_>, as_name: &[u8]) -> io::Result<()> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let bytes = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                self.left_bytes = self.left_bytes.checked_sub(bytes).ok_or(Errno::FBIG)?;
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let mut from = File::from(rustix::fs::openat(from, name, flags, Mode::empty())?);
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut into = File::from(rustix::fs::openat(to, as_name, flags, Mode::RUSR | Mode::WUSR)?);
                io::copy(&mut from, &mut into)?;
                copy_attributes(from.as_fd(), into.as_fd(), stat)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target, to, as_name)?;
                let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
                rustix::fs::chownat(to, as_name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(rustix::fs::utimensat(to, as_name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
            }
            _ => Err(Errno::PERM.into()),
        }
    }
}

/// What one layer has to say about a path.
enum Sight {
    /// It is here.
    Found(Stat),
    /// Nothing; the next layer below may have it.
    Further,
    /// It is not there, whatever lies below.
    End,
}

fn see(tree: &mut Tree, parent: &[Vec<u8>], name: &[u8]) -> io::Result<Sight> {
    let mut opaque = is_opaque(tree.root());
    let nothing = |opaque| if opaque { Sight::End } else { Sight::Further };
    for depth in 0..parent.len() {
        let directory = tree.find(&parent[..depth])?;
        match look(directory, &parent[depth])? {
            None => return Ok(nothing(opaque)),
            Some(stat) if is_directory(&stat) => {
                opaque |= is_opaque(open_directory(directory, &parent[depth])?.as_fd());
            }
            // A deletion, or something that is no directory.
            Some(_) => return Ok(Sight::End),
        }
    }
    let directory = tree.find(parent)?;
    Ok(match look(directory, name)? {
        None => nothing(opaque),
        Some(stat) if is_whiteout(&stat) => Sight::End,
        Some(stat) => Sight::Found(stat),
    })
}

fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0; 1];
    matches!(rustix::fs::fgetxattr(directory, OPAQUE_ATTRIBUTE, value.as_mut_slice()), Ok(1)) && value == *b"y"
}
