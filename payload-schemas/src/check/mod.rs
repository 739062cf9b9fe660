//! Holds a value against a schema and says everything that is wrong with it at once.
//!
//! The schema is read as it stands in its file. Of JSON Schema (draft 7) exactly those keywords are understood that our own schemas
//! use; a test fails when a schema uses another one. Two things are better than in a general implementation:
//!
//! * `oneOf` does not answer "none of these fits". A value belongs to the first alternative whose *first required property* it has
//!   (or whose type it is, if it is no object), and is then held against that alternative alone. Our alternatives exclude one another,
//!   so the same values are accepted, and what is wrong is said about the field that is wrong. Alternatives that each have a required
//!   property with one possible value, such as `type`, are told apart by that.
//! * The sentences name the field, the value and the rule, and the likely intention.

pub mod format;
pub(crate) mod mend;
mod same;
pub(crate) mod words;

use serde_json::{Map, Value};

use crate::Problem;
use crate::problem::escape_pointer_segment;

/// How many problems are described before the rest is only counted. A hostile payload of 10 MB has millions.
const MAX_PROBLEMS: usize = 500;

/// Everything that is wrong with `value` by `schema`, in the order of the value.
pub(crate) fn check(value: &Value, schema: &Value) -> Vec<Problem> {
    check_part(value, schema, schema)
}

/// The same for a value that only has to be what one part of the schema `root` says.
pub(crate) fn check_part(value: &Value, part: &Value, root: &Value) -> Vec<Problem> {
    let mut check = Check { root, problems: Vec::new(), uncounted: 0 };
    check.value(value, part, &Path::ROOT);
    if check.uncounted > 0 {
        check.problems.push(Problem::new("", format!("and {} more problems", check.uncounted)));
    }
    check.problems
}

/// Where the check is in the value: a list that lives on the stack.
struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    segment: Segment<'p>,
}

enum Segment<'p> {
    Root,
    Name(&'p str),
    Index(usize),
}

impl Path<'_> {
    const ROOT: Path<'static> = Path { parent: None, segment: Segment::Root };

    fn name<'c>(&'c self, name: &'c str) -> Path<'c> {
        Path { parent: Some(self), segment: Segment::Name(name) }
    }

    fn index(&self, index: usize) -> Path<'_> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }

    fn pointer(&self) -> String {
        let mut pointer = self.parent.map(Path::pointer).unwrap_or_default();
        match self.segment {
            Segment::Root => {}
            Segment::Name(name) => {
                pointer.push('/');
                pointer.push_str(&escape_pointer_segment(name));
            }
            Segment::Index(index) => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
        }
        pointer
    }
}

struct Check<'s> {
    root: &'s Value,
    problems: Vec<Problem>,
    uncounted: usize,
}

