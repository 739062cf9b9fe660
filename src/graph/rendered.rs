//! Tasks that a template has made, and where in the template each part of them stands.
//!
//! A renderer says from which entry of a list a task comes, and no more. From there a way leads down through the operators of
//! JSON-e that only choose or wrap (`$if`, `$let`, `$merge` …) to what an author wrote, for as long as it is certain which branch
//! was taken: the way ends at the last value that the part must come from, so that no wrong line is ever named.

use serde_json::{Map, Value};
use tc_payload::escape_pointer_segment;

/// How many values are compared to find out which branch was taken. After that no branch is ruled out any more.
const MOST_COMPARED: usize = 20_000;

/// A task that a template has made.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// Its definition, with its id under `taskId`.
    pub value: Value,
    /// The part of the template that it comes from.
    pub pointer: String,
}

/// What a template has made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The tasks, in their order.
    pub tasks: Vec<Rendered>,
    /// The labels that `as_slugid` was asked for, each with the id that it gave.
    pub ids: Vec<(String, String)>,
}

impl Rendered {
    /// The smallest part of the template that the value at a pointer into the task comes from for certain.
    pub fn origin(&self, template: &Value, pointer: &str) -> String {
        let Some(at) = template.pointer(&self.pointer) else { return self.pointer.clone() };
        let segments: Vec<String> =
            pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~")).collect();
        let mut way = Way { budget: MOST_COMPARED };
        format!("{}{}", self.pointer, way.down(at, &self.value, &segments, true).pointer)
    }
}

/// How far a way leads.
#[derive(Default)]
struct Found {
    pointer: String,
    /// How many segments are behind it.
    passed: usize,
}

impl Found {
    /// The same, seen from one value further up.
    fn below(mut self, segment: &str) -> Self {
        self.pointer.insert_str(0, &format!("/{}", escape_pointer_segment(segment)));
        self
    }

    /// The same, seen from before a segment.
    fn further(mut self) -> Self {
        self.passed += 1;
        self
    }
}

/// Looks for a value in a template. Documents are at most 100 levels deep, and so is this.
struct Way {
    budget: usize,
}

impl Way {
    /// Goes on from `at`, which has given `made`. With `listed` it may have given a list of which `made` is one.
    fn down(&mut self, at: &Value, made: &Value, segments: &[String], listed: bool) -> Found {
        match at {
            Value::Object(fields) => match operator(fields) {
                Some("$merge" | "$mergeDeep") => self.merged(fields, made, segments),
                Some("$map") if !listed => self.mapped(fields, made, segments),
                Some(_) => {
                    let mut fitting = branches(fields, listed);
                    fitting.retain(|branch| self.fits(branch.value, made, branch.listed));
                    let Some(Branch { keys, value, listed }) = fitting.pop().filter(|_| fitting.is_empty()) else {
                        return Found::default();
                    };
                    let found = self.down(value, made, segments, listed);
                    keys.into_iter().rev().fold(found, Found::below)
                }
                None => {
                    let Some((key, rest)) = segments.split_first() else { return Found::default() };
                    let written = as_written(key);
                    match (fields.get(&written), made.get(key)) {
                        (Some(value), Some(made)) => self.down(value, made, rest, false).below(&written).further(),
                        _ => Found::default(),
                    }
                }
            },
            Value::Array(items) if listed => {
                let mut fitting: Vec<(usize, &Value)> = items.iter().enumerate().collect();
                fitting.retain(|(_, item)| self.fits(item, made, true));
                match fitting.as_slice() {
                    [(number, item)] => self.down(item, made, segments, true).below(&number.to_string()),
                    _ => Found::default(),
                }
            }
            Value::Array(items) => {
                // What gives nothing is left out, so that positions are only certain where nothing was.
                let same_length = made.as_array().is_some_and(|made| made.len() == items.len());
                let Some((position, rest)) = segments.split_first().filter(|_| same_length) else { return Found::default() };
                let number = position.parse::<usize>().unwrap_or(usize::MAX);
                match (items.get(number), made.get(number)) {
                    (Some(item), Some(made)) => self.down(item, made, rest, false).below(position).further(),
                    _ => Found::default(),
                }
            }
            _ => Found::default(),
        }
    }

    /// The last part that has the key has given its value; with `$mergeDeep`, those before it may have given parts of that.
    fn merged(&mut self, fields: &Map<String, Value>, made: &Value, segments: &[String]) -> Found {
        let mut best = Found::default();
        let Some(key) = segments.first().map(|key| as_written(key)) else { return best };
        for (name, parts) in fields {
            let parts = parts.as_array().map_or(&[][..], Vec::as_slice);
            for (number, part) in parts.iter().enumerate().rev() {
                if !self.may_give(part, &key) {
                    continue;
                }
                let found = self.down(part, made, segments, false);
                let certain = found.passed > 0;
                if found.passed > best.passed {
                    best = found.below(&number.to_string()).below(name);
                }
                if name == "$merge" || !certain {
                    return best;
                }
            }
        }
        best
    }

