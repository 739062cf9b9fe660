//! The checker accepts exactly what an independent implementation of JSON Schema accepts by the same schema.

mod docker;
mod native;

use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Value, json};
use tc_payload::{Document, Problem, apply_places, date_time, is_uri};

/// One kind of payload: the second opinion, what the schema alone has against a payload, and everything that is wrong with it.
struct Kind {
    validator: Validator,
    against_schema: fn(&Value) -> Vec<Problem>,
    problems: fn(&Value) -> Vec<Problem>,
}

fn validator(schema: &Value) -> Validator {
    jsonschema::options()
        .should_validate_formats(true)
        .with_format("date-time", |text: &str| date_time(text).is_some())
        .with_format("uri", is_uri)
        .build(schema)
        .unwrap()
}

fn agree(kind: &Kind, payload: &Value) -> Result<(), TestCaseError> {
    let against_schema = (kind.against_schema)(payload);
    prop_assert_eq!(against_schema.is_empty(), kind.validator.is_valid(payload), "{} gives {:?}", payload, against_schema);
    let problems = (kind.problems)(payload);
    prop_assert!(problems.starts_with(&against_schema), "{:?} is not told of {:?}", against_schema, payload);
    for problem in &problems {
        prop_assert!(payload.pointer(&problem.pointer).is_some(), "{:?} points nowhere", problem);
        prop_assert!(!problem.message.is_empty());
    }
    places_hold(payload, problems)
}

/// Every problem of a payload that was read from a file has a place in it, and it is the right one.
fn places_hold(payload: &Value, mut problems: Vec<Problem>) -> Result<(), TestCaseError> {
    let text = format!("\n {}", serde_json::to_string_pretty(payload).unwrap());
    let Ok(document) = Document::parse("p.json", text.as_bytes()) else { return Ok(()) };
    apply_places(&mut problems, &document, "");
    for problem in &problems {
        let place = problem.place.unwrap();
        let line = document.line(place.line).unwrap();
        let rest: String = line.chars().skip(place.column as usize - 1).collect();
        let expected = if problem.at_key {
            let name = problem.pointer.rsplit('/').next().unwrap().replace("~1", "/").replace("~0", "~");
            Value::from(name).to_string()
        } else {
            let value = payload.pointer(&problem.pointer).unwrap();
            serde_json::to_string_pretty(value).unwrap().lines().next().unwrap().to_owned()
        };
        prop_assert!(rest.starts_with(&expected), "{:?} is at {:?}", problem, rest);
    }
    Ok(())
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3.0..3.0_f64).prop_map(|number| Value::from(number.round())),
        (-2..4_i64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(STRINGS.to_vec()).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..5).prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

const STRINGS: [&str; 32] = [
    "",
    "a",
    "gzip",
    "identity",
    "file",
    "directory",
    "localhost",
    "docker-bridge",
    "tar.gz",
    "zip",
    "gz",
    "2030-01-01T00:00:00Z",
    "2030-01-01",
    "https://example.com/x",
    "mailto:x",
    "no url",
    "KPxbSgUBQ_yfZ9OH2tTQuA",
    "KPxbSgUBQ_yfZ9OH2tTQuB",
    "aGVsbG8=",
    "a===",
    "\n",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n",
    "docker-image",
    "indexed-image",
    "task-image",
    "volume",
    "debian:12",
    "--privileged",
    "/a/b",
    "/a/../b",
];

