//! A terminal with a live table at its end, or a pipe: which bytes bring it from what it shows to what it is to show.
//!
//! The table is drawn in one write, at most once for each picture that comes. Lines are never wider than the terminal, and
//! wrapping is off while they are written, since not all terminals agree on the width of each character. When a terminal gets
//! narrower it wraps what is there; the rows to go up are counted with the width of now.

use std::{fmt::Write as _, io, time::Instant};

use super::{
    output::Piece,
    picture::{self, Picture},
};
use crate::cli::problems::say;

/// The size of a terminal that does not tell its own.
const USUAL: (usize, usize) = (80, 24);

/// What is on the screen.
pub struct Screen {
    colours: bool,
    /// The lines of the table.
    lines: Vec<String>,
    picture: Option<Picture>,
    /// What comes above it with the next picture.
    above: Vec<u8>,
}

impl Screen {
    /// Nothing yet.
    pub fn new(colours: bool) -> Self {
        Self { colours, lines: Vec::new(), picture: None, above: Vec::new() }
    }

    /// Writes a piece.
    pub fn write(&mut self, out: &mut impl io::Write, piece: Piece) -> io::Result<()> {
        let bytes = self.bytes(piece, size(), Instant::now(), say);
        if bytes.is_empty() {
            return Ok(());
        }
        out.write_all(&bytes).and_then(|()| out.flush())
    }

    /// The bytes for a piece. `note` is for standard error, once the table is out of its way.
    fn bytes(&mut self, piece: Piece, size: (usize, usize), now: Instant, note: impl FnOnce(&str)) -> Vec<u8> {
        match piece {
            Piece::Bytes(bytes) if self.picture.is_none() => bytes,
            Piece::Bytes(mut bytes) => {
                self.above.append(&mut bytes);
                Vec::new()
            }
            Piece::Note(text) if self.picture.is_none() => {
                note(&text);
                Vec::new()
            }
            Piece::Note(text) => {
                // Both streams end at the same terminal, or the note goes elsewhere: then this does no harm.
                self.above.extend_from_slice(text.trim_end().as_bytes());
                self.above.push(b'\n');
                Vec::new()
            }
            Piece::Picture(picture) => {
                let lines = picture::lines(&picture, size, self.colours, now);
                self.picture = Some(picture);
                if lines == self.lines && self.above.is_empty() {
                    return Vec::new();
                }
                let mut bytes = self.erased(size.0);
                // No wrapping while the table is drawn.
                bytes.extend_from_slice(b"\x1b[?7l");
                for line in &lines {
                    bytes.extend_from_slice(line.as_bytes());
                    bytes.push(b'\n');
                }
                bytes.extend_from_slice(b"\x1b[?7h");
                self.lines = lines;
                bytes
            }
            Piece::Clear => {
                self.picture = None;
                self.erased(size.0)
            }
        }
    }

    /// Takes the table away and writes what comes above it.
    fn erased(&mut self, width: usize) -> Vec<u8> {
        let rows: usize = self.lines.drain(..).map(|line| picture::width(&line).div_ceil(width.max(1)).max(1)).sum();
        let mut bytes = String::new();
        if rows > 0 {
            // Writing to a string does not fail.
            let _ = write!(bytes, "\x1b[{rows}A\r\x1b[J");
        }
        let mut bytes = bytes.into_bytes();
        bytes.append(&mut self.above);
        bytes
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL,
    }
}
