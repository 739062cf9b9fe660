//! The end of a log that outgrew its limit: a ring on disk that keeps the last bytes.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};

/// How far the first kept line may be from the first kept byte. Output without newlines is kept as it is.
const LINE_SEARCH_BYTES: usize = 64 << 10;

pub(super) struct Tail {
    ring: File,
    capacity: u64,
    written: u64,
    /// Bytes at the old end of the ring that a failed write may have spoiled.
    spoiled: u64,
}

impl Tail {
    /// A ring without a name in `dir`. All its room is taken now, so that no later write can fail for want of it.
    pub(super) fn new(dir: &Path, capacity: u64) -> io::Result<Self> {
        let ring = tempfile::tempfile_in(dir)?;
        take_room(&ring, 0, capacity)?;
        Ok(Self { ring, capacity, written: 0, spoiled: 0 })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let capacity = usize::try_from(self.capacity).unwrap_or(usize::MAX);
        let skipped = bytes.len().saturating_sub(capacity);
        self.written += skipped as u64;
        let mut rest = &bytes[skipped..];
        while !rest.is_empty() {
            let at = self.written % self.capacity;
            let until_wrap = usize::try_from(self.capacity - at).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(rest.len().min(until_wrap));
            if let Err(e) = self.ring.write_all_at(now, at) {
                self.spoiled = self.spoiled.max(now.len() as u64);
                return Err(e);
            }
            self.written += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Where the kept part begins, counted from the first byte that was written: 0, or the begin of a line if one is near.
    pub(super) fn start(&self) -> io::Result<u64> {
        let start = (self.written + self.spoiled).saturating_sub(self.capacity).min(self.written);
        if start == 0 {
            return Ok(0);
        }
        let mut first = vec![0; LINE_SEARCH_BYTES];
        let mut filled = self.read_at(start, &mut first)?;
        // The ring may wrap just here.
        filled += self.read_at(start + filled as u64, &mut first[filled..])?;
        let line = first[..filled].iter().position(|b| *b == b'\n').map(|n| start + n as u64 + 1);
        Ok(line.filter(|line| *line < self.written).unwrap_or(start))
    }

    /// How many bytes were written.
    pub(super) fn end(&self) -> u64 {
        self.written
    }

    /// How many of them are still there.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.written.min(self.capacity)
    }

    /// Reads what was written at `offset`, at most to the end of the ring; 0 only at the end.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let at = offset % self.capacity;
        let left = (self.written - offset).min(self.capacity - at);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        self.ring.read_exact_at(&mut buffer[..wanted], at)?;
        Ok(wanted)
    }
}

/// Takes room on the disk beyond the end of a file, all or nothing, where the file system can do that.
pub(super) fn take_room(file: &File, from: u64, len: u64) -> io::Result<()> {
    loop {
        // File offsets are signed; no disk comes near.
        return match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, from.cast_signed(), len.cast_signed()) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
            Err(Errno::EINTR) => continue,
            Err(e) => Err(e.into()),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(tail: &Tail, mut offset: u64) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 7];
        loop {
            match tail.read_at(offset, &mut buffer).expect("read") {
                0 => return all,
                n => {
                    all.extend_from_slice(&buffer[..n]);
                    offset += n as u64;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_ring_keeps_the_last_bytes_from_a_line_on(
            capacity in 1_u64..40,
            writes in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab\n".to_vec()), 0..60), 0..8),
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let mut tail = Tail::new(dir.path(), capacity).expect("a ring");
            for bytes in &writes {
                tail.write(bytes).expect("write");
            }
            let all = writes.concat();
            let start = usize::try_from(tail.start().expect("start")).expect("small");
            prop_assert_eq!(content(&tail, start as u64), &all[start..]);
            if start == 0 {
                prop_assert!(all.len() as u64 <= capacity);
            } else {
                let earliest = all.len() - usize::try_from(capacity).expect("small");
                prop_assert!(start >= earliest);
                // Nothing but the rest of a cut line is given up.
                prop_assert!(start == earliest || !all[earliest..start - 1].contains(&b'\n'));
                prop_assert!(start == earliest || all[start - 1] == b'\n');
                prop_assert!(start > earliest || !all[earliest..all.len() - 1].contains(&b'\n'), "begins inside a line");
            }
        }
    }
}
