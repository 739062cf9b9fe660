//! From byte offsets to lines and columns.

use crate::Place;

/// Turns ascending byte offsets into places without counting any byte twice.
#[derive(Debug)]
pub struct Cursor<'t> {
    text: &'t str,
    offset: usize,
    line: u32,
    column: u32,
}

impl<'t> Cursor<'t> {
    /// Begins at the first character.
    pub fn new(text: &'t str) -> Cursor<'t> {
        Cursor { text, offset: 0, line: 1, column: 1 }
    }

    /// The place of an offset, which must not be before the one asked last and must be a character boundary.
    pub fn place(&mut self, offset: usize) -> Place {
        let passed = self.text.get(self.offset..offset).unwrap_or_default();
        let tail = match passed.rfind('\n') {
            Some(last) => {
                self.line = self.line.saturating_add(count(passed.bytes().filter(|byte| *byte == b'\n')));
                self.column = 1;
                &passed[last + 1..]
            }
            None => passed,
        };
        self.column = self.column.saturating_add(count(tail.chars()));
        self.offset += passed.len();
        Place { line: self.line, column: self.column }
    }
}

/// The place of one offset.
pub(super) fn place_of(text: &str, offset: usize) -> Place {
    Cursor::new(text).place(offset)
}

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::{Cursor, place_of};
    use crate::Place;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let text = "ab\nä€x\n\ny";
        assert_eq!(place_of(text, 0), Place { line: 1, column: 1 });
        assert_eq!(place_of(text, text.find('x').unwrap()), Place { line: 2, column: 3 });
        let mut cursor = Cursor::new(text);
        assert_eq!(cursor.place(1), Place { line: 1, column: 2 });
        assert_eq!(cursor.place(3), Place { line: 2, column: 1 });
        assert_eq!(cursor.place(text.len() - 1), Place { line: 4, column: 1 });
        assert_eq!(cursor.place(text.len()), Place { line: 4, column: 2 });
    }
}
