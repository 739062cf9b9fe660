//! Reads the few shapes of TOML that `deny.toml` uses, and decides licence expressions.
//!
//! A TOML library would bring more packages than the check it serves is worth: the file has tables, strings and lists of
//! strings or of one-line inline tables, and anything else is an error here.

use std::collections::BTreeMap;

/// `section.key` → the strings of its value, in order.
pub struct Rules {
    values: BTreeMap<String, Vec<String>>,
}

impl Rules {
    /// Reads the text of the file. Panics with the line's number on a shape that it does not know: a rule that is not
    /// understood must not count as kept.
    pub fn parse(text: &str) -> Rules {
        let mut values = BTreeMap::new();
        let mut section = String::new();
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let line = without_comment(line);
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once('=') {
                let mut value = value.trim().to_owned();
                while value.starts_with('[') && !value.ends_with(']') {
                    let (_, more) = lines.next().unwrap_or_else(|| panic!("deny.toml:{}: the list has no end", number + 1));
                    value.push_str(without_comment(more));
                }
                values.insert(format!("{section}.{}", key.trim()), strings(&value));
            } else {
                assert!(line.is_empty(), "deny.toml:{}: not understood: {line}", number + 1);
            }
        }
        Rules { values }
    }

    /// The strings of one rule. A rule that is missing is an error, not an empty list.
    pub fn list(&self, rule: &str) -> &[String] {
        self.values.get(rule).unwrap_or_else(|| panic!("deny.toml has no rule {rule}"))
    }

    /// The banned packages with the reason of each.
    pub fn bans(&self) -> Vec<(&str, &str)> {
        let strings = self.list("bans.deny");
        assert!(strings.len().is_multiple_of(2), "each ban has a crate and a reason");
        strings.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect()
    }
}

/// The line without its comment. No string of the file contains `#`.
fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

/// Everything between double quotes.
fn strings(value: &str) -> Vec<String> {
    value.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX licence expression can be satisfied with the allowed licences. The older spelling `MIT/Apache-2.0` means
/// `OR`. An exception (`WITH …`) only ever grants more, so it does not matter.
pub fn satisfied(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { tokens: &tokens, at: 0, allowed };
    let verdict = reader.any();
    assert_eq!(reader.at, tokens.len(), "licence expression not understood: {expression}");
    verdict
}

struct Reader<'a> {
    tokens: &'a [&'a str],
    at: usize,
    allowed: &'a [String],
}

impl Reader<'_> {
    fn take(&mut self, word: &str) -> bool {
        let there = self.tokens.get(self.at) == Some(&word);
        self.at += usize::from(there);
        there
    }

    fn any(&mut self) -> bool {
        let mut verdict = self.all();
        while self.take("OR") {
            // Both sides are read whatever the first said.
            verdict |= self.all();
        }
        verdict
    }

    fn all(&mut self) -> bool {
        let mut verdict = self.one();
        while self.take("AND") {
            verdict &= self.one();
        }
        verdict
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let verdict = self.any();
            assert!(self.take(")"), "licence expression without a closing parenthesis");
            return verdict;
        }
        let Some(name) = self.tokens.get(self.at) else { return false };
        self.at += 1;
        if self.take("WITH") {
            self.at += 1;
        }
        self.allowed.iter().any(|allowed| allowed == *name)
    }
}

#[test]
fn licence_expressions_follow_their_operators() {
    let allowed = ["MIT".to_owned(), "Apache-2.0".to_owned(), "ISC".to_owned()];
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 OR MIT AND ISC", true),
        ("(GPL-3.0 OR MIT) AND GPL-3.0", false),
        ("ISC AND (GPL-3.0 OR Apache-2.0)", true),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
        ("", false),
    ] {
        assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
    }
}

#[test]
fn rules_are_read_over_lines_and_comments() {
    let rules = Rules::parse(
        r#"
            # A comment of its own.
            [a]
            x = "one" # and one behind a value
            y = [
                "two", # and one in a list
                "three",
            ]
            [bans]
            deny = [
                { crate = "c", reason = "r" },
            ]
        "#,
    );
    assert_eq!(rules.list("a.x"), ["one"]);
    assert_eq!(rules.list("a.y"), ["two", "three"]);
    assert_eq!(rules.bans(), [("c", "r")]);
}
