//! Task logs on standard output as they come, plain or with prefixes and colours.
//!
//! ```text
//! LogReader (one per run) ─Painter─▶ channel (bounded) ─▶ one thread ─▶ standard output
//! ```
//!
//! Whoever reads slowly holds up the readers, which hold up nobody: a log is a file.

use std::io;

use super::{
    colour::{DIM, RED, RESET, YELLOW},
    output::{Piece, Writer},
};
use crate::log::LogReader;

/// Longest line, in bytes, that is shown as one if it has something before or around it. A longer one becomes several: until its
/// end has come it is kept, and lines of other tasks must not get into it.
pub const LONGEST_LINE: usize = 64 << 10;
/// What begins the lines of the worker in a task's log.
const OURS: &[u8] = b"[taskcluster";

/// What a log becomes on its way.
pub trait Format: Send {
    /// The next bytes of the log.
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>);
    /// It has ended.
    fn end(&mut self, out: &mut Vec<u8>);
}

/// How many of these bytes are whole characters: what is cut is cut between two of them.
pub fn whole(bytes: &[u8]) -> usize {
    let lengths = bytes.iter().rev().take(3).zip(1..).find(|(byte, _)| **byte & 0xc0 != 0x80).map(|(first, there)| {
        let length = match *first {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => 1,
        };
        (length, there)
    });
    match lengths {
        Some((length, there)) if length > there => bytes.len() - there,
        _ => bytes.len(),
    }
}

/// Copies a log until it ends.
pub async fn follow(mut log: LogReader, mut format: Box<dyn Format>, to: Writer) -> io::Result<()> {
    loop {
        let piece = log.next().await?;
        let mut out = Vec::new();
        match &piece {
            Some(bytes) => format.feed(bytes, &mut out),
            None => format.end(&mut out),
        }
        // The thread only ends when this sender is gone, so this cannot fail.
        if !out.is_empty() && to.send(Piece::Bytes(out)).await.is_err() {
            return Ok(());
        }
        if piece.is_none() {
            return Ok(());
        }
    }
}

/// Adds prefixes and colours to a stream of bytes.
#[derive(Debug, Default)]
pub struct Painter {
    prefix: String,
    colours: bool,
    held: Vec<u8>,
    mid_line: bool,
}

impl Painter {
    /// Every line gets `prefix`, which may be empty; with `colours`, lines of the worker stand out.
    pub fn new(prefix: String, colours: bool) -> Self {
        Self { prefix, colours, ..Self::default() }
    }

    /// Holds more of a line. Where others may come between, what is too long is cut into lines.
    fn hold(&mut self, mut text: &[u8], out: &mut Vec<u8>) {
        while !self.prefix.is_empty() && self.held.len() + text.len() > LONGEST_LINE {
            let (now, later) = text.split_at(LONGEST_LINE - self.held.len());
            self.held.extend_from_slice(now);
            let begun = self.held.split_off(whole(&self.held));
            self.line(out);
            out.push(b'\n');
            (self.held, text) = (begun, later);
        }
        self.held.extend_from_slice(text);
    }

    /// What is held, as one line without its end.
    fn line(&mut self, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.mid_line) {
            out.extend_from_slice(self.prefix.as_bytes());
            let colour = self.colours.then(|| colour(&self.held)).flatten();
            if let Some(colour) = colour {
                out.extend_from_slice(colour.as_bytes());
                out.append(&mut self.held);
                out.extend_from_slice(RESET.as_bytes());
            }
        }
        out.append(&mut self.held);
    }
}

