//! What is left of a value when everything is taken out that its schema refuses, for further rules to look at.
//!
//! Nothing is made up here: what is wrong is gone, with all that is around it and cannot be without it. Only in a list, where others
//! keep their positions, `null` stands in its place.

use serde_json::{Map, Value};

use super::{Check, is_type, strings};

/// What is left of an object, even if it lacks something. Nothing is left of what is none.
pub(crate) fn mend(value: &Value, schema: &Value) -> Option<Map<String, Value>> {
    let check = Check { root: schema, problems: Vec::new(), uncounted: 0 };
    value.as_object().map(|object| members(object, schema, &check))
}

/// What is left of a value, if it is what its schema says then.
fn part(value: &Value, schema: &Value, check: &Check<'_>) -> Option<Value> {
    let schema = check.resolve(schema);
    if let Some(alternatives) = schema.get("oneOf").and_then(Value::as_array) {
        return part(value, check.chosen(value, alternatives)?, check);
    }
    if schema.get("type").and_then(Value::as_str).is_some_and(|wanted| !is_type(value, wanted)) {
        return None;
    }
    match value {
        Value::Object(object) => {
            let left = members(object, schema, check);
            strings(schema.get("required")).all(|name| left.contains_key(name)).then_some(Value::Object(left))
        }
        Value::Array(items) => {
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
            let item = |item: &Value| match schema.get("items") {
                Some(rule) => part(item, rule, check).unwrap_or_default(),
                None => item.clone(),
            };
            (items.len() as u64 >= least).then(|| items.iter().map(item).collect())
        }
        _ => super::check_part(value, schema, check.root).is_empty().then(|| value.clone()),
    }
}

fn members(object: &Map<String, Value>, schema: &Value, check: &Check<'_>) -> Map<String, Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let left = object.iter().filter_map(|(name, value)| {
        let rule = properties.and_then(|properties| properties.get(name)).or_else(|| schema.get("additionalProperties"));
        let left = match rule {
            Some(Value::Bool(false)) => None,
            Some(rule) => part(value, rule, check),
            None => Some(value.clone()),
        };
        Some((name.clone(), left?))
    });
    let mut left: Map<String, Value> = left.collect();
    for (name, needed) in schema.get("dependencies").and_then(Value::as_object).into_iter().flatten() {
        if !strings(Some(needed)).all(|needed| left.contains_key(needed)) {
            left.remove(name);
        }
    }
    left
}
