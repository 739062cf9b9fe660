//! Room on the disk for the spool, taken ahead of time.
//!
//! The last [`RESERVE_BYTES`] of it are for the worker alone. So when a task fills the disk, the lines that say so still fit.

use std::{fs::File, io};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};

/// What only the worker's lines may use.
pub(super) const RESERVE_BYTES: u64 = 64 << 10;

/// Taken at the start; most logs need no more.
const FIRST_BYTES: u64 = 2 * RESERVE_BYTES;

/// The most that is taken in one step beyond what is needed.
const LARGEST_STEP_BYTES: u64 = 8 << 20;

/// Whose bytes want room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    Task,
    Worker,
}

#[derive(Debug)]
pub(super) enum Room {
    /// The file system cannot take room ahead of time. Then only the attempt shows whether there is some.
    Unknown,
    /// Up to this offset.
    Until(u64),
}

impl Room {
    /// Takes the first room.
    pub(super) fn new(file: &File) -> Self {
        let mut room = Self::Until(0);
        // If there is none, the first write will say so.
        let _ = room.extend(file, FIRST_BYTES);
        room
    }

    /// How many of `wanted` bytes at `offset` its author may write. If not all, the error says why.
    pub(super) fn take(&mut self, file: &File, offset: u64, wanted: u64, author: Author) -> (u64, Option<io::Error>) {
        let reserve = if author == Author::Task { RESERVE_BYTES } else { 0 };
        let needed = offset + wanted + reserve;
        loop {
            let Self::Until(until) = *self else { return (wanted, None) };
            if needed <= until {
                return (wanted, None);
            }
            let generous = needed + needed.min(LARGEST_STEP_BYTES);
            if let Err(e) = self.extend(file, generous).or_else(|_| self.extend(file, needed)) {
                return (until.saturating_sub(offset + reserve).min(wanted), Some(e));
            }
        }
    }

    /// Takes room up to an offset, all or nothing.
    pub(super) fn extend(&mut self, file: &File, to: u64) -> io::Result<()> {
        let Self::Until(until) = *self else { return Ok(()) };
        if to <= until {
            return Ok(());
        }
        // File offsets are signed; no disk comes near.
        let (from, len) = (until.cast_signed(), (to - until).cast_signed());
        loop {
            return match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, from, len) {
                Ok(()) => {
                    *self = Self::Until(to);
                    Ok(())
                }
                Err(Errno::EINTR) => continue,
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                    *self = Self::Unknown;
                    Ok(())
                }
                Err(e) => Err(e.into()),
            };
        }
    }

    /// How much is taken beyond `len`.
    pub(super) fn spare_bytes(&self, len: u64) -> u64 {
        match self {
            Self::Unknown => 0,
            Self::Until(until) => until.saturating_sub(len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_for_the_worker() {
        let file = tempfile::tempfile().expect("a file");
        let mut room = Room::new(&file);
        let Room::Until(first) = room else { return };
        assert!(first >= RESERVE_BYTES);
        assert_eq!(room.take(&file, 0, 1 << 20, Author::Task).0, 1 << 20);
        let Room::Until(until) = room else { panic!("took room before") };
        assert!(until >= (1 << 20) + RESERVE_BYTES, "the reserve moves along");
        assert_eq!(file.metadata().expect("stat").len(), 0, "nothing is visible before it is written");
    }
}