impl Format for Painter {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.prefix.is_empty() && !self.colours {
            out.extend_from_slice(bytes);
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            self.hold(text, out);
            if piece.len() > text.len() {
                self.line(out);
                out.push(b'\n');
            }
        }
        if self.prefix.is_empty() {
            // A prompt or a progress bar is to be seen at once, if it cannot become a line of the worker.
            let begin = &self.held[..self.held.len().min(OURS.len())];
            if self.mid_line || !OURS.starts_with(begin) {
                self.mid_line |= !self.held.is_empty();
                out.append(&mut self.held);
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if !self.held.is_empty() {
            self.line(out);
            // Without it, the next line of another task would follow on the same line.
            if !self.prefix.is_empty() {
                out.push(b'\n');
            }
        }
    }
}

fn colour(line: &[u8]) -> Option<&'static str> {
    match line.strip_prefix(OURS)? {
        [b' ', ..] => Some(DIM),
        rest if rest.starts_with(b":error]") => Some(RED),
        rest if rest.starts_with(b":warn ") => Some(YELLOW),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the text in pieces of one size; the result must not depend on it, except for lines that are too long.
    fn painted(prefix: &str, colours: bool, text: &[u8]) -> String {
        let mut results: Vec<String> = [1, 3, text.len().max(1)]
            .into_iter()
            .map(|size| {
                let (mut painter, mut out) = (Painter::new(prefix.to_owned(), colours), Vec::new());
                text.chunks(size).for_each(|piece| painter.feed(piece, &mut out));
                painter.end(&mut out);
                String::from_utf8_lossy(&out).into_owned()
            })
            .collect();
        assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
        results.swap_remove(0)
    }

    #[test]
    fn plain_is_byte_for_byte() {
        let mut out = Vec::new();
        Painter::new(String::new(), false).feed(b"\xff\0a\r", &mut out);
        assert_eq!(out, b"\xff\0a\r");
    }

    #[test]
    fn every_line_gets_its_prefix() {
        assert_eq!(painted("a | ", false, b"x\n\ny"), "a | x\na | \na | y\n");
        assert_eq!(painted("a | ", false, b"x\n"), "a | x\n");
        assert_eq!(painted("a | ", false, b""), "");
    }

    #[test]
    fn lines_of_the_worker_stand_out() {
        let text = b"[taskcluster 2026] a\n[taskcluster:error] b\nc\n[taskcluster:warn 2] d\n[task] e\n[taskcl";
        let expected = "\x1b[2m[taskcluster 2026] a\x1b[0m\n\x1b[31m[taskcluster:error] b\x1b[0m\nc\n\
                        \x1b[33m[taskcluster:warn 2] d\x1b[0m\n[task] e\n[taskcl";
        assert_eq!(painted("", true, text), expected);
    }

    #[test]
    fn half_a_line_is_seen_at_once_unless_it_may_be_the_workers() {
        let (mut painter, mut out) = (Painter::new(String::new(), true), Vec::new());
        painter.feed(b"50 %", &mut out);
        assert_eq!(out, b"50 %");
        painter.feed(b" 51 %\n[task", &mut out);
        assert_eq!(out, b"50 % 51 %\n");
        painter.feed(b"x", &mut out);
        assert_eq!(out, b"50 % 51 %\n[taskx");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let long = format!("{}é{}\ny", "x".repeat(LONGEST_LINE - 1), "z".repeat(LONGEST_LINE - 2));
        let expected = format!("a | {}\na | é{}\na | y\n", "x".repeat(LONGEST_LINE - 1), "z".repeat(LONGEST_LINE - 2));
        for size in [1000, 65_537, long.len()] {
            let (mut painter, mut out) = (Painter::new("a | ".to_owned(), false), Vec::new());
            long.as_bytes().chunks(size).for_each(|piece| painter.feed(piece, &mut out));
            painter.end(&mut out);
            assert!(String::from_utf8_lossy(&out) == expected, "{size}");
        }
    }

    #[test]
    fn characters_are_not_cut() {
        for (bytes, expected) in
            [(&b"a"[..], 1), ("aé".as_bytes(), 3), (b"a\xc3", 1), (b"a\xf0\x9f\x98", 1), (b"a\x80\x80\x80\x80", 5), (b"", 0)]
        {
            assert_eq!(whole(bytes), expected, "{bytes:?}");
        }
    }
}
