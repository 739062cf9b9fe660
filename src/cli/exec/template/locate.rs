//! Where in a template an error comes from: the library does not say.
//!
//! A part is to blame if the error changes or goes away once that part is `null`. What is evaluated last is tried first, and stays
//! `null` if the error stays, so that in the end only parts are left that come before the error or have it.

use std::time::{Duration, Instant};

use serde_json::Value;
use tc_payload::escape_pointer_segment;

/// No further part is tried after this time: a rough place is better than none.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The pointer of the smallest part that has the error. `render` says what is wrong with a template, if anything is.
pub fn locate(template: &Value, error: &str, mut render: impl FnMut(&Value) -> Option<String>) -> String {
    let mut copy = template.clone();
    let mut pointer = String::new();
    let began = Instant::now();
    'deeper: loop {
        for child in children(copy.pointer(&pointer)) {
            let child = format!("{pointer}/{child}");
            let Some(taken) = copy.pointer_mut(&child).map(Value::take) else { continue };
            if began.elapsed() > PATIENCE {
                return pointer;
            }
            if render(&copy).as_deref() != Some(error) {
                if let Some(place) = copy.pointer_mut(&child) {
                    *place = taken;
                }
                pointer = child;
                continue 'deeper;
            }
        }
        return pointer;
    }
}

/// The parts of a value as segments of a pointer, those that are evaluated last first. An operator comes before what it is for.
fn children(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => (0..items.len()).rev().map(|number| number.to_string()).collect(),
        Some(Value::Object(fields)) => {
            let mut keys: Vec<&str> = fields.keys().map(String::as_str).collect();
            keys.sort_unstable_by_key(|key| (key.starts_with('$'), std::cmp::Reverse(*key)));
            keys.into_iter().map(escape_pointer_segment).collect()
        }
        _ => Vec::new(),
    }
}
