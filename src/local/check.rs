//! Checks of request bodies against the bounds of the API's schemas. All problems are found, not only the first.

use jiff::Timestamp;
use serde_json::{Map, Value};
use tc_payload::escape_pointer_segment;

/// A rule that a body breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// JSON pointer of the field, also of one that is not there.
    pub(crate) pointer: String,
    /// The rule alone, without the field's name: `must be a string`.
    pub(crate) rule: String,
    /// The field is not there, and that is what is wrong.
    pub(crate) missing: bool,
    text: String,
}

impl AsRef<str> for Broken {
    /// The field and the rule, as clients are told.
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// A JSON object whose fields are checked one by one.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    prefix: &'a str,
    problems: &'a mut Vec<Broken>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, or a problem if it is no object. `prefix` stands before the names in messages, with its dot.
    pub(crate) fn of(value: &'a Value, prefix: &'a str, problems: &'a mut Vec<Broken>) -> Option<Self> {
        let Some(object) = value.as_object() else {
            let what = if prefix.is_empty() { "the body" } else { prefix.trim_end_matches('.') };
            let rule = "must be an object".to_owned();
            problems.push(Broken { pointer: pointer(prefix), text: format!("{what} {rule}"), rule, missing: false });
            return None;
        };
        Some(Self { object, prefix, problems })
    }

    /// Notes a problem with a field.
    pub(crate) fn problem(&mut self, name: &str, rule: impl AsRef<str>) {
        self.note((name, None), rule.as_ref(), false);
    }

    /// Notes that a field is not there.
    pub(crate) fn missing(&mut self, name: &str, rule: impl AsRef<str>) {
        self.note((name, None), rule.as_ref(), true);
    }

    fn note(&mut self, (name, entry): (&str, Option<usize>), rule: &str, missing: bool) {
        let pointer = format!("{}/{}", pointer(self.prefix), escape_pointer_segment(name));
        let (pointer, shown) = match entry {
            Some(entry) => (format!("{pointer}/{entry}"), format!("{}{name}[{entry}]", self.prefix)),
            None => (pointer, format!("{}{name}", self.prefix)),
        };
        self.problems.push(Broken { pointer, text: format!("{shown} {rule}"), rule: rule.to_owned(), missing });
    }

    /// Fields that nobody knows are problems.
    pub(crate) fn only(&mut self, known: &[&str]) {
        let unknown: Vec<_> = self.object.keys().filter(|name| !known.contains(&name.as_str())).collect();
        for name in unknown {
            self.problem(name, "is not a field here");
        }
    }

    /// The field, if it is there.
    pub(crate) fn optional(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name)
    }

    /// The field; missing is a problem.
    pub(crate) fn required(&mut self, name: &str) -> Option<&'a Value> {
        let value = self.object.get(name);
        if value.is_none() {
            self.missing(name, "is required");
        }
        value
    }

    /// A text that is there.
    pub(crate) fn text(&mut self, name: &str, rule: &Text) -> Option<&'a str> {
        let value = self.required(name)?;
        self.check_text((name, None), value, rule)
    }

    /// A text that may be missing.
    pub(crate) fn optional_text(&mut self, name: &str, rule: &Text) -> Option<&'a str> {
        let value = self.optional(name)?;
        self.check_text((name, None), value, rule)
    }

    fn check_text(&mut self, name: (&str, Option<usize>), value: &'a Value, rule: &Text) -> Option<&'a str> {
        let Some(text) = value.as_str() else {
            self.note(name, "must be a string", false);
            return None;
        };
        if let Some(problem) = rule.problem(text) {
            self.note(name, &problem, false);
            return None;
        }
        Some(text)
    }

    /// A date that is there.
    pub(crate) fn date(&mut self, name: &str) -> Option<Timestamp> {
        self.required(name)?;
        self.optional_date(name)
    }

    /// A date that may be missing; it is cut to milliseconds.
    pub(crate) fn optional_date(&mut self, name: &str) -> Option<Timestamp> {
        let value = self.optional(name)?;
        let date = value.as_str().filter(|text| !text.contains('[')).and_then(|text| text.parse::<Timestamp>().ok());
        if date.is_none() {
            self.problem(name, "must be a date and time like 2030-01-31T12:00:00.000Z");
        }
        date.and_then(|date| Timestamp::from_millisecond(date.as_millisecond()).ok())
    }

    /// A whole number within bounds, which may be missing.
    pub(crate) fn optional_integer(&mut self, name: &str, bounds: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.optional(name)?;
        // JSON has one kind of number: 1.0 is a whole one.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be whole and in the range of u64"
        )]
        let whole =
            value.as_u64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..1e15).contains(f)).map(|f| f as u64));
        let fits = whole.filter(|number| bounds.contains(number));
        if fits.is_none() {
            self.problem(name, format!("must be a whole number from {} to {}", bounds.start(), bounds.end()));
        }
        fits
    }

    /// A list of texts, which may be missing.
    pub(crate) fn texts(&mut self, name: &str, rule: &Text, most: usize, unique: bool) -> Vec<String> {
        let Some(value) = self.optional(name) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            self.problem(name, "must be a list");
            return Vec::new();
        };
        if list.len() > most {
            self.problem(name, format!("has {} entries; {most} are allowed", list.len()));
            return Vec::new();
        }
        let mut texts = Vec::with_capacity(list.len());
        let mut seen = std::collections::HashSet::new();
        for (at, entry) in list.iter().enumerate() {
            if let Some(text) = self.check_text((name, Some(at)), entry, rule) {
                if unique && !seen.insert(text) {
                    self.note((name, Some(at)), "is there twice", false);
                }
                texts.push(text.to_owned());
            }
        }
        texts
    }

    /// Checks an object within this one.
    pub(crate) fn inner(&mut self, name: &str, check: impl FnOnce(&mut Fields<'_>)) {
        if let Some(value) = self.optional(name) {
            let prefix = format!("{}{name}.", self.prefix);
            if let Some(mut fields) = Fields::of(value, &prefix, self.problems) {
                check(&mut fields);
            }
        }
    }

    /// All names and values.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.object.iter()
    }
}