impl<'s> Check<'s> {
    fn report(&mut self, problem: impl FnOnce() -> Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem());
        } else {
            self.uncounted += 1;
        }
    }

    /// Follows `$ref` into the definitions of the same file.
    fn resolve(&self, schema: &'s Value) -> &'s Value {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        target.and_then(|pointer| self.root.pointer(pointer)).unwrap_or(schema)
    }

    fn value(&mut self, value: &Value, schema: &'s Value, path: &Path<'_>) {
        let schema = self.resolve(schema);
        if let Some(alternatives) = schema.get("oneOf").and_then(Value::as_array) {
            return self.alternatives(value, alternatives, path);
        }
        if let Some(wanted) = schema.get("type").and_then(Value::as_str)
            && !is_type(value, wanted)
        {
            return self.report(|| words::wrong_type(path.pointer(), wanted, value));
        }
        if let Some(known) = schema.get("enum").and_then(Value::as_array)
            && !known.contains(value)
        {
            self.report(|| words::not_listed(path.pointer(), known, value));
        }
        match value {
            Value::Object(object) => self.object(object, schema, path),
            Value::Array(items) => self.list(items, schema, path),
            Value::String(text) => self.text(text, schema, path),
            Value::Number(number) => {
                let minimum = schema.get("minimum").and_then(Value::as_i64);
                if let Some(minimum) = minimum
                    && is_below(number, minimum)
                {
                    self.report(|| words::too_small(path.pointer(), minimum, value));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn alternatives(&mut self, value: &Value, alternatives: &'s [Value], path: &Path<'_>) {
        if let Value::Object(object) = value
            && let Some((name, tagged)) = self.tagged(alternatives)
        {
            let Some(found) = object.get(name) else { return self.report(|| words::missing(path.pointer(), name)) };
            if let Some((_, schema)) = tagged.iter().find(|(tag, _)| *tag == found) {
                return self.value(value, schema, path);
            }
            let known: Vec<Value> = tagged.iter().map(|(tag, _)| (*tag).clone()).collect();
            return self.report(|| words::not_listed(path.name(name).pointer(), &known, found));
        }
        match self.marked(value, alternatives) {
            Some(schema) => self.value(value, schema, path),
            None if value.is_object() => {
                let marks: Vec<&str> = alternatives.iter().filter_map(|alternative| mark(self.resolve(alternative))).collect();
                self.report(|| words::nothing_told(path.pointer(), &marks, value));
            }
            None => {
                let types: Vec<&str> =
                    alternatives.iter().filter_map(|alternative| self.resolve(alternative).get("type")?.as_str()).collect();
                self.report(|| words::wrong_type(path.pointer(), types.first().copied().unwrap_or("object"), value));
            }
        }
    }

    /// The alternative whose type a value has, and whose mark, if it has one.
    fn marked(&self, value: &Value, alternatives: &'s [Value]) -> Option<&'s Value> {
        alternatives.iter().map(|alternative| self.resolve(alternative)).find(|alternative| {
            let is_its_type = alternative.get("type").and_then(Value::as_str).is_some_and(|wanted| is_type(value, wanted));
            is_its_type && mark(alternative).is_none_or(|mark| value.get(mark).is_some())
        })
    }

    /// The alternative that a value is held against.
    fn chosen(&self, value: &Value, alternatives: &'s [Value]) -> Option<&'s Value> {
        match (value, self.tagged(alternatives)) {
            (Value::Object(object), Some((name, tagged))) => {
                let found = object.get(name)?;
                tagged.iter().find(|(tag, _)| *tag == found).map(|(_, schema)| *schema)
            }
            _ => self.marked(value, alternatives),
        }
    }

    /// The property by which all alternatives that are objects can be told apart, and the alternative for each of its values.
    fn tagged(&self, alternatives: &'s [Value]) -> Option<(&'s str, Vec<(&'s Value, &'s Value)>)> {
        let objects = alternatives.iter().map(|alternative| self.resolve(alternative));
        let tags: Option<Vec<_>> = objects
            .filter(|schema| schema.get("type").is_some_and(|kind| kind == "object"))
            .map(|schema| Some((tag(schema)?, schema)))
            .collect();
        let tags = tags?;
        let ((name, _), _) = tags.first()?;
        tags.iter()
            .all(|((other, _), _)| other == name)
            .then(|| (*name, tags.iter().map(|((_, value), schema)| (*value, *schema)).collect()))
    }

    fn object(&mut self, object: &Map<String, Value>, schema: &'s Value, path: &Path<'_>) {
        let properties = schema.get("properties").and_then(Value::as_object);
        for name in strings(schema.get("required")).filter(|name| !object.contains_key(*name)) {
            self.report(|| words::missing(path.pointer(), name));
        }
        if let Some(rules) = schema.get("dependencies").and_then(Value::as_object) {
            for (name, needed) in rules.iter().filter(|(name, _)| object.contains_key(*name)) {
                for needed in strings(Some(needed)).filter(|needed| !object.contains_key(*needed)) {
                    self.report(|| words::missing_beside(path.pointer(), name, needed));
                }
            }
        }
        for (name, value) in object {
            let path = path.name(name);
            let rule = properties.and_then(|properties| properties.get(name));
            match rule.or_else(|| schema.get("additionalProperties")) {
                Some(Value::Bool(false)) => {
                    let known = properties.into_iter().flat_map(Map::keys).map(String::as_str);
                    self.report(|| words::unknown(path.pointer(), name, known));
                }
                Some(rule) => self.value(value, rule, &path),
                None => {}
            }
        }
    }

    fn list(&mut self, items: &[Value], schema: &'s Value, path: &Path<'_>) {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        if (items.len() as u64) < least {
            self.report(|| words::too_few(path.pointer(), least));
        }
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            for (index, first) in same::repeated(items) {
                self.report(|| words::repeated(path.index(index).pointer(), first, &items[index]));
            }
        }
        if let Some(rule) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.value(item, rule, &path.index(index));
            }
        }
    }

    fn text(&mut self, text: &str, schema: &'s Value, path: &Path<'_>) {
        let longest = schema.get("maxLength").and_then(Value::as_u64);
        if let Some(longest) = longest
            && text.chars().count() as u64 > longest
        {
            return self.report(|| words::too_long(path.pointer(), longest, text));
        }
        for keyword in ["pattern", "format"] {
            if let Some(name) = schema.get(keyword).and_then(Value::as_str)
                && let Some(shape) = format::shape(name)
                && !(shape.holds)(text)
            {
                self.report(|| words::wrong_shape(path.pointer(), shape.sentence, text));
            }
        }
    }
}

/// The property that tells an alternative of `oneOf` from the ones behind it.
fn mark(alternative: &Value) -> Option<&str> {
    strings(alternative.get("required")).next()
}

/// A required property of an alternative that has one possible value, and that value.
fn tag(alternative: &Value) -> Option<(&str, &Value)> {
    strings(alternative.get("required")).find_map(|name| {
        let known = alternative.get("properties")?.get(name)?.get("enum")?.as_array()?;
        if let [only] = known.as_slice() { Some((name, only)) } else { None }
    })
}

fn strings(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn is_type(value: &Value, wanted: &str) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        // In JSON Schema 1.0 is an integer: the type is about the value, not about how it is written.
        "integer" => match value {
            Value::Number(number) => !number.is_f64() || number.as_f64().is_some_and(|number| number.fract() == 0.0),
            _ => false,
        },
        _ => false,
    }
}

fn is_below(number: &serde_json::Number, minimum: i64) -> bool {
    if let Some(number) = number.as_i64() {
        return number < minimum;
    }
    // An unsigned number that is no `i64` is above every minimum. A fraction is compared as one; our minimums are 0 and 1.
    #[expect(clippy::cast_precision_loss, reason = "the minimums in our schemas are 0 and 1")]
    let minimum = minimum as f64;
    !number.is_u64() && number.as_f64().is_some_and(|number| number < minimum)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use serde_json::Value;

    /// Keywords that the check reads, and those that say nothing about acceptance.
    const UNDERSTOOD: [&str; 14] = [
        "$ref",
        "type",
        "enum",
        "minimum",
        "oneOf",
        "properties",
        "required",
        "dependencies",
        "additionalProperties",
        "minItems",
        "uniqueItems",
        "items",
        "maxLength",
        "format",
    ];
    const SILENT: [&str; 6] = ["$schema", "$id", "title", "description", "default", "definitions"];

    fn visit(schema: &Value) {
        let Some(object) = schema.as_object() else { return };
        for (keyword, rule) in object {
            match keyword.as_str() {
                "properties" | "definitions" => rule.as_object().unwrap().values().for_each(visit),
                "items" | "additionalProperties" => visit(rule),
                "oneOf" => rule.as_array().unwrap().iter().for_each(visit),
                "pattern" | "format" => {
                    let name = rule.as_str().unwrap();
                    assert!(super::format::shape(name).is_some(), "the check does not know the {keyword} {name}");
                }
                "minimum" => assert!(rule.as_i64().is_some_and(|minimum| minimum.abs() < 1 << 50)),
                "type" => assert!(["object", "array", "string", "boolean", "integer"].contains(&rule.as_str().unwrap())),
                other => assert!(UNDERSTOOD.contains(&other) || SILENT.contains(&other), "the check does not know `{other}`"),
            }
        }
        if object.contains_key("$ref") {
            assert_eq!(object.len(), 1, "keywords beside $ref are ignored in draft 7");
        }
    }

    #[test]
    fn the_check_understands_every_keyword_of_our_schemas() {
        visit(crate::native::schema());
        visit(crate::docker::schema());
    }
}
