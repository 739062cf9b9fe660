//! What an entry says about a file besides its data: kind, owner, permissions, times, attributes.

use std::{io, os::fd::BorrowedFd, os::unix::ffi::OsStrExt};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::header::{Entry, Kind, Moment};

/// Makes what has no data, and gives it its owner and the rest.
pub(super) fn make(directory: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> io::Result<()> {
    let device = rustix::fs::makedev(entry.device.0, entry.device.1);
    let node = |kind, device| rustix::fs::mknodat(directory, name, kind, Mode::RUSR | Mode::WUSR, device);
    match entry.kind {
        Kind::Directory => match rustix::fs::mkdirat(directory, name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            made => made?,
        },
        Kind::Symlink => rustix::fs::symlinkat(entry.link.as_slice(), directory, name)?,
        Kind::Character => node(FileType::CharacterDevice, device)?,
        Kind::Block => node(FileType::BlockDevice, device)?,
        Kind::Pipe => node(FileType::Fifo, 0)?,
        Kind::File | Kind::HardLink => return Err(Errno::INVAL.into()),
    }
    attributes(directory, name, entry)
}

/// Owner, attributes, permissions and times of something that is there, whatever it is.
pub(super) fn attributes(directory: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> io::Result<()> {
    let owner = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
    rustix::fs::chownat(directory, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
    let ordinary = matches!(kind, FileType::RegularFile | FileType::Directory);
    for (attribute, value) in allowed(entry) {
        let set = rustix::fs::lsetxattr(through(directory, name).as_slice(), attribute, value, XattrFlags::empty());
        tolerate(set, attribute, ordinary)?;
    }
    if kind != FileType::Symlink {
        // It is no link, so nothing is followed.
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(directory, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A path for calls that know no open directories.
pub(super) fn through(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    use std::os::fd::AsRawFd;
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(std::ffi::OsStr::from_bytes(name).as_bytes());
    path
}

/// The attributes that an archive may set. Those of the system administrator belong to overlayfs.
pub(super) fn allowed(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let named = entry.attributes.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    named.filter(|(name, _)| !name.starts_with(b"trusted.") && !name.contains(&0))
}

/// Passes over attributes that a file system or a kind of file does not have.
pub(super) fn tolerate(set: Result<(), Errno>, name: &[u8], ordinary: bool) -> io::Result<()> {
    match set {
        Err(Errno::NOTSUP) => Ok(()),
        Err(Errno::PERM) if name.starts_with(b"user.") && !ordinary => Ok(()),
        done => Ok(done?),
    }
}

/// The times of an entry; what the kernel could not keep becomes 1970, as containerd does it.
pub(super) fn times(entry: &Entry) -> Timestamps {
    let bounded = |moment: Moment| {
        let fits = (0..i64::MAX / 1_000_000_000).contains(&moment.secs);
        let moment = if fits { moment } else { Moment::default() };
        Timespec { tv_sec: moment.secs, tv_nsec: moment.nanos.into() }
    };
    Timestamps { last_access: bounded(entry.accessed.max(entry.modified)), last_modification: bounded(entry.modified) }
}
