//! The members of one large JSON object, found without reading what is in them.
//!
//! A graph of tasks can be far larger than a document may be, while each of its tasks is small. Here it is cut into pieces that are
//! documents of their own. Nothing is copied but the keys, and nothing is recursive.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json::problem_of;
use super::lines::place_of;
use crate::Problem;

/// How many members an object may have. Each costs about a hundred bytes of memory beside the text.
pub const MAX_MEMBERS: usize = 1_000_000;

/// One member of an object, as a piece of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its key, with escapes resolved.
    pub key: Box<str>,
    /// Where the key's literal begins, in bytes from the beginning of the text.
    pub key_at: usize,
    /// Where its value begins.
    pub begin: usize,
    /// Where its value ends.
    pub end: usize,
}

/// The members of the object that is the whole text, in their order; nothing if the text is another value.
///
/// The text is JSON all through, or there is a problem with a place. A key that stands twice is one, too.
pub fn members(name: &str, text: &str) -> Result<Option<Vec<Member>>, Problem> {
    let of_file = |mut problem: Problem| {
        problem.file = Some(name.to_owned());
        problem
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = if text.trim_start().starts_with('{') {
        reader.deserialize_map(Cut { text }).map(Some)
    } else {
        // For its problems only.
        reader.deserialize_any(IgnoredAny).map(|_| None)
    };
    let members = read.and_then(|members| reader.end().map(|()| members)).map_err(|error| {
        let problem = problem_of(text, &error);
        // That there are too many is not a matter of syntax.
        let message = problem.message.strip_prefix("invalid JSON: has ").map(|rest| format!("has {rest}"));
        of_file(match message {
            Some(message) => Problem { message, ..problem },
            None => problem,
        })
    })?;
    let mut known = HashSet::new();
    let twice = members.iter().flatten().find(|member| !known.insert(&member.key));
    if let Some(member) = twice {
        let message = format!("the key {} stands twice in the same object", serde_json::Value::from(&*member.key));
        return Err(of_file(Problem::new("", message).at(place_of(text, member.key_at))));
    }
    Ok(members)
}

struct Cut<'t> {
    text: &'t str,
}

impl<'t> Visitor<'t> for Cut<'t> {
    type Value = Vec<Member>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut entries: A) -> Result<Vec<Member>, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, &'t RawValue>()? {
            if members.len() >= MAX_MEMBERS {
                return Err(A::Error::custom(format!("has more than {MAX_MEMBERS} members; at most so many are read")));
            }
            // The reader lends pieces of our text, so the distance of their beginnings is an offset.
            let begin = value.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
            let end = begin + value.get().len();
            members.push(Member { key: key.into_boxed_str(), key_at: key_before(self.text, begin), begin, end });
        }
        Ok(members)
    }
}

/// Where the key's literal begins whose value begins here.
fn key_before(text: &str, value: usize) -> usize {
    let bytes = text.as_bytes().get(..value).unwrap_or_default();
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let last = |bytes: &[u8]| bytes.iter().rposition(|byte| !space(byte));
    let Some(colon) = last(bytes) else { return value };
    let Some(closing) = last(&bytes[..colon]) else { return value };
    let mut at = closing;
    while at > 0 {
        at -= 1;
        let escapes = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        if bytes[at] == b'"' && escapes % 2 == 0 {
            return at;
        }
    }
    value
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::members;
    use crate::Place;

    #[test]
    fn members_are_pieces_of_the_text() {
        let text = "\n{ \"a\" : {\"x\": [1]} ,\n\"b\\\\\" :2, \"c\\\"ä\":\"}\" }\n";
        let found = members("f", text).unwrap().unwrap();
        let pieces: Vec<_> = found.iter().map(|m| (&*m.key, &text[m.begin..m.end], &text[m.key_at..=m.key_at])).collect();
        assert_eq!(pieces, [("a", "{\"x\": [1]}", "\""), ("b\\", "2", "\""), ("c\"ä", "\"}\"", "\"")]);
        assert_eq!(text[found[2].key_at..].chars().take(5).collect::<String>(), "\"c\\\"ä");
        assert_eq!(members("f", "[1]").unwrap(), None);
    }

    #[test]
    fn what_is_no_json_has_a_place() {
        let wrong = |text: &str| {
            let problem = members("f", text).unwrap_err();
            (problem.file.unwrap(), problem.place.unwrap(), problem.message)
        };
        let (file, place, message) = wrong("{\"a\": 1,\n \"ä\": tru}");
        assert_eq!((file.as_str(), place.line), ("f", 2));
        assert!(message.starts_with("invalid JSON: "), "{message}");
        let (_, place, message) = wrong("{\"a\": 1,\n \"a\": 2}");
        assert_eq!(place, Place { line: 2, column: 2 });
        assert!(message.contains("stands twice"), "{message}");
        assert!(wrong("{} x").2.contains("trailing"));
        assert!(members("f", "[1").is_err() && members("f", "").is_err());
    }

    #[test]
    fn there_is_a_bound_on_members() {
        let of = |count: usize| format!("{{{}}}", (0..count).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(","));
        assert_eq!(members("f", &of(super::MAX_MEMBERS)).unwrap().unwrap().len(), super::MAX_MEMBERS);
        let problem = members("f", &of(super::MAX_MEMBERS + 1)).unwrap_err();
        assert_eq!(problem.message, "has more than 1000000 members; at most so many are read");
    }

    #[test]
    fn depth_is_no_danger() {
        let text = format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(members("f", &text).unwrap().unwrap().len(), 1);
        assert!(members("f", &format!("{{\"a\": {}", "[".repeat(100_000))).is_err());
    }
}
