//! Texts with expressions in them: `${…}`, and `$${` for a `${` that is none.

/// From the first `${` on that has no end, if there is one. Quotes and braces within an expression are followed.
pub(super) fn unclosed(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        let at = rest.find("${")?;
        if rest[..at].ends_with('$') {
            rest = &rest[at + 2..];
            continue;
        }
        match end(&rest[at + 2..]) {
            Some(end) => rest = &rest[at + 2 + end..],
            None => return Some(&rest[at..]),
        }
    }
}

/// The byte behind the brace that ends an expression which begins here.
fn end(expression: &str) -> Option<usize> {
    let (mut open, mut quote) = (0_usize, None);
    for (at, c) in expression.char_indices() {
        match (quote, c) {
            (Some(mark), c) if c == mark => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '{') => open += 1,
            (None, '}') if open == 0 => return Some(at + 1),
            (None, '}') => open -= 1,
            (Some(_) | None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::unclosed;

    #[test]
    fn expressions_have_ends() {
        for fine in ["", "a $b {c}", "${a}", "x${ {a: '}'}[b] }y${c}", "$${ is text", "a $", "${\"}\"}"] {
            assert_eq!(unclosed(fine), None, "{fine}");
        }
        for (wrong, from) in [("a ${b", "${b"), ("${a} ${ {b} c", "${ {b} c"), ("${'}", "${'}"), ("$${a ${", "${")] {
            assert_eq!(unclosed(wrong), Some(from), "{wrong}");
        }
    }
}
