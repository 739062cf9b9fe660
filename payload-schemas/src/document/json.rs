//! JSON: `serde_json` decides what the text means; a small scanner beside it knows where everything stands.
//!
//! The scanner only ever sees text that `serde_json` accepted, so it need not judge it. It must still not panic on anything else.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::Value;

use super::lines::{Cursor, place_of};
use super::merging::Merging;
use super::wanted::Wanted;
use super::{MAX_DEPTH, Repeats, too_deep};
use crate::{Place, Problem};

pub(super) fn parse(text: &str, repeats: Repeats) -> Result<Value, Problem> {
    match repeats {
        Repeats::Refuse => {
            let value = serde_json::from_str(text).map_err(|error| problem_of(text, &error))?;
            let mut scanner = Scanner::new(text);
            scanner.watch_repeats = true;
            scanner.value(None);
            scanner.problem.map_or(Ok(value), Err)
        }
        Repeats::Merge => {
            let Merging(value) = serde_json::from_str(text).map_err(|error| problem_of(text, &error))?;
            let mut scanner = Scanner::new(text);
            scanner.value(None);
            scanner.problem.map_or(Ok(value), Err)
        }
    }
}

pub(super) fn locate(text: &str, wanted: &mut Wanted) {
    Scanner::new(text).value(Some(wanted));
}

pub(super) fn problem_of(text: &str, error: &serde_json::Error) -> Problem {
    let full = error.to_string();
    // The position is said in front of the message, so it is cut off behind it.
    let message = full.rsplit_once(" at line ").map_or(full.as_str(), |(message, _)| message);
    if message.contains("recursion limit") {
        return too_deep().at(place_of_error(text, error));
    }
    Problem::new("", format!("invalid JSON: {message}")).at(place_of_error(text, error))
}

/// `serde_json` counts columns in bytes; a place counts characters.
fn place_of_error(text: &str, error: &serde_json::Error) -> Place {
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let before =
        (0..=error.column().saturating_sub(1).min(line.len())).rev().find_map(|end| line.get(..end)).unwrap_or_default();
    let column = u32::try_from(before.chars().count()).unwrap_or(u32::MAX).saturating_add(1);
    Place { line: u32::try_from(error.line()).unwrap_or(u32::MAX).max(1), column }
}

/// The keys of one object so far. Nearly all objects are small, and for them a list is faster than a table.
#[derive(Default)]
struct Keys<'t> {
    few: Vec<Cow<'t, str>>,
    many: HashSet<Cow<'t, str>>,
}

impl<'t> Keys<'t> {
    const FEW: usize = 16;

    fn has(&self, key: &str) -> bool {
        self.few.iter().any(|known| known == key) || self.many.contains(key)
    }

    fn add(&mut self, key: Cow<'t, str>) {
        if self.few.len() < Keys::FEW {
            self.few.push(key);
        } else {
            self.many.insert(key);
        }
    }
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    cursor: Cursor<'t>,
    watch_repeats: bool,
    /// The first problem found. Scanning ends with it.
    problem: Option<Problem>,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t str) -> Scanner<'t> {
        Scanner { text, at: 0, depth: 0, cursor: Cursor::new(text), watch_repeats: false, problem: None }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, mut wanted: Option<&mut Wanted>) {
        self.skip_space();
        if let Some(wanted) = wanted.as_deref_mut() {
            wanted.value = Some(self.cursor.place(self.at));
        }
        let wanted = wanted.filter(|wanted| !wanted.is_leaf());
        match self.peek() {
            Some(b'{' | b'[') if self.depth >= MAX_DEPTH => {
                self.problem = Some(too_deep().at(place_of(self.text, self.at)));
            }
            Some(b'{') => self.object(wanted),
            Some(b'[') => self.list(wanted),
            Some(b'"') => {
                self.string();
            }
            _ => {
                while self.peek().is_some_and(|byte| !matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r')) {
                    self.at += 1;
                }
            }
        }
    }

    fn list(&mut self, mut wanted: Option<&mut Wanted>) {
        self.at += 1;
        self.depth += 1;
        for index in 0_usize.. {
            self.skip_space();
            match self.peek() {
                Some(b']') => break,
                None => return,
                _ => {}
            }
            let child = wanted.as_deref_mut().and_then(|wanted| wanted.child(&index.to_string()));
            if !self.member(child) {
                return;
            }
        }
        self.at += 1;
        self.depth -= 1;
    }

    fn object(&mut self, mut wanted: Option<&mut Wanted>) {
        self.at += 1;
        self.depth += 1;
        let mut seen = Keys::default();
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'}') => break,
                Some(b'"') => {}
                _ => return,
            }
            let start = self.at;
            let key = self.string();
            let key_place = wanted.is_some().then(|| self.cursor.place(start));
            let mut child = wanted.as_deref_mut().and_then(|wanted| wanted.child(&key));
            if let Some(child) = child.as_deref_mut() {
                child.key = key_place;
            }
            if self.watch_repeats && seen.has(&key) {
                let message = format!("the key {} stands twice in the same object", Value::from(&*key));
                self.problem = Some(Problem::new("", message).at(place_of(self.text, start)));
                return;
            }
            if self.watch_repeats {
                seen.add(key);
            }
            self.skip_space();
            self.at += 1; // the colon
            if !self.member(child) {
                return;
            }
        }
        self.at += 1;
        self.depth -= 1;
    }

    /// One value and the comma behind it. False when there is no going on.
    fn member(&mut self, wanted: Option<&mut Wanted>) -> bool {
        let before = self.at;
        self.value(wanted);
        self.skip_space();
        if self.peek() == Some(b',') {
            self.at += 1;
        }
        self.problem.is_none() && self.at > before
    }

    /// A string literal, with its escapes resolved.
    fn string(&mut self) -> Cow<'t, str> {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        loop {
            match self.peek() {
                None => break,
                Some(b'"') => {
                    self.at += 1;
                    break;
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(_) => self.at += 1,
            }
        }
        self.at = self.at.min(self.text.len());
        let literal = self.text.get(start..self.at).unwrap_or_default();
        if escaped {
            Cow::Owned(serde_json::from_str(literal).unwrap_or_default())
        } else {
            Cow::Borrowed(literal.trim_matches('"'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Scanner, Wanted};
    use proptest::prelude::*;

    proptest! {
        /// The scanner is only given good text, but a panic would be worse than a wrong place.
        #[test]
        fn no_text_panics_the_scanner(text in "[\\[\\]{}\":, \\\\a1ä\n]{0,40}") {
            let mut wanted = Wanted::default();
            wanted.add(["a".to_owned(), "0".to_owned()].into_iter());
            Scanner::new(&text).value(Some(&mut wanted));
            let mut scanner = Scanner::new(&text);
            scanner.watch_repeats = true;
            scanner.value(None);
        }
    }
}
