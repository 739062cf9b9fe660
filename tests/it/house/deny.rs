//! Reads the few shapes of TOML that `deny.toml` uses, and decides licence expressions.
//!
//! A TOML library would bring more packages than the check it serves is worth: the file has tables, strings and lists of
//! strings or of one-line inline tables, and anything else is an error here.

use std::collections::BTreeMap;

/// `section.key` → the strings of its value, in order.
pub struct Rules {
    values: BTreeMap<String, Vec<String>>,
    texts: BTreeMap<String, String>,
}

impl Rules {
    /// Reads the text of the file. Panics with the line's number on a shape that it does not know: a rule that is not
    /// understood must not count as kept.
    pub fn parse(text: &str) -> Rules {
        let (mut values, mut texts) = (BTreeMap::new(), BTreeMap::new());
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
                let name = format!("{section}.{}", key.trim());
                values.insert(name.clone(), strings(&value));
                texts.insert(name, value);
            } else {
                assert!(line.is_empty(), "deny.toml:{}: not understood: {line}", number + 1);
            }
        }
        Rules { values, texts }
    }

    /// The strings of one rule. A rule that is missing is an error, not an empty list.
    pub fn list(&self, rule: &str) -> &[String] {
        self.values.get(rule).unwrap_or_else(|| panic!("deny.toml has no rule {rule}"))
    }

    /// The banned packages.
    pub fn bans(&self) -> Vec<Ban<'_>> {
        let tables = self.texts.get("bans.deny").expect("deny.toml has bans").split('{').skip(1);
        tables.map(Ban::of).collect()
    }
}

/// A banned package.
#[derive(Debug, PartialEq, Eq)]
pub struct Ban<'a> {
    /// Its name.
    pub name: &'a str,
    /// Why.
    pub reason: &'a str,
    /// Packages that may use it all the same.
    pub wrappers: Vec<&'a str>,
}

impl<'a> Ban<'a> {
    /// Reads one inline table. Each key has to be known: a rule that is not understood must not count as kept.
    fn of(table: &'a str) -> Self {
        let mut ban = Self { name: "", reason: "", wrappers: Vec::new() };
        let mut quoted = table.split('"');
        let mut key = "";
        while let Some(between) = quoted.next() {
            if let Some((before, _)) = between.split_once('=') {
                key = before.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            }
            let Some(value) = quoted.next() else { break };
            match key {
                "crate" => ban.name = value,
                "reason" => ban.reason = value,
                "wrappers" => ban.wrappers.push(value),
                other => panic!("deny.toml: a ban has the unknown key {other:?}"),
            }
        }
        assert!(!ban.name.is_empty() && !ban.reason.is_empty(), "each ban has a crate and a reason: {table}");
        ban
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
    assert_eq!(rules.bans(), [Ban { name: "c", reason: "r", wrappers: Vec::new() }]);
    let text = "[bans]\ndeny = [\n  { crate = \"c\", wrappers = [\"a\", \"b\"], reason = \"r\" },\n  { crate = \"d\", reason = \"s\" },\n]";
    let rules = Rules::parse(text);
    let first = Ban { name: "c", reason: "r", wrappers: vec!["a", "b"] };
    assert_eq!(rules.bans(), [first, Ban { name: "d", reason: "s", wrappers: Vec::new() }]);
}
