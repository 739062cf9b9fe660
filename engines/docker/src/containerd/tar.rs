//! Reading a tar archive in one pass: entries with their extensions resolved, and their data straight from the reader's buffer.
//!
//! It takes what the engine's own reader takes (GNU and POSIX forms, old ones, large numbers, files with holes), within bounds.

use std::{
    collections::VecDeque,
    io::{self, BufRead},
};

use super::{
    extensions::{Extensions, until_zero},
    header::{self, BLOCK, Block, Entry, Kind, Moment},
};
use crate::archive::tar::sparse::{Draft, Stated};

/// Most bytes of an extension or a long name.
const EXTENSION_BYTES: u64 = 1 << 20;

/// Why an archive was not read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum TarError {
    /// It makes no sense, or ends too early.
    #[error("{0}")]
    Damaged(&'static str),
    /// It may make sense, but not to us.
    #[error("{0}")]
    Strange(String),
    /// Its reader failed.
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// The entries of an archive, in order.
#[derive(Debug)]
pub(super) struct Entries<R> {
    input: R,
    /// Data of the current entry that was not read yet.
    left: u64,
    /// What fills its last block.
    padding: u64,
    /// The header of the current entry if it is a sparse file's, whose map is in it.
    sparse_header: Option<Box<[u8; BLOCK]>>,
    /// How much of the data is stored without a hole.
    run: u64,
    /// If the current entry is a sparse file: the holes that follow, and what is stored behind each.
    holes: Option<VecDeque<(u64, u64)>>,
}

impl<R: BufRead> Entries<R> {
    /// Begins at the first byte.
    pub(super) fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, sparse_header: None, run: u64::MAX, holes: None }
    }

    /// The reader, which is somewhere in the data of the current entry.
    pub(super) fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// The next entry. What was not read of the last one is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.pass_over()?;
            let Some(block) = self.header()? else { return Ok(None) };
            match block.flag {
                b'x' => {
                    let data = self.extension(block.bytes)?;
                    extensions.take(&data)?;
                }
                b'L' => extensions.path = Some(until_zero(self.extension(block.bytes)?)),
                b'K' => extensions.link = Some(until_zero(self.extension(block.bytes)?)),
                // Global records: the engine passes over them as well.
                b'g' => self.expect_data(block.bytes),
                _ => return self.entry(block, extensions).map(Some),
            }
        }
    }

    /// Whether the current entry is a file with holes.
    pub(super) fn is_sparse(&self) -> bool {
        self.holes.is_some()
    }

    /// The hole that comes next, once there is no data; nothing at the end of the file. Its bytes may be none.
    pub(super) fn hole(&mut self) -> Option<u64> {
        let (hole, stored) = self.holes.as_mut()?.pop_front()?;
        self.run = stored;
        Some(hole)
    }

    /// The next bytes of the current entry's data, as many as are there; none at its end, or before a hole.
    pub(super) fn data(&mut self) -> Result<&[u8], TarError> {
        let left = self.left.min(self.run);
        if left == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let available = self.input.fill_buf()?;
        if available.is_empty() {
            return Err(TarError::Damaged("it ends within a file"));
        }
        Ok(&available[..available.len().min(left)])
    }

    /// Takes some of the bytes that [`Entries::data`] returned.
    pub(super) fn take(&mut self, amount: usize) {
        self.input.consume(amount);
        self.left = self.left.saturating_sub(amount as u64);
        self.run = self.run.saturating_sub(amount as u64);
    }

    fn expect_data(&mut self, bytes: u64) {
        self.left = bytes;
        self.padding = bytes.next_multiple_of(BLOCK as u64) - bytes;
    }

    fn pass_over(&mut self) -> Result<(), TarError> {
        (self.run, self.holes) = (u64::MAX, None);
        loop {
            let amount = self.data()?.len();
            if amount == 0 {
                break;
            }
            self.take(amount);
        }
        let padding = std::mem::take(&mut self.padding);
        self.left = padding;
        while self.left > 0 {
            // The last padding of an archive may be missing, as the end of an archive may.
            let available = self.input.fill_buf()?.len();
            if available == 0 {
                self.left = 0;
                break;
            }
            let amount = usize::try_from(self.left).unwrap_or(usize::MAX).min(available);
            self.take(amount);
        }
        Ok(())
    }

    /// The next header, or the end: zeros, or no bytes.
    fn header(&mut self) -> Result<Option<Block>, TarError> {
        let mut zeros = false;
        loop {
            let mut block = [0; BLOCK];
            match self.fill(&mut block)? {
                0 => return Ok(None),
                BLOCK => {}
                _ => return Err(TarError::Damaged("it ends within a header")),
            }
            if header::is_zero(&block) {
                if zeros {
                    return Ok(None);
                }
                zeros = true;
                continue;
            }
            if zeros {
                return Err(TarError::Damaged("its end has only one block of zeros"));
            }
            self.sparse_header = (block[156] == b'S').then(|| Box::new(block));
            let block = header::parse(&block).ok_or(TarError::Damaged("a header makes no sense"))?;
            if block.bytes > i64::MAX.unsigned_abs() {
                return Err(TarError::Damaged("a size makes no sense"));
            }
            return Ok(Some(block));
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                break;
            }
            let amount = available.len().min(buffer.len() - filled);
            buffer[filled..filled + amount].copy_from_slice(&available[..amount]);
            self.input.consume(amount);
            filled += amount;
        }
        Ok(filled)
    }

    fn extension(&mut self, bytes: u64) -> Result<Vec<u8>, TarError> {
        if bytes > EXTENSION_BYTES {
            return Err(TarError::Strange(format!("an extension of {bytes} bytes")));
        }
        self.expect_data(bytes);
        let mut data = Vec::new();
        loop {
            let part = self.data()?;
            let amount = part.len();
            if amount == 0 {
                return Ok(data);
            }
            data.extend_from_slice(part);
            self.take(amount);
        }
    }

    fn entry(&mut self, block: Block, extensions: Extensions) -> Result<Entry, TarError> {
        let path = extensions.sparse_path.or(extensions.path).unwrap_or(block.path);
        let kind = match block.flag {
            // Before there was a flag for it, a directory was a file whose name ends so.
            0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | b'7' | b'S' | 0 => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Pipe,
            other => return Err(TarError::Strange(format!("an entry of type {:?}", char::from(other)))),
        };
        let link = extensions.link.unwrap_or(block.link);
        if path.contains(&0) || link.contains(&0) {
            return Err(TarError::Strange("a name with a zero byte".to_owned()));
        }
        // Only files have data, whatever the header says.
        let mut bytes = if kind == Kind::File { extensions.bytes.unwrap_or(block.bytes) } else { 0 };
        self.expect_data(bytes);
        if kind == Kind::File {
            bytes = self.sparse(extensions.sparse)?.unwrap_or(bytes);
        }
        let narrow = |what, value| u32::try_from(value).map_err(|_| TarError::Strange(format!("{what} {value}")));
        let modified = extensions.modified.unwrap_or(Moment { secs: block.secs, nanos: 0 });
        Ok(Entry {
            path,
            link,
            kind,
            bytes,
            mode: narrow("mode", block.mode & 0o7777)?,
            uid: narrow("user", extensions.uid.unwrap_or(block.uid))?,
            gid: narrow("group", extensions.gid.unwrap_or(block.gid))?,
            modified,
            accessed: extensions.accessed.unwrap_or(modified),
            device: (narrow("device", block.device.0)?, narrow("device", block.device.1)?),
            attributes: extensions.attributes,
        })
    }
}

