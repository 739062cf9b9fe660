//! `as_slugid`: the function of templates that gives each label an id of its own, the same one each time.
//!
//! The JSON-e library takes no functions from outside, so calls are replaced before it sees them: `as_slugid('build')` by the id
//! itself, and `as_slugid(x)` by an expression that puts the label between two marks, which become the id once all is rendered.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// What a call begins with.
const NAME: &str = "as_slugid";
/// Operators whose value is an expression.
const EXPRESSIONS: [&str; 2] = ["$eval", "$if"];
/// Operators whose value has expressions for keys.
const KEYED: [&str; 2] = ["$switch", "$match"];

/// The ids of one template.
pub struct Slugids<'a> {
    by_label: HashMap<String, String>,
    fresh: &'a dyn Fn() -> String,
    begin: String,
    end: String,
}

impl<'a> Slugids<'a> {
    /// No ids yet. `fresh` makes one.
    pub fn new(fresh: &'a dyn Fn() -> String) -> Self {
        // Nothing that stands in a template by chance looks like that.
        let nonce = fresh();
        Self { by_label: HashMap::new(), fresh, begin: format!("<{NAME} {nonce}:"), end: format!(":{nonce}>") }
    }

    fn id(&mut self, label: &str) -> String {
        let fresh = self.fresh;
        self.by_label.entry(label.to_owned()).or_insert_with(fresh).clone()
    }

    /// All labels so far, each with its id, in the order of the labels.
    pub fn ids(self) -> Vec<(String, String)> {
        let mut ids: Vec<_> = self.by_label.into_iter().collect();
        ids.sort_unstable();
        ids
    }

    /// The template with all calls replaced.
    pub fn prepare(&mut self, template: &Value) -> Value {
        match template {
            Value::String(text) => Value::String(self.interpolated(text)),
            Value::Array(items) => items.iter().map(|item| self.prepare(item)).collect(),
            Value::Object(fields) => {
                let finds = fields.contains_key("$find");
                let prepared = fields.iter().map(|(key, value)| {
                    let expression =
                        EXPRESSIONS.contains(&key.as_str()) || key.starts_with("by(") || (finds && key.starts_with("each("));
                    let value = match value {
                        Value::String(text) if expression => Value::String(self.expression(text)),
                        Value::Object(cases) if KEYED.contains(&key.as_str()) => {
                            let cases = cases.iter().map(|(key, value)| (self.expression(key), self.prepare(value)));
                            Value::Object(cases.collect())
                        }
                        value => self.prepare(value),
                    };
                    (self.interpolated(key), value)
                });
                Value::Object(prepared.collect())
            }
            other => other.clone(),
        }
    }

    /// What was rendered, with ids in place of marks.
    pub fn finish(&mut self, rendered: Value) -> Result<Value, String> {
        Ok(match rendered {
            Value::String(text) => Value::String(self.unmarked(text)?),
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.finish(item)).collect::<Result<_, _>>()?),
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(key, value)| Ok((self.unmarked(key)?, self.finish(value)?)));
                Value::Object(fields.collect::<Result<Map<_, _>, String>>()?)
            }
            other => other,
        })
    }

    /// Replaces calls in the `${…}` of a text.
    fn interpolated(&mut self, text: &str) -> String {
        if !text.contains(NAME) {
            return text.to_owned();
        }
        let mut done = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, after) = rest.split_at(at + 2);
            done.push_str(before);
            rest = after;
            if before.ends_with("$${") {
                continue;
            }
            let end = closing(rest, b'{', b'}').unwrap_or(rest.len());
            done.push_str(&self.expression(&rest[..end]));
            rest = &rest[end..];
        }
        done.push_str(rest);
        done
    }

    /// Replaces calls in an expression.
    fn expression(&mut self, text: &str) -> String {
        let mut done = String::new();
        let mut rest = text;
        while let Some(call) = call(rest) {
            done.push_str(&rest[..call.begin]);
            let inner = rest[call.inner.clone()].trim();
            // Ids have no characters that mean anything in a literal.
            let replaced = if let Some(label) = literal(inner) {
                format!("'{}'", self.id(label))
            } else {
                let inner = self.expression(inner);
                format!("('{}' + str({inner}) + '{}')", self.begin, self.end)
            };
            done.push_str(&replaced);
            rest = &rest[call.inner.end + 1..];
        }
        done.push_str(rest);
        done
    }

    fn unmarked(&mut self, mut text: String) -> Result<String, String> {
        // The last begin has no other one inside of it.
        while let Some(begin) = text.rfind(&self.begin) {
            let label = begin + self.begin.len();
            let Some(length) = text[label..].find(&self.end) else {
                return Err(format!("the value of {NAME} for a computed label was cut; only whole ids can be used"));
            };
            let id = self.id(&text[label..label + length]);
            text.replace_range(begin..label + length + self.end.len(), &id);
        }
        Ok(text)
    }
}

