//! Reading a tar archive while it arrives.
//!
//! Bytes go in as they come, in pieces of any size; events come out. The bytes of files are passed on, never gathered, and
//! what is gathered (names, lists of extended headers, maps of sparse files) has limits. Nothing here does I/O.
//!
//! ```text
//!            ┌───────────────────────────── another header ─────────────────────────────┐
//!            ▼                                                                          │
//! feed ─▶ Header ─┬─▶ Text (long names, PAX lists) ─▶ Padding ──────────────────────────┤
//!                 ├─▶ Map (of a sparse file) ─▶ Data ─▶ Padding ────────────────────────┤
//!                 ├─▶ Entry, Data … ─▶ Done ─▶ Padding ─────────────────────────────────┘
//!                 └─▶ a block of zeros ─▶ End
//! ```
//!
//! Formats: the old one, ustar, GNU (long names, sparse files), PAX (including GNU's three ways to store sparse files in it).
//! Docker's engine writes PAX with holes as plain zeros; other engines may not.

mod header;
mod pax;
pub(crate) mod sparse;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) mod writer;

use bytes::{Buf as _, Bytes, BytesMut};

use self::{
    header::{BLOCK, Raw},
    pax::Pax,
    sparse::{Map, Segment},
};

/// Longest list of extended header records, and longest name. Attributes of files are in these lists, too.
const TEXT_BYTES: u64 = 1 << 20;

/// What is wrong with an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TarError {
    #[error("a header has a wrong checksum")]
    Checksum,
    #[error("a header has a number that is none")]
    Number,
    #[error("an extended header is malformed")]
    Extended,
    #[error("an extended header is too long")]
    TooLong,
    #[error("the map of a sparse file is malformed")]
    Map,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file with this many bytes, holes included.
    File(u64),
    /// The same file as another entry.
    HardLink,
    /// A symbolic link.
    Link,
    Directory,
    /// Something without bytes, in words.
    Special(&'static str),
}

/// One thing in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// As it is written in the archive.
    pub(crate) name: Vec<u8>,
    /// What a link refers to, as it is written; otherwise empty.
    pub(super) target: Vec<u8>,
    pub(crate) kind: Kind,
}

/// To whom a thing belongs, and who may do what with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Without the bits that tell what it is.
    pub(crate) mode: u32,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Something begins. If it is a file, [`Event::Data`] and [`Event::Done`] follow.
    Entry(Item),
    /// Bytes of the file, never an empty piece.
    Data(Bytes),
    /// The file is complete.
    Done,
    /// The archive is. Whatever follows is none of it.
    End,
}

#[derive(Debug)]
enum State {
    Header,
    Text {
        flag: u8,
        left: u64,
        padding: u64,
    },
    /// More of the map of a sparse file in the old GNU format.
    GnuMap(Box<Started>),
    /// The map at the beginning of a sparse file's data.
    PaxMap {
        started: Box<Started>,
        stored: u64,
    },
    Data {
        segments: Map,
        padding: u64,
    },
    Padding(u64),
    End,
}

/// A sparse file whose map is not complete yet.
#[derive(Debug)]
struct Started {
    item: Item,
    map: sparse::Draft,
    /// Bytes of the file's data in the archive.
    stored: u64,
}

