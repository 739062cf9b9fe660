//! Files with holes: which bytes are stored, and what is between them.
//!
//! There are four ways to say it: in GNU's own header and blocks after it; in PAX records, as pairs (0.0) or as one list
//! (0.1); and as text in front of the file's data (1.0).

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    TarError,
    header::{BLOCK, MOST_BYTES, number},
    pax::decimal,
};

/// A map with more stored parts than this is refused.
const MOST_SEGMENTS: usize = 1 << 16;

/// A piece of a hole.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What PAX records say about a sparse file.
#[derive(Debug, Default)]
pub(crate) struct Stated {
    major: u64,
    minor: u64,
    /// Its size, holes included.
    bytes: Option<u64>,
    /// Offsets and lengths in turn.
    numbers: Vec<u64>,
}

impl Stated {
    /// Takes a record whose key begins with `GNU.sparse.`; `key` is what follows.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        match key {
            b"size" | b"realsize" => self.bytes = Some(decimal(value)?),
            b"major" => self.major = decimal(value)?,
            b"minor" => self.minor = decimal(value)?,
            b"map" => self.numbers = value.split(|byte| *byte == b',').map(decimal).collect::<Result<_, _>>()?,
            // One pair after the other, in their order.
            b"offset" | b"numbytes" => self.numbers.push(decimal(value)?),
            _ => {}
        }
        if self.numbers.len() > 2 * MOST_SEGMENTS { Err(TarError::TooLong) } else { Ok(()) }
    }
}

/// A map that is being read.
#[derive(Debug)]
pub(crate) struct Draft {
    bytes: u64,
    /// Offsets and lengths in turn.
    numbers: Vec<u64>,
    /// Of a map that is text: how many numbers are to come, once that is known, and the digits of the next one.
    wanted: Option<usize>,
    digits: Vec<u8>,
}

impl Draft {
    /// From a header of GNU's format; also whether blocks with more of the map follow.
    pub(crate) fn of_header(raw: &[u8; BLOCK]) -> Result<(Self, bool), TarError> {
        let bytes = number(&raw[483..495])?;
        let mut draft = Self { bytes, numbers: Vec::new(), wanted: None, digits: Vec::new() };
        draft.add_pairs(&raw[386..482])?;
        Ok((draft, raw[482] != 0))
    }

    /// From PAX records; also whether the map stands in front of the data.
    pub(crate) fn of_pax(stated: Stated) -> Result<(Self, bool), TarError> {
        let bytes = stated.bytes.ok_or(TarError::Map)?;
        let in_front = (stated.major, stated.minor) == (1, 0);
        if stated.major > 1 || (stated.major == 1 && stated.minor > 0) {
            return Err(TarError::Map);
        }
        let numbers = if in_front { Vec::new() } else { stated.numbers };
        Ok((Self { bytes, numbers, wanted: None, digits: Vec::new() }, in_front))
    }

    fn add_pairs(&mut self, pairs: &[u8]) -> Result<(), TarError> {
        for pair in pairs.chunks_exact(24) {
            // What is not used is empty.
            if pair[0] == 0 || pair[12] == 0 {
                break;
            }
            self.numbers.extend([number(&pair[..12])?, number(&pair[12..])?]);
        }
        if self.numbers.len() > 2 * MOST_SEGMENTS { Err(TarError::TooLong) } else { Ok(()) }
    }

    /// Takes another block of GNU's format. Returns whether one more follows.
    pub(crate) fn add_block(&mut self, block: &[u8; BLOCK]) -> Result<bool, TarError> {
        self.add_pairs(&block[..504])?;
        Ok(block[504] != 0)
    }

    /// Takes another block of a map that is text. Returns whether one more follows.
    pub(crate) fn add_text(&mut self, block: &[u8; BLOCK]) -> Result<bool, TarError> {
        for byte in block {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 20 {
                    return Err(TarError::Map);
                }
                continue;
            }
            let number = decimal(&std::mem::take(&mut self.digits))?;
            match self.wanted {
                None => {
                    let pairs = usize::try_from(number).map_err(|_| TarError::Map)?;
                    if pairs > MOST_SEGMENTS {
                        return Err(TarError::TooLong);
                    }
                    self.wanted = Some(2 * pairs);
                }
                Some(_) => self.numbers.push(number),
            }
            if self.wanted == Some(self.numbers.len()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The map, and the size of the file with its holes, if that goes together with so many stored bytes.
    pub(crate) fn finish(self, stored: u64) -> Result<(Map, u64), TarError> {
        let (mut map, mut at, mut sum) = (VecDeque::new(), 0_u64, 0_u64);
        let (pairs, []) = self.numbers.as_chunks::<2>() else { return Err(TarError::Map) };
        for [offset, length] in pairs {
            let hole = offset.checked_sub(at).ok_or(TarError::Map)?;
            (at, sum) = (offset + length, sum + length);
            if at > MOST_BYTES || sum > stored {
                return Err(TarError::Map);
            }
            map.extend([Part::Hole(hole), Part::Stored(*length)]);
        }
        if sum != stored {
            return Err(TarError::Map);
        }
        map.push_back(Part::Hole(self.bytes.checked_sub(at).ok_or(TarError::Map)?));
        Ok((Map { parts: map, forget_holes: false }, self.bytes))
    }
}

#[derive(Debug)]
enum Part {
    Hole(u64),
    Stored(u64),
}

/// What of a file is still to come.
#[derive(Debug)]
pub(crate) struct Map {
    parts: VecDeque<Part>,
    forget_holes: bool,
}

/// A step through a file.
pub(super) enum Segment {
    /// The next bytes.
    Bytes(Bytes),
    /// Nothing to see.
    Passed,
    /// More input is needed.
    Wanting,
}

impl Map {
    /// Of a file without holes.
    pub(super) fn plain(bytes: u64) -> Self {
        Self { parts: [Part::Stored(bytes)].into(), forget_holes: false }
    }

    /// How long each hole is, and how many stored bytes follow it.
    pub(crate) fn pairs(self) -> VecDeque<(u64, u64)> {
        let mut pairs = VecDeque::with_capacity(self.parts.len() / 2 + 1);
        for part in self.parts {
            match (part, pairs.back_mut()) {
                (Part::Hole(bytes), _) => pairs.push_back((bytes, 0)),
                (Part::Stored(bytes), Some((_, stored))) => *stored += bytes,
                (Part::Stored(bytes), None) => pairs.push_back((0, bytes)),
            }
        }
        pairs
    }

    pub(super) fn forget_holes(&mut self) {
        self.forget_holes = true;
    }

    /// The next bytes of the file, as many as are there; none at its end.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Option<Segment> {
        let part = self.parts.front_mut()?;
        let (Part::Hole(left) | Part::Stored(left)) = part;
        if *left == 0 {
            self.parts.pop_front();
            return Some(Segment::Passed);
        }
        let most = usize::try_from(*left).unwrap_or(usize::MAX);
        let piece = match part {
            Part::Hole(_) if self.forget_holes => {
                self.parts.pop_front();
                return Some(Segment::Passed);
            }
            Part::Hole(_) => Bytes::from_static(&ZEROS[..most.min(ZEROS.len())]),
            Part::Stored(_) if input.is_empty() => return Some(Segment::Wanting),
            Part::Stored(_) => input.split_to(most.min(input.len())),
        };
        let (Part::Hole(left) | Part::Stored(left)) = part;
        *left -= piece.len() as u64;
        Some(Segment::Bytes(piece))
    }
}
