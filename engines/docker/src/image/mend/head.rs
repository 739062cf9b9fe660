//! The header of a hard link with another target, in as many blocks as before. Pure.

use super::super::tar::{BLOCK_BYTES, put_size, seal};

/// What a hard link becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// A hard link with a relative target.
    Relative,
    /// A symbolic link to the same place.
    Symbolic,
}

/// What begins the keys of attributes, which symbolic links do not have.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";
const TARGET_FIELD: std::ops::Range<usize> = 157..257;

/// Changes the header blocks of a hard link. None if the new target has no room in them.
pub fn relinked(head: &[u8], link: Link) -> Option<Vec<u8>> {
    let mut parts = parts(head)?;
    // A long name outranks a record, and that the header.
    let target = [b'K', b'x', b'1'].iter().find_map(|flag| parts.iter().rfind(|part| part.block[156] == *flag)?.target())?;
    let bare = &target[target.iter().position(|byte| *byte != b'/')?..];
    let target = match link {
        Link::Relative => bare.to_vec(),
        Link::Symbolic => [b"/", bare].concat(),
    };
    let said_before = parts.iter().any(|part| part.block[156] != b'1' && part.target().is_some());
    for part in &mut parts {
        part.set_target(&target, link, said_before)?;
    }
    Some(parts.into_iter().flat_map(|part| [part.block.to_vec(), part.content].concat()).collect())
}

/// Header blocks of the same number that stand for nothing: records for the whole archive, without any.
pub fn nothing(head: &[u8]) -> Option<Vec<u8>> {
    let mut parts = parts(head)?;
    let last = &mut parts.last_mut()?.block;
    last[156] = b'g';
    put_size(last, 0);
    seal(last);
    Some(parts.into_iter().flat_map(|part| [part.block.to_vec(), part.content].concat()).collect())
}

/// A header block and what follows it up to the next.
struct Part {
    block: [u8; BLOCK_BYTES],
    /// Filled up to whole blocks.
    content: Vec<u8>,
    bytes: usize,
}

fn parts(mut head: &[u8]) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    while let Some((block, rest)) = head.split_first_chunk::<BLOCK_BYTES>() {
        // Only long names and lists of records have something behind them, and their sizes were read before.
        let extension = matches!(block[156], b'x' | b'L' | b'K');
        let bytes = if extension { octal(&block[124..136])? } else { 0 };
        let (content, rest) = rest.split_at_checked(bytes.next_multiple_of(BLOCK_BYTES))?;
        parts.push(Part { block: *block, content: content.to_vec(), bytes });
        head = rest;
    }
    head.is_empty().then_some(parts)
}

fn octal(field: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    usize::from_str_radix(text, 8).ok()
}

fn until_zero(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split(|byte| *byte == 0).next().filter(|text| !text.is_empty())
}

impl Part {
    /// The target that this part states.
    fn target(&self) -> Option<Vec<u8>> {
        match self.block[156] {
            b'x' => {
                let all = records(&self.content[..self.bytes])?;
                all.into_iter().rev().find(|(key, _)| *key == b"linkpath").map(|(_, value)| value.to_vec())
            }
            b'K' => until_zero(&self.content[..self.bytes]).map(<[u8]>::to_vec),
            b'1' => until_zero(&self.block[TARGET_FIELD]).map(<[u8]>::to_vec),
            _ => None,
        }
    }

    /// Puts another target in the place of the one that is stated. `elsewhere` says that the header itself does not count.
    fn set_target(&mut self, target: &[u8], link: Link, elsewhere: bool) -> Option<()> {
        let content = match self.block[156] {
            b'x' => {
                let mut content = Vec::new();
                for (key, value) in records(&self.content[..self.bytes])? {
                    match key {
                        b"linkpath" => push_record(&mut content, key, target),
                        _ if link == Link::Symbolic && key.starts_with(ATTRIBUTE) => {}
                        _ => push_record(&mut content, key, value),
                    }
                }
                content
            }
            b'K' => {
                let mut content = [target, b"\0"].concat();
                let least = self.content.len().saturating_sub(BLOCK_BYTES - 1);
                content.resize(content.len().max(least), 0);
                content
            }
            b'1' => {
                let field = &mut self.block[TARGET_FIELD];
                let fits = target.len() <= field.len();
                if !fits && !elsewhere {
                    return None;
                }
                field.fill(0);
                let length = target.len().min(field.len());
                field[..length].copy_from_slice(&target[..length]);
                if link == Link::Symbolic {
                    self.block[156] = b'2';
                }
                seal(&mut self.block);
                return Some(());
            }
            _ => return Some(()),
        };
        self.replace(content)
    }

    /// Another content in as many blocks.
    fn replace(&mut self, mut content: Vec<u8>) -> Option<()> {
        let room = self.content.len();
        if content.len() + BLOCK_BYTES <= room && self.block[156] == b'x' {
            // So much was taken away that there would be fewer blocks.
            let wanted = room - content.len();
            fill(&mut content, wanted);
        }
        if content.len() > room || content.len().next_multiple_of(BLOCK_BYTES) != room {
            return None;
        }
        self.bytes = content.len();
        content.resize(room, 0);
        self.content = content;
        put_size(&mut self.block, self.bytes as u64);
        seal(&mut self.block);
        Some(())
    }
}

