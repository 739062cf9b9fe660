//! Equality in the sense of JSON Schema: 1 and 1.0 are the same, and so are objects whose properties stand in another order.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write;

use serde_json::{Number, Value};

/// Each item that stood in the list before, as (its index, the index of the first).
pub(super) fn repeated(items: &[Value]) -> Vec<(usize, usize)> {
    if items.len() < 2 {
        return Vec::new();
    }
    let mut seen = HashMap::new();
    let mut repeated = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let mut key = String::new();
        write_key(item, &mut key);
        match seen.entry(key) {
            Entry::Occupied(first) => repeated.push((index, *first.get())),
            Entry::Vacant(place) => {
                place.insert(index);
            }
        }
    }
    repeated
}

/// Writes a text that two values share exactly if they are the same.
fn write_key(value: &Value, key: &mut String) {
    match value {
        Value::Array(items) => {
            key.push('[');
            for item in items {
                write_key(item, key);
                key.push(',');
            }
            key.push(']');
        }
        Value::Object(object) => {
            let mut names: Vec<&String> = object.keys().collect();
            names.sort_unstable();
            key.push('{');
            for name in names {
                // Writing to a string cannot fail.
                let _ = write!(key, "{}:", Value::from(name.as_str()));
                write_key(&object[name], key);
                key.push(',');
            }
            key.push('}');
        }
        Value::Number(number) => {
            let _ = write!(key, "{}", whole(number).map_or_else(|| number.to_string(), |whole| whole.to_string()));
        }
        plain => {
            let _ = write!(key, "{plain}");
        }
    }
}

fn whole(number: &Number) -> Option<i128> {
    if let Some(number) = number.as_i128() {
        return Some(number);
    }
    let number = number.as_f64()?;
    let bounded = number.fract() == 0.0 && number.abs() < 1e30;
    #[expect(clippy::cast_possible_truncation, reason = "a whole number below 1e30 fits")]
    bounded.then_some(number as i128)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::repeated;
    use serde_json::{Value, json};

    #[test]
    fn writing_does_not_make_values_different() {
        let list = |value: Value| value.as_array().unwrap().clone();
        assert_eq!(repeated(&list(json!([1, 2, 1.0, 1]))), [(2, 0), (3, 0)]);
        assert_eq!(repeated(&list(json!([{"a": 1, "b": [2]}, {"b": [2], "a": 1}]))), [(1, 0)]);
        assert_eq!(
            repeated(&list(json!([
                "1",
                1,
                true,
                "true",
                null,
                "null",
                [],
                {},
                [1],
                ["1"],
                0.5,
                -0.0,
                18_446_744_073_709_551_615_u64
            ]))),
            []
        );
        assert_eq!(repeated(&list(json!([0, -0.0]))), [(1, 0)]);
    }
}