impl<R: BufRead> Entries<R> {
    /// Reads the map of a sparse file. Returns the size of the file with its holes; nothing if it has none.
    fn sparse(&mut self, stated: Option<Stated>) -> Result<Option<u64>, TarError> {
        let senseless = |_| TarError::Damaged("the map of a sparse file makes no sense");
        let draft = if let Some(header) = self.sparse_header.take() {
            let (mut draft, mut more) = Draft::of_header(&header).map_err(senseless)?;
            while more {
                let mut block = [0; BLOCK];
                if self.fill(&mut block)? < BLOCK {
                    return Err(TarError::Damaged("it ends within the map of a sparse file"));
                }
                more = draft.add_block(&block).map_err(senseless)?;
            }
            draft
        } else if let Some(stated) = stated {
            let (mut draft, mut more) = Draft::of_pax(stated).map_err(senseless)?;
            while more {
                // This one is a part of the data.
                let mut block = [0; BLOCK];
                self.left = self.left.checked_sub(BLOCK as u64).ok_or(TarError::Damaged("a sparse file has no map"))?;
                if self.fill(&mut block)? < BLOCK {
                    return Err(TarError::Damaged("it ends within the map of a sparse file"));
                }
                more = draft.add_text(&block).map_err(senseless)?;
            }
            draft
        } else {
            return Ok(None);
        };
        let (map, bytes) = draft.finish(self.left).map_err(senseless)?;
        (self.run, self.holes) = (0, Some(map.pairs()));
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// An archive written by the system's tar.
    fn system_tar(arguments: &[&str], fill: impl Fn(&std::path::Path)) -> Vec<u8> {
        let dir = tempfile::tempdir().expect("a directory");
        fill(dir.path());
        let done = std::process::Command::new("tar").arg("-C").arg(dir.path()).args(arguments).output().expect("tar runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    fn all(archive: &[u8]) -> Vec<(Entry, Vec<u8>)> {
        // A buffer so small that nothing comes in one piece.
        let mut entries = Entries::new(io::BufReader::with_capacity(7, Cursor::new(archive)));
        let mut found = Vec::new();
        while let Some(entry) = entries.next().expect("an entry") {
            let mut data = Vec::new();
            while let Some(part) = entries.data().map(<[u8]>::to_vec).ok().filter(|part| !part.is_empty()) {
                data.extend_from_slice(&part);
                entries.take(part.len());
            }
            found.push((entry, data));
        }
        found
    }

    #[test]
    fn long_names_and_data_in_every_format() {
        let long = "d".repeat(120) + "/" + &"f".repeat(130);
        for format in ["gnu", "posix", "ustar", "v7"] {
            let name = if matches!(format, "gnu" | "posix") { long.clone() } else { "d/f".to_owned() };
            let archive =
                system_tar(&["-c", "--format", format, "--owner=1000", "--group=1000", "--mtime=@1704067200", "."], |dir| {
                    let file = dir.join(&name);
                    std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
                    std::fs::write(&file, "x".repeat(700)).expect("written");
                    std::os::unix::fs::symlink(&name, dir.join("link")).expect("linked");
                });
            let found = all(&archive);
            let file = found.iter().find(|(entry, _)| entry.kind == Kind::File).expect("the file");
            assert_eq!(file.0.path, format!("./{name}").into_bytes(), "{format}");
            assert_eq!((file.0.uid, file.0.gid, file.0.modified.secs), (1000, 1000, 1_704_067_200));
            assert_eq!(file.1, "x".repeat(700).into_bytes());
            let link = found.iter().find(|(entry, _)| entry.kind == Kind::Symlink).expect("the link");
            assert_eq!(link.0.link, name.as_bytes(), "{format}");
        }
    }

    #[test]
    fn truncated_archives_are_damaged_at_every_length() {
        let archive = system_tar(&["-c", "f"], |dir| std::fs::write(dir.join("f"), "x".repeat(600)).expect("written"));
        for length in 1..512 + 600 {
            let mut entries = Entries::new(Cursor::new(&archive[..length]));
            let read = || -> Result<(), TarError> {
                while entries.next()?.is_some() {}
                Ok(())
            };
            let mut read = read;
            assert!(matches!(read(), Err(TarError::Damaged(_))), "{length} bytes");
        }
    }

    #[test]
    fn a_long_name_without_end_is_refused_before_it_is_read() {
        let mut block = [0_u8; BLOCK];
        block[..13].copy_from_slice(b"././@LongLink");
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(b"77777777777");
        block[156] = b'L';
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
        block[148..155].copy_from_slice(format!("{sum:07o}").as_bytes());
        let mut entries = Entries::new(io::BufReader::new(io::Read::chain(Cursor::new(block), io::repeat(b'x'))));
        assert!(matches!(entries.next(), Err(TarError::Strange(_))));
    }
}