    /// All that a `$map` gives comes from one value.
    fn mapped(&mut self, fields: &Map<String, Value>, made: &Value, segments: &[String]) -> Found {
        let Some((position, rest)) = segments.split_first() else { return Found::default() };
        let each = fields.iter().find(|(key, _)| key.starts_with("each("));
        match (each, made.as_array().and_then(|made| made.get(position.parse::<usize>().ok()?))) {
            (Some((key, value)), Some(made)) => self.down(value, made, rest, false).below(key).further(),
            _ => Found::default(),
        }
    }

    /// Whether one more value may be compared.
    fn spend(&mut self) -> bool {
        let left = self.budget.checked_sub(1);
        self.budget = left.unwrap_or(0);
        left.is_some()
    }

    /// Whether a value may have given what was made: nothing that stands there as it is says the opposite.
    fn fits(&mut self, at: &Value, made: &Value, listed: bool) -> bool {
        if !self.spend() {
            return true;
        }
        match at {
            Value::String(text) => text.contains("${") || made.as_str() == Some(text),
            Value::Number(number) => made.as_f64() == number.as_f64(),
            Value::Null | Value::Bool(_) => at == made,
            Value::Array(items) if listed => items.iter().any(|item| self.fits(item, made, true)),
            Value::Array(_) => made.is_array(),
            Value::Object(fields) => match operator(fields) {
                Some("$map" | "$flatten" | "$flattenDeep" | "$match") if !listed => made.is_array() || made.is_object(),
                Some("$if" | "$let" | "$switch" | "$map" | "$flatten" | "$flattenDeep" | "$match") => {
                    branches(fields, listed).into_iter().any(|branch| self.fits(branch.value, made, branch.listed))
                }
                Some(_) => true,
                None => {
                    made.is_object()
                        && fields.iter().all(|(key, value)| made.get(key).is_none_or(|made| self.fits(value, made, false)))
                }
            },
        }
    }

    /// Whether what a part of a `$merge` gives may have this key.
    fn may_give(&mut self, part: &Value, key: &str) -> bool {
        let Value::Object(fields) = part else { return false };
        if !self.spend() {
            return true;
        }
        match operator(fields) {
            Some("$if" | "$let" | "$switch") => {
                branches(fields, false).into_iter().any(|branch| self.may_give(branch.value, key))
            }
            Some(name @ ("$merge" | "$mergeDeep")) => match fields.get(name).and_then(Value::as_array) {
                Some(parts) => parts.iter().any(|part| self.may_give(part, key)),
                None => true,
            },
            Some(_) => true,
            None => fields.contains_key(key) || fields.keys().any(|key| key.contains("${")),
        }
    }
}

/// A value that an operator may have chosen.
struct Branch<'t> {
    /// From the operator to it.
    keys: Vec<&'t str>,
    value: &'t Value,
    /// It may be a list of which the wanted value is one.
    listed: bool,
}

/// The values of which an operator gives one as it is.
fn branches(fields: &Map<String, Value>, listed: bool) -> Vec<Branch<'_>> {
    let of = |wanted: &dyn Fn(&str) -> bool| -> Vec<Branch<'_>> {
        let found = fields.iter().filter(|(key, _)| wanted(key));
        found.map(|(key, value)| Branch { keys: vec![key], value, listed }).collect()
    };
    match operator(fields) {
        Some("$if") => of(&|key| key == "then" || key == "else"),
        Some("$let") => of(&|key| key == "in"),
        Some("$map") if listed => of(&|key| key.starts_with("each(")),
        Some("$flatten" | "$flattenDeep") if listed => of(&|key| key.starts_with("$flatten")),
        // `$switch` gives one of its values, `$match` a list of all that hold.
        Some(name) if name == "$switch" || (name == "$match" && listed) => {
            let cases = fields.get(name).and_then(Value::as_object).into_iter().flatten();
            cases.map(|(case, value)| Branch { keys: vec![name, case], value, listed }).collect()
        }
        _ => Vec::new(),
    }
}

/// The operator of an object, if it has one.
fn operator(fields: &Map<String, Value>) -> Option<&str> {
    let is_one = |key: &str| key.strip_prefix('$').is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()));
    fields.keys().map(String::as_str).find(|key| is_one(key))
}