fn name() -> impl Strategy<Value = String> {
    let known = [
        "command",
        "env",
        "maxRunTime",
        "artifacts",
        "features",
        "mounts",
        "osGroups",
        "onExitStatus",
        "logs",
        "retry",
        "purgeCaches",
        "live",
        "backing",
        "type",
        "path",
        "name",
        "expires",
        "contentEncoding",
        "optional",
        "cacheName",
        "directory",
        "file",
        "content",
        "format",
        "taskId",
        "artifact",
        "namespace",
        "url",
        "raw",
        "base64",
        "sha256",
        "liveLog",
        "taskclusterProxyInterface",
        "supersederUrl",
        "image",
        "cache",
        "capabilities",
        "devices",
        "privileged",
        "kvm",
        "log",
        "localLiveLog",
        "x:y=z",
        "a/b~c",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

/// All pointers into a value.
fn pointers(value: &Value) -> Vec<String> {
    let mut all = vec![String::new()];
    let children: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        Value::Object(object) => object.iter().map(|(name, value)| (tc_payload::escape_pointer_segment(name), value)).collect(),
        _ => Vec::new(),
    };
    for (segment, child) in children {
        all.extend(pointers(child).into_iter().map(|pointer| format!("/{segment}{pointer}")));
    }
    all
}

#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Add(String, Value),
    Remove(prop::sample::Index),
    Repeat(prop::sample::Index),
    Rename(prop::sample::Index, String),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any_json().prop_map(Change::Replace),
        (name(), any_json()).prop_map(|(name, value)| Change::Add(name, value)),
        any::<prop::sample::Index>().prop_map(Change::Remove),
        any::<prop::sample::Index>().prop_map(Change::Repeat),
        (any::<prop::sample::Index>(), name()).prop_map(|(index, name)| Change::Rename(index, name)),
    ]
}

fn apply(at: &mut Value, change: Change) {
    match (at, change) {
        (at, Change::Replace(value)) => *at = value,
        (Value::Object(object), Change::Add(name, value)) => {
            object.insert(name, value);
        }
        (Value::Array(items), Change::Add(_, value)) => items.push(value),
        (Value::Array(items), Change::Remove(index)) if !items.is_empty() => {
            items.remove(index.index(items.len()));
        }
        (Value::Array(items), Change::Repeat(index)) if !items.is_empty() => {
            items.push(items[index.index(items.len())].clone());
        }
        (Value::Object(object), Change::Remove(index)) if !object.is_empty() => {
            let name = object.keys().nth(index.index(object.len())).unwrap().clone();
            object.remove(&name);
        }
        (Value::Object(object), Change::Rename(index, name)) if !object.is_empty() => {
            let old = object.keys().nth(index.index(object.len())).unwrap().clone();
            let value = object.remove(&old).unwrap_or_default();
            object.insert(name, value);
        }
        _ => {}
    }
}

/// Every single removal, replacement and addition in a payload in which every property stands, so that no rule escapes by luck.
fn each_property_matters(kind: &Kind, full: &Value) {
    for pointer in pointers(full) {
        for value in [
            json!(null),
            json!(1),
            json!(-1),
            json!(0),
            json!(1.5),
            json!(2.0),
            json!("x"),
            json!(""),
            json!([]),
            json!({}),
            json!(true),
        ] {
            let mut payload = full.clone();
            *payload.pointer_mut(&pointer).unwrap() = value;
            agree(kind, &payload).unwrap();
        }
        let mut payload = full.clone();
        if let Value::Object(object) = payload.pointer_mut(&pointer).unwrap() {
            object.insert("unheardOf".to_owned(), json!("x"));
            agree(kind, &payload).unwrap();
        }
        let Some((parent, name)) = pointer.rsplit_once('/') else { continue };
        let mut payload = full.clone();
        match payload.pointer_mut(parent).unwrap() {
            Value::Object(object) => drop(object.remove(name)),
            Value::Array(items) => drop(items.remove(name.parse().unwrap())),
            _ => unreachable!(),
        }
        agree(kind, &payload).unwrap();
    }
}

/// Makes several changes to a payload.
fn change_all(mut payload: Value, changes: Vec<(prop::sample::Index, Change)>) -> Value {
    for (index, change) in changes {
        let all = pointers(&payload);
        let pointer = &all[index.index(all.len())];
        apply(payload.pointer_mut(pointer).unwrap(), change);
    }
    payload
}

#[test]
fn the_schema_of_all_payloads_takes_both_kinds() {
    let both: Value = serde_json::from_str(&tc_payload::schema_text()).unwrap();
    let both = validator(&both);
    let container = docker::full().remove(0);
    let native = native::full();
    let mixed = json!({"command": [["a"]], "maxRunTime": 1, "image": "a"});
    assert!(both.is_valid(&container) && both.is_valid(&native));
    assert!(!both.is_valid(&mixed) && !both.is_valid(&json!({"maxRunTime": 1})));
}
