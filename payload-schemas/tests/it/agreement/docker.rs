//! Payloads of container tasks.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tc_payload::docker;

use super::{Kind, agree, any_json, change, change_all, each_property_matters, name, validator};

static KIND: LazyLock<Kind> = LazyLock::new(|| Kind {
    validator: validator(docker::schema()),
    against_schema: docker::against_schema,
    problems: |payload| docker::check(payload).err().unwrap_or_default(),
});

/// Payloads in which every property of the schema stands, one for each form of image.
pub(super) fn full() -> Vec<Value> {
    let images = [
        json!("debian:12"),
        json!({"type": "docker-image", "name": "quay.io/a/b"}),
        json!({"type": "indexed-image", "namespace": "a.b", "path": "public/image.tar"}),
        json!({"type": "task-image", "taskId": "KPxbSgUBQ_yfZ9OH2tTQuA", "path": "public/image.tar"}),
    ];
    let payload = |image: Value| {
        json!({
            "image": image,
            "command": ["a", "b"],
            "env": {"A": "1", "B": ""},
            "maxRunTime": 10,
            "cache": {"c": "/c", "d": "/d"},
            "artifacts": {
                "public/a": {"type": "file", "path": "/a", "expires": "2030-01-01T00:00:00Z"},
                "public/b": {"type": "directory", "path": "b"},
                "public/v": {"type": "volume", "path": "/v"},
            },
            "capabilities": {"privileged": true, "disableSeccomp": true,
                "devices": {"loopbackVideo": true, "loopbackAudio": true, "hostSharedMemory": true, "kvm": true}},
            "onExitStatus": {"retry": [1, 2], "purgeCaches": [0, 1]},
            "log": "public/logs/live.log",
            "features": {"localLiveLog": true, "bulkLog": true, "artifacts": true, "taskclusterProxy": true, "interactive": true,
                "allowPtrace": true, "chainOfTrust": true},
            "supersederUrl": "x",
        })
    };
    images.map(payload).into()
}

#[test]
fn the_full_payloads_are_accepted() {
    for payload in full() {
        assert_eq!(docker::check(&payload).map(|_| ()), Ok(()));
        assert!(KIND.validator.is_valid(&payload));
    }
}

#[test]
fn each_property_of_the_full_payloads_matters() {
    for payload in full() {
        each_property_matters(&KIND, &payload);
    }
}

#[test]
fn what_the_schema_accepts_only_fails_by_rules_of_names_paths_and_sizes() {
    for (field, value) in [
        ("/image", json!("-x")),
        ("/env", json!({"A=": "x"})),
        ("/cache/c", json!("c")),
        ("/artifacts/public~1v/path", json!("/")),
        ("/command/0", json!("\u{0}")),
        ("/log", json!("")),
    ] {
        let mut payload = full()[0].clone();
        *payload.pointer_mut(field).unwrap() = value;
        agree(&KIND, &payload).unwrap();
        assert!(docker::against_schema(&payload).is_empty(), "{field}");
        assert_eq!(docker::check(&payload).unwrap_err().len(), 1, "{field}");
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
        payload.entry("image").or_insert(json!("x"));
        payload.entry("maxRunTime").or_insert(json!(1));
        agree(&KIND, &Value::Object(payload))?;
    }

    #[test]
    fn on_changed_payloads(which in 0..4_usize, changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 1..4)) {
        agree(&KIND, &change_all(full()[which].clone(), changes))?;
    }

    #[test]
    fn on_images(image in prop::collection::vec((name(), any_json()), 0..5)) {
        let image: Map<String, Value> = image.into_iter().collect();
        agree(&KIND, &json!({"image": image, "maxRunTime": 1}))?;
    }
}