/// Where the fields with this prefix are. Prefixes are made of the protocol's own names, which need no escapes.
fn pointer(prefix: &str) -> String {
    let path = prefix.trim_end_matches('.').replace('.', "/");
    if path.is_empty() { path } else { format!("/{path}") }
}

/// What a text has to look like.
pub(crate) struct Text {
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) is: fn(&str) -> bool,
    /// Completes "must be …".
    pub(crate) shape: &'static str,
}

impl Text {
    /// Any text up to a length in characters.
    pub(crate) const fn up_to(max: usize) -> Self {
        Self { min: 0, max, is: |_| true, shape: "" }
    }

    pub(crate) fn problem(&self, text: &str) -> Option<String> {
        let length = text.chars().count();
        if length < self.min || length > self.max {
            return Some(format!("must have {} to {} characters, not {length}", self.min, self.max));
        }
        (!(self.is)(text)).then(|| format!("must be {}", self.shape))
    }
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn is_worker_type(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= 38 && text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.ends_with('-') && text.bytes().all(inner)
}

/// A `<provisionerId>/<workerType>`.
pub(crate) fn is_task_queue_id(text: &str) -> bool {
    text.split_once('/').is_some_and(|(provisioner, worker_type)| {
        (1..=38).contains(&provisioner.len()) && is_word(provisioner) && is_worker_type(worker_type)
    })
}

/// Scheduler ids, worker groups, worker ids, provisioner ids.
pub(crate) const WORD: Text = Text { min: 1, max: 38, is: is_word, shape: "made of letters, digits, `-` and `_`" };
/// `workerType`
pub(crate) const WORKER_TYPE: Text = Text {
    min: 1,
    max: 38,
    is: is_worker_type,
    shape: "made of lower-case letters, digits and `-`, with a letter first and no `-` last",
};
/// `taskQueueId`
pub(crate) const TASK_QUEUE_ID: Text = Text { min: 3, max: 77, is: is_task_queue_id, shape: "<provisionerId>/<workerType>" };
/// `projectId`
pub(crate) const PROJECT_ID: Text = Text {
    min: 1,
    max: 500,
    is: |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b)),
    shape: "made of letters, digits, `.`, `_`, `/` and `-`",
};
/// Names of artifacts.
pub(crate) const ARTIFACT_NAME: Text =
    Text { min: 1, max: 1024, is: |text| !text.chars().any(char::is_control), shape: "free of control characters" };
/// Task ids.
pub(crate) const TASK_ID: Text =
    Text { min: 0, max: usize::MAX, is: |text| super::state::TaskId::parse(text).is_some(), shape: "a slugid (22 characters)" };
/// Scopes.
pub(crate) const SCOPE: Text = Text {
    min: 0,
    max: usize::MAX,
    is: |text| super::auth::is_scope(text) && !text.ends_with("**"),
    shape: "printable ASCII and not end with two stars",
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_checked_as_the_schemas_say() {
        for (id, fine) in [
            ("a/b", true),
            ("proj-x/b-linux-1", true),
            ("A_b/c", true),
            ("a/B", false),
            ("a/1b", false),
            ("a/b-", false),
            ("a", false),
            ("a/b/c", false),
            ("/b", false),
            ("a.b/c", false),
            ("a23456789012345678901234567890123456789/b", false),
        ] {
            assert_eq!(is_task_queue_id(id), fine, "{id}");
        }
    }

    #[test]
    fn all_problems_are_found() {
        let body = json!({ "a": 1, "number": 50, "list": ["x", "x", 3], "date": "tomorrow", "odd": null });
        let mut problems = Vec::new();
        let mut fields = Fields::of(&body, "", &mut problems).expect("an object");
        fields.only(&["a", "number", "list", "date", "missing"]);
        fields.text("a", &WORD);
        fields.text("missing", &WORD);
        fields.optional_integer("number", 0..=49);
        fields.texts("list", &WORD, 10, true);
        fields.optional_date("date");
        let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/odd", "/a", "/missing", "/number", "/list/1", "/list/2", "/date"]);
        let missing: Vec<bool> = problems.iter().map(|problem| problem.missing).collect();
        assert_eq!(missing, [false, false, true, false, false, false, false]);
        let said: Vec<&str> = problems.iter().map(AsRef::as_ref).collect();
        assert_eq!(
            said,
            [
                "odd is not a field here",
                "a must be a string",
                "missing is required",
                "number must be a whole number from 0 to 49",
                "list[1] is there twice",
                "list[2] must be a string",
                "date must be a date and time like 2030-01-31T12:00:00.000Z",
            ]
        );
    }
}