/// An archive that arrives.
#[derive(Debug)]
pub(crate) struct Tar {
    input: Bytes,
    /// Part of a block, or of a text.
    gathered: BytesMut,
    state: State,
    /// What extended headers say about the next entry.
    pax: Pax,
    /// Of the last entry; none if it cannot be read, which matters to few.
    owner: Option<Owner>,
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self { input: Bytes::new(), gathered: BytesMut::new(), state: State::Header, pax: Pax::default(), owner: None }
    }

    /// Takes the next bytes. Only when [`Tar::next`] has asked for them.
    pub(crate) fn feed(&mut self, bytes: Bytes) {
        debug_assert!(self.input.is_empty(), "there are bytes left");
        self.input = bytes;
    }

    /// Passes over what is left of the file that has begun. Its holes cost nothing then; [`Event::Done`] still comes.
    pub(super) fn skip(&mut self) {
        if let State::Data { segments, .. } = &mut self.state {
            segments.forget_holes();
        }
    }

    /// Whose the last entry is; none if that cannot be read.
    pub(crate) fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// The next event; none when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, TarError> {
        loop {
            match &mut self.state {
                State::Header => {
                    let Some(block) = self.block() else { return Ok(None) };
                    if let Some(event) = self.header(&Raw(&block))? {
                        return Ok(Some(event));
                    }
                }
                State::Text { flag, left, padding } => {
                    let (flag, padding, length) = (*flag, *padding, usize::try_from(*left).unwrap_or(usize::MAX));
                    let Some(text) = self.gather(length) else { return Ok(None) };
                    self.pax.add(flag, &text)?;
                    self.state = State::Padding(padding);
                }
                State::GnuMap(_) => {
                    let Some(block) = self.block() else { return Ok(None) };
                    // The state was just seen to be this one.
                    if let State::GnuMap(mut started) = std::mem::replace(&mut self.state, State::Header) {
                        if started.map.add_block(&block)? {
                            self.state = State::GnuMap(started);
                        } else {
                            let Started { item, map, stored } = *started;
                            return self.begin_sparse(item, map, stored).map(Some);
                        }
                    }
                }
                State::PaxMap { .. } => {
                    let Some(block) = self.block() else { return Ok(None) };
                    if let State::PaxMap { mut started, stored } = std::mem::replace(&mut self.state, State::Header) {
                        let left = stored.checked_sub(BLOCK as u64).ok_or(TarError::Map)?;
                        if started.map.add_text(&block)? {
                            self.state = State::PaxMap { started, stored: left };
                        } else {
                            let Started { item, map, .. } = *started;
                            return self.begin_sparse(item, map, left).map(Some);
                        }
                    }
                }
                State::Data { segments, padding } => match segments.next(&mut self.input) {
                    Some(Segment::Bytes(piece)) => return Ok(Some(Event::Data(piece))),
                    Some(Segment::Passed) => {}
                    Some(Segment::Wanting) => return Ok(None),
                    None => {
                        self.state = State::Padding(*padding);
                        return Ok(Some(Event::Done));
                    }
                },
                State::Padding(left) => {
                    let length = usize::try_from(*left).map_or(self.input.len(), |left| left.min(self.input.len()));
                    self.input.advance(length);
                    *left -= length as u64;
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Header;
                }
                State::End => {
                    self.input.clear();
                    return Ok(Some(Event::End));
                }
            }
        }
    }

    fn block(&mut self) -> Option<[u8; BLOCK]> {
        let block = self.gather(BLOCK)?;
        block.as_ref().try_into().ok()
    }

    /// The next so many bytes, once they are there.
    fn gather(&mut self, length: usize) -> Option<BytesMut> {
        let fits = self.input.len().min(length - self.gathered.len());
        self.gathered.extend_from_slice(&self.input[..fits]);
        self.input.advance(fits);
        (self.gathered.len() == length).then(|| self.gathered.split())
    }

    fn header(&mut self, raw: &Raw<'_>) -> Result<Option<Event>, TarError> {
        if raw.is_zero() {
            self.state = State::End;
            return Ok(Some(Event::End));
        }
        raw.verify()?;
        let (flag, mut stored) = (raw.flag(), raw.size()?);
        if matches!(flag, b'x' | b'g' | b'L' | b'K') {
            if stored > TEXT_BYTES {
                return Err(TarError::TooLong);
            }
            self.state = State::Text { flag, left: stored, padding: padding(stored) };
            return Ok(None);
        }
        let pax = std::mem::take(&mut self.pax);
        self.owner = raw.owner().ok().map(|owner| Owner {
            uid: pax.uid.unwrap_or(owner.uid),
            gid: pax.gid.unwrap_or(owner.gid),
            ..owner
        });
        let name = pax.sparse_name.or(pax.path).unwrap_or_else(|| raw.name());
        let target = pax.target.unwrap_or_else(|| raw.target());
        stored = pax.size.unwrap_or(stored);
        let kind = match flag {
            b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File(stored),
            b'1' => Kind::HardLink,
            b'2' => Kind::Link,
            b'3' => Kind::Special("character device"),
            b'4' => Kind::Special("block device"),
            b'5' => Kind::Directory,
            b'6' => Kind::Special("named pipe"),
            _ => Kind::Special("thing of an unknown kind"),
        };
        let item = Item { name, target, kind };
        match item.kind {
            Kind::File(_) if flag == b'S' => {
                let (map, continues) = sparse::Draft::of_header(raw.0)?;
                if continues {
                    self.state = State::GnuMap(Box::new(Started { item, map, stored }));
                    return Ok(None);
                }
                return self.begin_sparse(item, map, stored).map(Some);
            }
            Kind::File(_) => match pax.sparse {
                None => self.state = State::Data { segments: Map::plain(stored), padding: padding(stored) },
                Some(sparse) => {
                    let (map, continues) = sparse::Draft::of_pax(sparse)?;
                    if continues {
                        self.state = State::PaxMap { started: Box::new(Started { item, map, stored }), stored };
                        return Ok(None);
                    }
                    return self.begin_sparse(item, map, stored).map(Some);
                }
            },
            // Some write a size here although no bytes follow.
            Kind::HardLink | Kind::Link | Kind::Directory => {}
            Kind::Special(_) if matches!(flag, b'3' | b'4' | b'6') => {}
            Kind::Special(_) => self.state = State::Padding(stored + padding(stored)),
        }
        Ok(Some(Event::Entry(item)))
    }

    fn begin_sparse(&mut self, mut item: Item, map: sparse::Draft, stored: u64) -> Result<Event, TarError> {
        let (segments, bytes) = map.finish(stored)?;
        item.kind = Kind::File(bytes);
        self.state = State::Data { segments, padding: padding(stored) };
        Ok(Event::Entry(item))
    }
}

/// Data is filled up to whole blocks.
fn padding(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK as u64) - bytes
}