/// A key as it stands in a template: one that begins with a dollar sign has two of them there.
fn as_written(key: &str) -> String {
    if key.starts_with('$') { format!("${key}") } else { key.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Renders for real, and looks where a part of the first task comes from. `~` stands for the entry of the list.
    fn origin(entry: &Value, pointer: &str) -> String {
        let template = json!({ "tasks": [entry] });
        let context = json!({ "yes": true, "no": false, "x": "a", "common": { "payload": { "c": 1 } }, "two": [1, 2] });
        let whole = json_e::render(&template, &context).expect("rendered");
        let task = match &whole["tasks"][0] {
            Value::Array(tasks) => &tasks[0],
            task => task,
        };
        assert!(task.pointer(pointer).is_some(), "{task}");
        let rendered = Rendered { value: task.clone(), pointer: "/tasks/0".to_owned() };
        rendered.origin(&template, pointer).replacen("/tasks/0", "~", 1)
    }

    #[test]
    fn what_stands_there_is_found_through_operators() {
        let task = json!({ "payload": { "env": { "A": "${x}", "$$b": 1 }, "command": [["a"], ["b", "${x}"]] } });
        let expect =
            |entry: Value, pointer: &str, wanted: &str| assert_eq!(origin(&entry, pointer), wanted, "{pointer} {entry}");
        for (entry, way) in [
            (task.clone(), "~"),
            (json!({ "$let": { "y": 1 }, "in": task }), "~/in"),
            (json!({ "$if": "yes", "then": task }), "~/then"),
            (json!({ "$if": "no", "then": [], "else": [task] }), "~/else/0"),
            (json!({ "$if": "yes", "then": { "$map": { "$eval": "two" }, "each(i)": task } }), "~/then/each(i)"),
            (json!({ "$switch": { "x == 'a'": task, "x == 'b'": { "payload": 5 } } }), "~/$switch/x == 'a'"),
            (json!({ "$merge": [{ "$eval": "common" }, task, { "$if": "yes", "then": { "routes": [] } }] }), "~/$merge/1"),
        ] {
            for pointer in ["", "/payload/env/A", "/payload/command/1/1"] {
                // Of a whole task that was merged, there is no single part.
                let wanted = if pointer.is_empty() && way.contains("$merge") { "~" } else { way };
                expect(entry.clone(), pointer, &format!("{wanted}{pointer}"));
            }
            expect(entry, "/payload/env/$b", &format!("{way}/payload/env/$$b"));
        }
        let deep = json!({ "$mergeDeep": [{ "payload": { "a": { "b": 1 } } }, { "payload": { "a": { "c": 2 } } }] });
        expect(deep.clone(), "/payload/a/b", "~/$mergeDeep/0/payload/a/b");
        expect(deep, "/payload/a/c", "~/$mergeDeep/1/payload/a/c");
        let mapped = json!({ "routes": { "$map": { "$eval": "two" }, "each(i)": { "n": "${i}" } } });
        expect(mapped, "/routes/1/n", "~/routes/each(i)/n");
    }

    #[test]
    fn what_is_not_certain_is_not_said() {
        let either = json!({ "$if": "yes", "then": { "a": "${x}" }, "else": { "a": "${x}" } });
        assert_eq!(origin(&either, "/a"), "~", "both may have given it");
        let one = json!({ "$if": "yes", "then": { "a": "${x}", "n": 1 }, "else": { "a": "${x}", "n": 2 } });
        assert_eq!(origin(&one, "/a"), "~/then/a", "the number tells them apart");
        let over = json!({ "$merge": [{ "payload": { "c": 2 } }, { "$eval": "common" }] });
        assert_eq!(origin(&over, "/payload/c"), "~", "the second part has taken its place");
        let shifted = json!({ "l": [{ "$if": "no", "then": 1 }, { "n": "${x}" }] });
        assert_eq!(origin(&shifted, "/l/0/n"), "~/l", "the first entry gives nothing");
        let computed = json!({ "payload": { "$eval": "common.payload" } });
        assert_eq!(origin(&computed, "/payload/c"), "~/payload");
    }

    #[test]
    fn a_way_ends_however_large_the_template_is() {
        let mut entry = json!({ "a": vec![1; 1000] });
        for depth in 0..90 {
            entry = json!({ "$if": "yes", "then": entry, "else": { "a": format!("x{depth}") } });
        }
        let rendered = Rendered { value: json!({ "a": vec![1; 1000] }), pointer: "/tasks/0".to_owned() };
        let way = rendered.origin(&json!({ "tasks": [entry] }), "/a/5");
        assert!(way.starts_with("/tasks/0/then/then/"), "{way}");
    }
}
