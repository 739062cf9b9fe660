//! Payloads of native tasks.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tc_payload::native;

use super::{Kind, STRINGS, agree, any_json, change, change_all, each_property_matters, name, pointers, validator};

static KIND: LazyLock<Kind> = LazyLock::new(|| {
    let problems = |payload: &Value| native::check(payload).err().unwrap_or_default();
    Kind { validator: validator(native::schema()), against_schema: problems, problems }
});

/// A payload in which every property of the schema stands.
pub(super) fn full() -> Value {
    let content = [
        json!({"taskId": "KPxbSgUBQ_yfZ9OH2tTQuA", "artifact": "public/x", "sha256": STRINGS[21]}),
        json!({"namespace": "a.b.c", "artifact": "public/x"}),
        json!({"url": "https://example.com/x", "sha256": STRINGS[21]}),
        json!({"raw": "text"}),
        json!({"base64": "aGVsbG8="}),
    ];
    let mut mounts = vec![json!({"cacheName": "c", "directory": "d"})];
    for content in content {
        mounts.push(json!({"cacheName": "c", "directory": "d", "content": content, "format": "tar.zst"}));
        mounts.push(json!({"directory": "d", "content": content, "format": "zip"}));
        mounts.push(json!({"file": "f", "content": content}));
        mounts.push(json!({"file": "f", "content": content, "format": "zst"}));
    }
    json!({
        "command": [["a", "b"], ["c"]],
        "env": {"A": "1", "B": ""},
        "maxRunTime": 10,
        "artifacts": [
            {"type": "file", "path": "x", "name": "n", "expires": "2030-01-01T00:00:00Z", "contentType": "t", "contentEncoding": "gzip",
             "optional": true},
            {"type": "directory", "path": "x"},
        ],
        "features": {"backingLog": true, "liveLog": true, "resourceMonitor": true, "taskclusterProxy": true, "interactive": true,
            "loopbackAudio": true, "loopbackVideo": true},
        "mounts": mounts,
        "osGroups": ["a", "b"],
        "supersederUrl": "x",
        "onExitStatus": {"retry": [1, 2], "purgeCaches": [0, 1]},
        "logs": {"live": "a", "backing": "b"},
        "taskclusterProxyInterface": "localhost",
    })
}

#[test]
fn the_full_payload_is_accepted() {
    assert_eq!(native::check(&full()).map(|_| ()), Ok(()));
    assert!(KIND.validator.is_valid(&full()));
}

#[test]
fn each_property_of_the_full_payload_matters() {
    each_property_matters(&KIND, &full());
}

#[test]
fn lengths_are_counted_in_characters() {
    for pointer in pointers(&full()).iter().filter(|pointer| pointer.contains("/content/")) {
        for length in [255, 256, 1024, 1025, 65_536, 65_537] {
            for letter in ["A", "ä"] {
                let mut payload = full();
                *payload.pointer_mut(pointer).unwrap() = Value::from(letter.repeat(length));
                agree(&KIND, &payload).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_any_json(payload in any_json()) {
        agree(&KIND, &payload)?;
    }

    #[test]
    fn on_any_object(entries in prop::collection::vec((name(), any_json()), 0..4)) {
        let mut payload: Map<String, Value> = entries.into_iter().collect();
        payload.entry("command").or_insert(json!([["x"]]));
        payload.entry("maxRunTime").or_insert(json!(1));
        agree(&KIND, &Value::Object(payload))?;
    }

    #[test]
    fn on_changed_payloads(changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 1..4)) {
        agree(&KIND, &change_all(full(), changes))?;
    }

    #[test]
    fn on_mounts(mount in prop::collection::vec((name(), any_json()), 0..5), contents in prop::collection::vec((name(), any_json()), 0..3)) {
        let mut mount: Map<String, Value> = mount.into_iter().collect();
        mount.insert("content".to_owned(), Value::Object(contents.into_iter().collect()));
        agree(&KIND, &json!({"command": [["x"]], "maxRunTime": 1, "mounts": [mount]}))?;
    }
}
