//! Listing a directory through its descriptor.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use crate::{check_long, uninterrupted};

/// What the directory says an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Something else.
    Other,
    /// This file system does not say.
    Unknown,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Its name: one component, neither `.` nor `..`.
    pub name: CString,
    /// What it is.
    pub kind: Kind,
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (*self as u8).cmp(&(*other as u8))
    }
}

/// Offset of the name in the kernel's record: two 64-bit numbers, a 16-bit length, one byte of type.
const NAME: usize = 19;
/// One call's worth of records. Enough for a few hundred names.
const BUFFER_BYTES: usize = 32 * 1024;

/// All entries of an open directory, in the order of the file system.
pub fn list(directory: BorrowedFd<'_>) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    rewind(directory)?;
    while read_some(directory, &mut items)? {}
    Ok(items)
}

/// The first few hundred entries of an open directory.
pub fn list_some(directory: BorrowedFd<'_>) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    rewind(directory)?;
    // A batch may consist of the two names that are left out.
    while items.is_empty() && read_some(directory, &mut items)? {}
    Ok(items)
}

fn rewind(directory: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call touches no memory of ours.
    if unsafe { libc::lseek(directory.as_raw_fd(), 0, libc::SEEK_SET) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Adds the next batch. Returns whether there was one.
fn read_some(directory: BorrowedFd<'_>, items: &mut Vec<Item>) -> io::Result<bool> {
    let mut buffer = vec![0_u64; BUFFER_BYTES / 8];
    let filled = uninterrupted(|| {
        // SAFETY: the buffer is valid for its length and aligned for the kernel's records.
        check_long(unsafe { libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer.as_mut_ptr(), BUFFER_BYTES) })
    })?;
    let filled = usize::try_from(filled).map_err(io::Error::other)?;
    let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).take(filled).collect();
    let mut rest = bytes.as_slice();
    while rest.len() > NAME {
        let length = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
        let Some(record) = rest.get(..length).filter(|record| record.len() > NAME) else {
            return Err(io::Error::other("the kernel's directory records make no sense"));
        };
        let name = CStr::from_bytes_until_nul(&record[NAME..]).map_err(io::Error::other)?;
        let kind = match record[NAME - 1] {
            libc::DT_DIR => Kind::Directory,
            libc::DT_UNKNOWN => Kind::Unknown,
            _ => Kind::Other,
        };
        if name != c"." && name != c".." {
            items.push(Item { name: name.to_owned(), kind });
        }
        rest = &rest[length..];
    }
    Ok(filled > 0)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd};

    use super::*;

    #[test]
    fn everything_is_listed_once() {
        let root = tempfile::tempdir().expect("a directory");
        for number in 0..2000 {
            File::create(root.path().join(format!("file-with-a-rather-long-name-{number}"))).expect("a file");
        }
        std::fs::create_dir(root.path().join("sub")).expect("a directory");
        let open = File::open(root.path()).expect("opened");
        let items = list(open.as_fd()).expect("listed");
        assert_eq!(items.len(), 2001);
        assert_eq!(items.iter().filter(|item| item.kind == Kind::Directory).count(), 1);
        assert!(list_some(open.as_fd()).expect("listed").len() < 2001);
        assert_eq!(list(open.as_fd()).expect("listed again").len(), 2001);
    }
}