/// A call in an expression.
struct Call {
    begin: usize,
    /// What stands between its parentheses.
    inner: std::ops::Range<usize>,
}

/// The first whole call that does not stand in a string.
fn call(text: &str) -> Option<Call> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => at += 1 + bytes[at + 1..].iter().position(|byte| *byte == quote)?,
            byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                let length = bytes[at..].iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
                let end = length.map_or(bytes.len(), |length| at + length);
                let open = end + bytes[end..].iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
                let property = text[..at].trim_end().ends_with('.');
                if &text[at..end] == NAME && !property && bytes.get(open) == Some(&b'(') {
                    let inner = open + 1;
                    let length = closing(&text[inner..], b'(', b')')?;
                    return Some(Call { begin: at, inner: inner..inner + length });
                }
                at = end - 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the bracket is closed that was opened before the text.
fn closing(text: &str, open: u8, close: u8) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, byte) in text.bytes().enumerate() {
        if let Some(by) = quote {
            quote = Some(by).filter(|by| *by != byte);
        } else if byte == b'\'' || byte == b'"' {
            quote = Some(byte);
        } else if byte == close && depth == 0 {
            return Some(at);
        } else if byte == close {
            depth -= 1;
        } else if byte == open {
            depth += 1;
        }
    }
    None
}

/// What a string literal says, if the text is one.
fn literal(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains(quote)).then_some(inner)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde_json::json;

    use super::*;

    fn with<R>(test: impl FnOnce(&mut Slugids<'_>) -> R) -> R {
        let count = Cell::new(0);
        let fresh = || {
            count.set(count.get() + 1);
            format!("id{}", count.get() - 1)
        };
        test(&mut Slugids::new(&fresh))
    }

    #[test]
    fn labels_that_stand_there_become_ids_at_once() {
        with(|slugids| {
            let template = json!({
                "taskId": { "$eval": "as_slugid('a')" }, "dependencies": ["${as_slugid( \"a\" )}", "${as_slugid('b')} as_slugid('c')"],
                "$if": "as_slugid(\"b\") == x", "${as_slugid('a')}": "$${as_slugid('a')}",
            });
            assert_eq!(
                slugids.prepare(&template),
                json!({
                    "taskId": { "$eval": "'id1'" }, "dependencies": ["${'id1'}", "${'id2'} as_slugid('c')"],
                    "$if": "'id2' == x", "${'id1'}": "$${as_slugid('a')}",
                })
            );
        });
    }

    #[test]
    fn computed_labels_become_ids_in_the_end() {
        with(|slugids| {
            let prepared = slugids.prepare(&json!({ "$eval": "as_slugid(x + ')') + as_slugid(as_slugid(y))" }));
            assert_eq!(
                prepared["$eval"],
                "('<as_slugid id0:' + str(x + ')') + ':id0>') + ('<as_slugid id0:' + str(('<as_slugid id0:' + str(y) + ':id0>')) + ':id0>')"
            );
            let rendered = json!({ "<as_slugid id0:a:id0>": ["x<as_slugid id0:a:id0>y<as_slugid id0:b:id0>"] });
            assert_eq!(slugids.finish(rendered), Ok(json!({ "id1": ["xid1yid2"] })));
            assert!(slugids.finish(json!("<as_slugid id0:a")).is_err());
        });
    }

    #[test]
    fn what_is_no_call_stays() {
        with(|slugids| {
            for text in
                ["'as_slugid(1)'", "my_as_slugid('a')", "x.as_slugid('a')", "as_slugid", "as_slugid('a'", "as_slugid_2('a')"]
            {
                let template = json!({ "$eval": text });
                assert_eq!(slugids.prepare(&template), template);
            }
        });
    }
}
