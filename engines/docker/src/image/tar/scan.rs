//! The scanner: bytes in, members and their content out.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    BLOCK_BYTES, TarError,
    header::{Block, Extended, Member},
};

/// Bound of one extended header, as the engines have it.
const EXTENSION_BYTES: u64 = 1 << 20;
/// Bound of all header blocks of one member.
const HEAD_BYTES: usize = 4 << 20;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A member begins.
    Member(Member),
    /// Some of its content.
    Content(Bytes),
    /// The filling up to the next block, which no member owns.
    Padding(Bytes),
    /// The archive is complete. Nothing comes after it.
    End,
}

#[derive(Debug)]
enum State {
    /// A header, or the first of the two zero blocks, comes next.
    Heads { zero_seen: bool },
    /// The content of an extended header.
    Extension { flag: u8, bytes: usize, padded: usize },
    /// Blocks of the map of a GNU sparse member.
    SparseMap(Block),
    /// The content of a member.
    Body { left: u64, padding: usize },
    /// The filling after it.
    Padding(usize),
    /// After the end.
    Ended,
}

/// Reads an archive. See the states in the documentation of the module.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// Bytes of the block or extension that is not complete yet.
    partial: BytesMut,
    /// Header blocks of the member that comes next.
    head: BytesMut,
    extended: Extended,
    offset: u64,
}

fn padding(bytes: u64) -> usize {
    let over = usize::try_from(bytes % BLOCK_BYTES as u64).unwrap_or_default();
    if over == 0 { 0 } else { BLOCK_BYTES - over }
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            state: State::Heads { zero_seen: false },
            partial: BytesMut::new(),
            head: BytesMut::new(),
            extended: Extended::default(),
            offset: 0,
        }
    }
}

impl Scanner {
    /// The next piece in `input`, which is consumed as far as it was understood. None when more input is needed.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Piece>, TarError> {
        loop {
            match &mut self.state {
                State::Ended => {
                    input.clear();
                    return Ok(None);
                }
                State::Body { left: 0, padding: 0 } | State::Padding(0) => self.state = State::Heads { zero_seen: false },
                State::Body { left: 0, padding } => self.state = State::Padding(*padding),
                _ if input.is_empty() => return Ok(None),
                State::Body { left, .. } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= taken as u64;
                    self.offset += taken as u64;
                    return Ok(Some(Piece::Content(input.split_to(taken))));
                }
                State::Padding(left) => {
                    let taken = (*left).min(input.len());
                    *left -= taken;
                    self.offset += taken as u64;
                    return Ok(Some(Piece::Padding(input.split_to(taken))));
                }
                State::Extension { flag, bytes, padded } => {
                    let (flag, bytes, padded) = (*flag, *bytes, *padded);
                    let Some(content) = self.gather(input, padded) else { return Ok(None) };
                    self.keep_head(&content)?;
                    self.extended.take(flag, &content[..bytes], self.offset)?;
                    self.state = State::Heads { zero_seen: false };
                }
                State::SparseMap(_) => {
                    let Some(block) = self.gather(input, BLOCK_BYTES) else { return Ok(None) };
                    self.keep_head(&block)?;
                    if block[504] == 0
                        && let State::SparseMap(header) = std::mem::replace(&mut self.state, State::Heads { zero_seen: false })
                    {
                        return Ok(Some(self.begin(header)));
                    }
                }
                State::Heads { zero_seen } => {
                    let zero_seen = *zero_seen;
                    let begins = self.offset - self.partial.len() as u64;
                    let Some(block) = self.gather(input, BLOCK_BYTES) else { return Ok(None) };
                    if block.iter().all(|byte| *byte == 0) {
                        if !self.head.is_empty() {
                            // An extended header for a member that never comes.
                            return Err(TarError::Extension(begins));
                        }
                        if zero_seen {
                            self.state = State::Ended;
                            return Ok(Some(Piece::End));
                        }
                        self.state = State::Heads { zero_seen: true };
                        continue;
                    }
                    if zero_seen {
                        return Err(TarError::NoHeader(begins));
                    }
                    if let Some(piece) = self.header(&block, begins)? {
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }

    /// Says that no more input comes. An archive may end without its two zero blocks, but not within a member.
    pub fn finish(&self) -> Result<(), TarError> {
        let complete = match self.state {
            State::Ended => true,
            State::Heads { .. } | State::Padding(0) | State::Body { left: 0, padding: 0 } => {
                self.partial.is_empty() && self.head.is_empty()
            }
            _ => false,
        };
        if self.offset == 0 {
            return Err(TarError::Empty);
        }
        if complete { Ok(()) } else { Err(TarError::Truncated(self.offset)) }
    }

    fn header(&mut self, block: &[u8], begins: u64) -> Result<Option<Piece>, TarError> {
        let block: &[u8; BLOCK_BYTES] = block.try_into().map_err(|_| TarError::NoHeader(begins))?;
        let header = Block::parse(block, begins)?;
        self.keep_head(block)?;
        if header.is_extension() {
            if header.size > EXTENSION_BYTES {
                return Err(TarError::Extension(begins));
            }
            let bytes = usize::try_from(header.size).unwrap_or_default();
            self.state = State::Extension { flag: header.flag, bytes, padded: bytes + padding(header.size) };
            if bytes == 0 {
                self.extended.take(header.flag, &[], begins)?;
                self.state = State::Heads { zero_seen: false };
            }
            return Ok(None);
        }
        if header.map_goes_on {
            self.state = State::SparseMap(header);
            return Ok(None);
        }
        Ok(Some(self.begin(header)))
    }

    fn begin(&mut self, header: Block) -> Piece {
        let member = header.member(std::mem::take(&mut self.extended), self.head.split().freeze());
        self.state = State::Body { left: member.bytes, padding: padding(member.bytes) };
        Piece::Member(member)
    }

    fn keep_head(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        if self.head.len() + bytes.len() > HEAD_BYTES {
            return Err(TarError::Extension(self.offset));
        }
        self.head.extend_from_slice(bytes);
        Ok(())
    }

    /// `wanted` bytes in one piece, once there are so many.
    fn gather(&mut self, input: &mut Bytes, wanted: usize) -> Option<Bytes> {
        if self.partial.is_empty() && input.len() >= wanted {
            self.offset += wanted as u64;
            return Some(input.split_to(wanted));
        }
        let taken = (wanted - self.partial.len()).min(input.len());
        self.partial.extend_from_slice(&input[..taken]);
        input.advance(taken);
        self.offset += taken as u64;
        (self.partial.len() == wanted).then(|| self.partial.split().freeze())
    }
}
