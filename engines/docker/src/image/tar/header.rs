//! What one header, together with the extended headers before it, says about a member.

use bytes::Bytes;

use super::{BLOCK_BYTES, TarError};

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file whose content is what is on the tape.
    File,
    /// A regular file with holes: what is on the tape is not its content.
    Sparse,
    /// A symbolic link.
    Symlink,
    /// A hard link to an earlier member.
    Link,
    /// A directory.
    Directory,
    /// A device, a FIFO, a global header or something unknown.
    Other,
}

/// A member, as the engine will see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// What a reader that does not know about sparse files takes for its name, if it is one.
    pub plain_name: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// What a link points to.
    pub target: String,
    /// Bytes on the tape after the header, without padding.
    pub bytes: u64,
    /// All header blocks, extended ones included, exactly as they were.
    pub head: Bytes,
}

/// What extended headers said about the member that follows them.
#[derive(Debug, Default)]
pub(super) struct Extended {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
    sparse: bool,
    sparse_name: Option<String>,
    long_name: Option<String>,
    long_link: Option<String>,
}

/// One header block, with the fields that matter here.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) flag: u8,
    pub(super) size: u64,
    name: String,
    target: String,
    /// Whether more blocks of a GNU sparse map follow.
    pub(super) map_goes_on: bool,
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// A number in octal digits or, with the top bit set, in base 256. None for what is neither, negative, or beyond `i64`.
fn number(field: &[u8]) -> Option<u64> {
    if field.first().is_some_and(|byte| byte & 0x80 != 0) {
        if field[0] & 0x40 != 0 {
            return None;
        }
        let mut value = u64::from(field[0] & 0x3f);
        for byte in &field[1..] {
            if value >> 55 != 0 {
                return None;
            }
            value = value << 8 | u64::from(*byte);
        }
        return Some(value);
    }
    let start = field.iter().position(|byte| !matches!(byte, b' ' | 0)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !matches!(byte, b' ' | 0)).map_or(start, |last| last + 1);
    let digits = &field[start..end.max(start)];
    let digits = &digits[..digits.iter().position(|byte| *byte == 0).unwrap_or(digits.len())];
    let mut value = 0u64;
    for digit in digits {
        if !matches!(digit, b'0'..=b'7') || value >> 59 != 0 {
            return None;
        }
        value = value << 3 | u64::from(digit - b'0');
    }
    Some(value)
}

impl Block {
    /// Reads a block that is not all zeros and begins at `offset` of the archive.
    pub(super) fn parse(block: &[u8; BLOCK_BYTES], offset: u64) -> Result<Self, TarError> {
        let stored = number(&block[148..156]).ok_or(TarError::NoHeader(offset))?;
        let counted = || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
        let unsigned: u64 = counted().map(u64::from).sum();
        // Some old programs summed signed bytes.
        let signed: i64 = counted().map(|byte| i64::from(byte.cast_signed())).sum();
        if stored != unsigned && i64::try_from(stored) != Ok(signed) {
            return Err(TarError::NoHeader(offset));
        }
        let size = number(&block[124..136]).ok_or(TarError::Number { offset, field: "size" })?;
        let gnu = &block[257..265] == b"ustar  \0";
        let ustar = &block[257..263] == b"ustar\0";
        let prefix = match (ustar, &block[508..512] == b"tar\0") {
            (true, true) => text(&block[345..476]),
            (true, false) => text(&block[345..500]),
            (false, _) => String::new(),
        };
        let short = text(&block[..100]);
        let flag = block[156];
        if flag == b'S' && !gnu {
            return Err(TarError::NoHeader(offset));
        }
        Ok(Self {
            flag,
            size,
            name: if prefix.is_empty() { short } else { format!("{prefix}/{short}") },
            target: text(&block[157..257]),
            map_goes_on: flag == b'S' && block[482] != 0,
        })
    }

    /// Whether it announces something about the next member.
    pub(super) fn is_extension(&self) -> bool {
        matches!(self.flag, b'x' | b'L' | b'K')
    }

