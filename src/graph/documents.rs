//! Several YAML documents in one text, as `---` divides them.

/// The most documents of one text.
pub const MOST: usize = 1_000;

/// One document of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    /// How many lines of the text come before it.
    line: usize,
    text: &'a str,
}

impl Part<'_> {
    /// How many lines of the text come before it.
    pub fn lines_before(&self) -> u32 {
        u32::try_from(self.line).unwrap_or(u32::MAX)
    }

    /// The document alone, with everything in the columns that it has in the whole text.
    pub fn text(&self) -> String {
        match self.text.strip_prefix("---") {
            Some(rest) => format!("   {rest}"),
            None => self.text.to_owned(),
        }
    }
}

/// The documents of a text that say something. JSON is one document, whatever stands in it.
pub fn split(text: &str) -> Vec<Part<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with(['{', '[']) {
        return vec![Part { line: 0, text }];
    }
    let mut parts = Vec::new();
    let (mut begin, mut begin_line, mut at) = (0, 0, 0);
    for (line, content) in text.split_inclusive('\n').enumerate() {
        // Nothing else may stand at the begin of a line like that, not even in a text of several lines.
        let ends = content.strip_prefix("...").is_some_and(|rest| rest.trim().is_empty());
        let begins = content.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if begins || ends {
            parts.push(Part { line: begin_line, text: &text[begin..at] });
            let skipped = if ends { content.len() } else { 0 };
            (begin, begin_line) = (at + skipped, line + usize::from(ends));
        }
        at += content.len();
    }
    parts.push(Part { line: begin_line, text: &text[begin..] });
    parts.retain(|part| part.text.lines().any(says_something));
    parts
}

fn says_something(line: &str) -> bool {
    let line = line.strip_prefix("---").unwrap_or(line).trim();
    !line.is_empty() && !line.starts_with('#') && !line.starts_with('%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_lines() {
        let text = "%YAML 1.2\n---\na: |\n  x\n --- y\n--- # two\nb: 1\n...\n# nothing\n---\n--- {c: 1}";
        let parts = split(text);
        let texts: Vec<(u32, String)> = parts.iter().map(|part| (part.lines_before(), part.text())).collect();
        let expected = [(1, "   \na: |\n  x\n --- y\n"), (5, "    # two\nb: 1\n"), (10, "    {c: 1}")];
        assert_eq!(texts, expected.map(|(line, text)| (line, text.to_owned())));
        for one in ["a: 1\n", "---\na: 1\n", "[\n---\n]", "---- x"] {
            assert_eq!(split(one).len(), 1, "{one:?}");
        }
        assert_eq!(split("# only\n---\n"), []);
    }
}