/// Appends a record of so many bytes, at least a block, that means nothing.
fn fill(content: &mut Vec<u8>, wanted: usize) {
    let start = content.len();
    let empty = b"comment=\n".len() + 1 + wanted.to_string().len();
    content.extend_from_slice(format!("{wanted} comment=").as_bytes());
    content.extend(std::iter::repeat_n(b'-', wanted.saturating_sub(empty)));
    content.push(b'\n');
    debug_assert_eq!(content.len() - start, wanted, "a record is as long as it says");
}

/// `<length> <key>=<value>\n`, one after the other.
fn records(mut text: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut found = Vec::new();
    while !text.is_empty() {
        let space = text.iter().take(20).position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&text[..space]).ok()?.parse().ok()?;
        let record = text.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        found.push((&record[..equals], &record[equals + 1..]));
        text = &text[length..];
    }
    Some(found)
}

fn push_record(content: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() > rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    content.extend_from_slice(format!("{length} ").as_bytes());
    content.extend_from_slice(key);
    content.push(b'=');
    content.extend_from_slice(value);
    content.push(b'\n');
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{
        super::super::tar::{Kind, Member, Piece, Scanner, file_header},
        *,
    };

    fn read(head: &[u8]) -> Member {
        let mut input = Bytes::copy_from_slice(head);
        match Scanner::default().next(&mut input).unwrap() {
            Some(Piece::Member(member)) => member,
            other => panic!("{other:?}"),
        }
    }

    /// The header of a hard link, with its target in one of the three places.
    fn hard_link(name: &str, target: &str, place: u8, more: &[(&str, &str)]) -> Vec<u8> {
        let mut head = Vec::new();
        let mut put = |flag: u8, content: &[u8]| {
            let mut block = file_header("extension", content.len() as u64);
            block[156] = flag;
            seal(&mut block);
            head.extend_from_slice(&block);
            head.extend_from_slice(content);
            head.resize(head.len().next_multiple_of(BLOCK_BYTES), 0);
        };
        match place {
            b'x' => {
                let mut content = Vec::new();
                push_record(&mut content, b"path", name.as_bytes());
                push_record(&mut content, b"linkpath", target.as_bytes());
                for (key, value) in more {
                    push_record(&mut content, key.as_bytes(), value.as_bytes());
                }
                put(b'x', &content);
            }
            b'K' => put(b'K', &[target.as_bytes(), b"\0"].concat()),
            _ => {}
        }
        let mut block = file_header(name, 0);
        block[156] = b'1';
        let field = target.len().min(100);
        block[157..157 + field].copy_from_slice(&target.as_bytes()[..field]);
        seal(&mut block);
        head.extend_from_slice(&block);
        head
    }

    #[test]
    fn targets_change_wherever_they_are_said() {
        for place in *b"1xK" {
            let head = hard_link("opt/two", "/opt/one", place, &[("SCHILY.xattr.user.a", "b"), ("mtime", "1.5")]);
            let relative = relinked(&head, Link::Relative).unwrap();
            let member = read(&relative);
            assert_eq!((member.name.as_str(), member.kind, member.target.as_str()), ("opt/two", Kind::Link, "opt/one"));
            let symbolic = relinked(&head, Link::Symbolic).unwrap();
            let member = read(&symbolic);
            assert_eq!((member.name.as_str(), member.kind, member.target.as_str()), ("opt/two", Kind::Symlink, "/opt/one"));
            let text = String::from_utf8_lossy(&symbolic);
            assert!(!text.contains("SCHILY.xattr") && (place != b'x' || text.contains("mtime=1.5")), "{text}");
            assert_eq!((relative.len(), symbolic.len()), (head.len(), head.len()));
        }
    }

    #[test]
    fn without_room_for_another_target_nothing_is_left() {
        let head = hard_link("x", &"t".repeat(100), b'1', &[]);
        assert_eq!(relinked(&head, Link::Symbolic), None);
        let nothing = nothing(&head).unwrap();
        assert_eq!((read(&nothing).kind, read(&nothing).bytes, nothing.len()), (Kind::Other, 0, head.len()));
    }

    proptest! {
        #[test]
        fn as_many_blocks_and_the_same_target(
            length in 1_usize..1200, absolute: bool, long_name: bool, attribute in 0_usize..1500, symbolic: bool,
        ) {
            let bare = "t".repeat(length);
            let target = if absolute { format!("/{bare}") } else { bare.clone() };
            let attribute = "v".repeat(attribute);
            let place = if long_name { b'K' } else { b'x' };
            let head = hard_link("name", &target, place, &[("SCHILY.xattr.user.a", &attribute)]);
            let link = if symbolic { Link::Symbolic } else { Link::Relative };
            if let Some(new) = relinked(&head, link) {
                prop_assert_eq!(new.len(), head.len());
                let member = read(&new);
                prop_assert_eq!(member.kind, if symbolic { Kind::Symlink } else { Kind::Link });
                prop_assert_eq!(member.target, if symbolic { format!("/{bare}") } else { bare });
            } else {
                prop_assert!(symbolic && !absolute, "only a longer target may lack room");
            }
        }
    }
}