    /// The member, and nothing of `extended` is left for the next one.
    pub(super) fn member(self, extended: Extended, head: Bytes) -> Member {
        let mut name = extended.path.unwrap_or(self.name);
        let mut target = extended.link.unwrap_or(self.target);
        let size = extended.size.unwrap_or(self.size);
        name = extended.long_name.unwrap_or(name);
        target = extended.long_link.unwrap_or(target);
        let mut kind = match self.flag {
            0 if name.ends_with('/') => Kind::Directory,
            0 | b'0' => Kind::File,
            b'S' => Kind::Sparse,
            b'1' => Kind::Link,
            b'2' => Kind::Symlink,
            b'5' => Kind::Directory,
            _ => Kind::Other,
        };
        let mut plain_name = None;
        if extended.sparse && kind == Kind::File {
            kind = Kind::Sparse;
            plain_name = Some(name.clone());
            name = extended.sparse_name.unwrap_or(name);
        }
        // These have no content, whatever their size field says.
        let header_only = matches!(kind, Kind::Link | Kind::Symlink | Kind::Directory)
            || kind == Kind::Other && matches!(self.flag, b'3' | b'4' | b'6');
        Member { name, plain_name, kind, target, bytes: if header_only { 0 } else { size }, head }
    }
}

impl Extended {
    /// Takes the content of an extended header of type `flag`.
    pub(super) fn take(&mut self, flag: u8, content: &[u8], offset: u64) -> Result<(), TarError> {
        match flag {
            b'L' => self.long_name = Some(text(content)).filter(|name| !name.is_empty()),
            b'K' => self.long_link = Some(text(content)).filter(|link| !link.is_empty()),
            _ => {
                let names = (self.long_name.take(), self.long_link.take());
                // A second PAX header replaces the first one.
                *self = Self { long_name: names.0, long_link: names.1, ..Self::default() };
                self.records(content).ok_or(TarError::Extension(offset))?;
            }
        }
        Ok(())
    }

    /// `<length> <key>=<value>\n`, one after the other.
    fn records(&mut self, mut rest: &[u8]) -> Option<()> {
        while !rest.is_empty() {
            let space = rest.iter().take(20).position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
            if length < space + 2 || length > rest.len() || rest[length - 1] != b'\n' {
                return None;
            }
            let record = &rest[space + 1..length - 1];
            rest = &rest[length..];
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let key = std::str::from_utf8(&record[..equals]).ok()?;
            let value = String::from_utf8_lossy(&record[equals + 1..]).into_owned();
            if matches!(key, "path" | "linkpath") && value.contains('\0') {
                return None;
            }
            let said = Some(value).filter(|value| !value.is_empty());
            match key {
                "path" => self.path = said,
                "linkpath" => self.link = said,
                "size" => {
                    // The engines read it as a signed number.
                    let size = said.map(|size| size.parse::<i64>().ok().and_then(|size| u64::try_from(size).ok()).ok_or(()));
                    self.size = size.transpose().ok()?;
                }
                "GNU.sparse.name" => (self.sparse, self.sparse_name) = (true, said),
                key if key.starts_with("GNU.sparse.") => self.sparse = true,
                _ => {}
            }
        }
        Some(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_and_never_negative() {
        assert_eq!(number(b"00000000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0\0\0\0\0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(8 << 30));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(number(b"\x80\x80\0\0\0\0\0\0\0\0\0\0"), None);
        assert_eq!(number(b"0000000064x\0"), None);
    }

    #[test]
    fn pax_records_have_to_be_well_formed() {
        let mut extended = Extended::default();
        extended.take(b'x', b"12 path=a/b\n9 size=7\n", 0).unwrap();
        assert_eq!((extended.path.as_deref(), extended.size), (Some("a/b"), Some(7)));
        for broken in [&b"12 path=a/b"[..], b"x path=a\n", b"9 size=-\n", b"10 size=-1\n", b"3 a\n", b"9999999 a=b\n", b"0 =\n"]
        {
            assert!(Extended::default().take(b'x', broken, 0).is_err(), "{:?}", String::from_utf8_lossy(broken));
        }
    }
}
