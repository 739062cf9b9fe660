//! Headers of tar archives: the fields of one block, and the records of POSIX extensions. Pure.

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;

/// What an entry is, as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// Another name of a file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Pipe,
}

/// A moment, in seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub secs: i64,
    pub nanos: u32,
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub path: Vec<u8>,
    /// What a link leads to.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Bytes of data that follow.
    pub bytes: u64,
    /// Permissions, with the set-id bits and the sticky bit.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: Moment,
    /// When it was read last, where that is said.
    pub accessed: Moment,
    /// Numbers of a device.
    pub device: (u32, u32),
    /// Extended attributes by name.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What one block says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub flag: u8,
    pub bytes: u64,
    pub mode: u64,
    pub uid: u64,
    pub gid: u64,
    pub secs: i64,
    pub device: (u64, u64),
}

/// Whether a block holds nothing but zeros.
pub(super) fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|&byte| byte == 0)
}

/// Reads a block; `None` if it is no header.
pub(super) fn parse(block: &[u8; BLOCK]) -> Option<Block> {
    if !checksum_holds(block) {
        return None;
    }
    let mut path = text(&block[..100]).to_vec();
    let posix = &block[257..263] == b"ustar\0";
    let extended = posix || &block[257..265] == b"ustar  \0";
    if posix && block[345] != 0 {
        let mut prefixed = text(&block[345..500]).to_vec();
        prefixed.push(b'/');
        prefixed.append(&mut path);
        path = prefixed;
    }
    let unsigned = |field: &[u8]| number(field).and_then(|value| u64::try_from(value).ok());
    let device = if extended {
        (unsigned(&block[329..337]).unwrap_or_default(), unsigned(&block[337..345]).unwrap_or_default())
    } else {
        (0, 0)
    };
    Some(Block {
        path,
        link: text(&block[157..257]).to_vec(),
        flag: block[156],
        bytes: unsigned(&block[124..136])?,
        mode: unsigned(&block[100..108])?,
        uid: unsigned(&block[108..116])?,
        gid: unsigned(&block[116..124])?,
        secs: i64::try_from(number(&block[136..148])?).ok()?,
        device,
    })
}

fn checksum_holds(block: &[u8; BLOCK]) -> bool {
    let Some(said) = number(&block[148..156]) else { return false };
    let bytes = || block.iter().enumerate().map(|(at, &byte)| if (148..156).contains(&at) { b' ' } else { byte });
    let unsigned: i128 = bytes().map(i128::from).sum();
    // Some old programs added up signed bytes.
    let signed: i128 = bytes().map(|byte| i128::from(byte.cast_signed())).sum();
    said == unsigned || said == signed
}

/// The part of a field before its first zero byte.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number: octal digits with spaces or zero bytes around them, or big-endian binary behind a set first bit.
fn number(field: &[u8]) -> Option<i128> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let start = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
        // At most twelve bytes, so that nothing overflows.
        return Some(rest.iter().fold(start, |value, &byte| (value << 8) | i128::from(byte)));
    }
    let digits: Vec<u8> = field.iter().copied().skip_while(|byte| matches!(byte, b' ' | 0)).collect();
    let mut value: i128 = 0;
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'7' => value = value * 8 + i128::from(byte - b'0'),
            b' ' | 0 if digits[at..].iter().all(|byte| matches!(byte, b' ' | 0)) => break,
            _ => return None,
        }
    }
    Some(value)
}

/// The records of a POSIX extension, `<length> <key>=<value>\n` each; `None` if they are none.
pub(super) fn records(mut data: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut found = Vec::new();
    while !data.is_empty() {
        let space = data.iter().take(20).position(|&byte| byte == b' ')?;
        let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
        let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|&byte| byte == b'=')?;
        found.push((&record[..equals], &record[equals + 1..]));
        data = &data[length..];
    }
    Some(found)
}

/// A moment as extensions write it, such as `1704067200.25`.
pub(super) fn moment(value: &[u8]) -> Option<Moment> {
    let (secs, fraction) = std::str::from_utf8(value).ok().map(|text| text.split_once('.').unwrap_or((text, "")))?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let negative = secs.starts_with('-');
    let secs: i64 = secs.parse().ok()?;
    if negative && nanos > 0 {
        return Some(Moment { secs: secs.checked_sub(1)?, nanos: 1_000_000_000 - nanos });
    }
    Some(Moment { secs, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_all_their_forms() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"12 3"), None);
        assert_eq!(number(b"9"), None);
        assert_eq!(number(&[0x80, 0, 0, 2, 0, 0, 0, 0]), Some(2 << 32));
        assert_eq!(number(&[0xff; 12]), Some(-1));
    }

    #[test]
    fn records_of_an_extension() {
        let found = records(b"12 path=a=b\n6 k=v\n").expect("records");
        assert_eq!(found, vec![(&b"path"[..], &b"a=b"[..]), (&b"k"[..], &b"v"[..])]);
        for bad in [&b"5 k=v\n"[..], b"x", b"99 k=v\n", b"4 kv\n", b"0 k=v\n", b"1 \n", b"6 k=v "] {
            assert_eq!(records(bad), None, "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn moments_before_and_after_1970() {
        assert_eq!(moment(b"12"), Some(Moment { secs: 12, nanos: 0 }));
        assert_eq!(moment(b"12.25"), Some(Moment { secs: 12, nanos: 250_000_000 }));
        assert_eq!(moment(b"12.1234567891"), Some(Moment { secs: 12, nanos: 123_456_789 }));
        assert_eq!(moment(b"-1.25"), Some(Moment { secs: -2, nanos: 750_000_000 }));
        assert_eq!(moment(b"1.x"), None);
    }
}
