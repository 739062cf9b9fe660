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
    /// Standard error ends here, too.
    shared: bool,
    /// The lines of the table.
    lines: Vec<String>,
    picture: Option<Picture>,
    /// What comes above it with the next picture.
    above: Vec<u8>,
}

impl Screen {
    /// Nothing yet.
    pub fn new(colours: bool, shared: bool) -> Self {
        Self { colours, shared, lines: Vec::new(), picture: None, above: Vec::new() }
    }

    /// Writes a piece.
    pub fn write(&mut self, out: &mut impl io::Write, piece: Piece) -> io::Result<()> {
        let bytes = self.bytes(piece, size(), Instant::now(), say);
        if bytes.is_empty() {
            return Ok(());
        }
        out.write_all(&bytes).and_then(|()| out.flush())
    }

    /// The bytes for a piece. `note` writes to standard error.
    fn bytes(&mut self, piece: Piece, size: (usize, usize), now: Instant, note: impl FnOnce(&str)) -> Vec<u8> {
        match piece {
            Piece::Bytes(bytes) if self.picture.is_none() => bytes,
            Piece::Bytes(mut bytes) => {
                self.above.append(&mut bytes);
                Vec::new()
            }
            Piece::Note(text) if self.picture.is_none() || !self.shared => {
                note(&text);
                Vec::new()
            }
            Piece::Note(text) => {
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
            Piece::Reached(tell) => {
                // Nobody waits any more: that is as well.
                let _ = tell.send(());
                Vec::new()
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::exec::picture::Running;

    /// A terminal that knows as much as is asked of it here: lines, wrapping, going up, clearing below.
    struct Terminal {
        rows: Vec<Vec<char>>,
        row: usize,
        column: usize,
        columns: usize,
        wraps: bool,
    }

    impl Terminal {
        fn feed(&mut self, bytes: &[u8]) {
            let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
            let mut rest = text.chars();
            while let Some(c) = rest.next() {
                match c {
                    '\n' => (self.row, self.column) = (self.row + 1, 0),
                    '\r' => self.column = 0,
                    '\x1b' => {
                        let sequence: String = rest.by_ref().skip(1).take_while(|c| !c.is_ascii_alphabetic()).collect();
                        // The letter is taken by then; which one it was follows from what comes before it.
                        match sequence.as_str() {
                            "?7" => self.wraps = !self.wraps,
                            "" => self.rows.truncate(self.row),
                            up => self.row = self.row.checked_sub(up.parse().expect("a number")).expect("not above the top"),
                        }
                    }
                    c => {
                        if self.column == self.columns {
                            assert!(self.wraps, "something is wider than the terminal");
                            (self.row, self.column) = (self.row + 1, 0);
                        }
                        self.rows.resize((self.row + 1).max(self.rows.len()), Vec::new());
                        self.rows[self.row].truncate(self.column);
                        self.rows[self.row].push(c);
                        self.column += 1;
                    }
                }
            }
        }

        /// Narrower, with everything wrapped as terminals do it.
        fn narrow(&mut self, columns: usize) {
            self.columns = columns;
            self.rows = self.rows.iter().flat_map(|row| row.chunks(columns).map(<[char]>::to_vec)).collect();
            self.row = self.rows.len();
        }

        fn text(&self) -> Vec<String> {
            self.rows.iter().map(|row| row.iter().collect()).collect()
        }
    }

    fn picture(now: Instant, names: &[&str]) -> Piece {
        let running =
            |name: &&str| Running { name: (*name).to_owned(), since: now, last: format!("{name} says something long") };
        Piece::Picture(Picture { running: names.iter().map(running).collect(), tasks: 3, completed: 0, other: 0, since: now })
    }

    #[test]
    fn a_table_stays_at_the_end_whatever_comes_and_however_wide_the_terminal_is() {
        let (mut screen, now) = (Screen::new(false, true), Instant::now());
        let mut terminal = Terminal { rows: Vec::new(), row: 0, column: 0, columns: 60, wraps: true };
        let mut show = |terminal: &mut Terminal, piece: Piece| {
            let size = (terminal.columns, 24);
            terminal.feed(&screen.bytes(piece, size, now, |text| panic!("not for standard error: {text}")));
        };
        show(&mut terminal, picture(now, &["alpha", "beta"]));
        show(&mut terminal, Piece::Bytes(b"gamma is over\n".to_vec()));
        show(&mut terminal, Piece::Note("a warning".to_owned()));
        show(&mut terminal, picture(now, &["alpha", "beta"]));
        assert_eq!(
            terminal.text(),
            [
                "gamma is over",
                "a warning",
                "  0:00  alpha  alpha says something long",
                "  0:00  beta   beta says something long",
                "  0:00  3 tasks: 0 completed, 2 running, 1 waiting",
            ]
        );
        terminal.narrow(25);
        show(&mut terminal, picture(now, &["beta"]));
        assert_eq!(terminal.text(), ["gamma is over", "a warning", "  0:00  beta  beta says…", "  0:00  3 tasks: 0 comp…"]);
        show(&mut terminal, Piece::Clear);
        assert_eq!(terminal.text(), ["gamma is over", "a warning"]);
        show(&mut terminal, Piece::Bytes(b"the end".to_vec()));
        assert_eq!(terminal.text().last().map(String::as_str), Some("the end"));
        assert!(terminal.wraps, "wrapping is on again");
    }

    #[test]
    fn the_same_picture_is_drawn_once() {
        let (mut screen, now) = (Screen::new(true, false), Instant::now());
        let mut noted = Vec::new();
        let mut draw = |piece, now| screen.bytes(piece, (80, 24), now, |text| noted.push(text.to_owned()));
        assert!(!draw(picture(now, &["a"]), now).is_empty());
        assert!(draw(picture(now, &["a"]), now).is_empty());
        assert!(!draw(picture(now, &["a"]), now + Duration::from_secs(1)).is_empty(), "time has passed");
        assert!(draw(Piece::Note("elsewhere".to_owned()), now).is_empty());
        assert_eq!(noted, ["elsewhere"], "standard error is a file");
    }
}
