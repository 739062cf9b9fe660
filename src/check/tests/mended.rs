//! Payloads that their schema refuses: what else is wrong with them is told, and nothing that is not.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tc_payload::escape_pointer_segment;

use super::*;

/// Rules that come with the schema of containers.
const BESIDE_THE_SCHEMA: [&str; 5] = ["payload/schema", "image/name", "cache/mount-point", "artifact/path", "payload/limit"];

fn task(payload: &Value) -> Value {
    json!({ "provisionerId": "p", "workerType": "w", "created": "2026-01-01T00:00:00Z", "deadline": "2026-01-02T00:00:00Z",
        "scopes": ["docker-worker:cache:c"], "dependencies": [],
        "metadata": { "name": "n", "description": "", "owner": "o", "source": "https://s/" }, "payload": payload })
}

fn messages(payload: &Value) -> BTreeSet<(&'static str, String)> {
    let report = one(task(payload).to_string());
    let said = report.diagnostics.iter();
    said.map(|said| (said.rule.id, format!("{}: {}", said.problem.field, said.problem.message))).collect()
}

fn native() -> Value {
    json!({
        "command": [["a", "b"], [""]], "maxRunTime": 60, "env": { "A": "b", "C=": "d" }, "osGroups": ["kvm", "video"],
        "features": { "liveLog": true, "interactive": true, "taskclusterProxy": true },
        "logs": { "live": "public/live.log", "backing": "public/backing.log" },
        "onExitStatus": { "retry": [1, 2], "purgeCaches": [3] },
        "artifacts": [
            { "type": "file", "path": "public/a" },
            { "type": "directory", "path": "x", "name": "public/a", "expires": "2025-01-01T00:00:00Z" },
            { "type": "file", "path": "y", "name": "public/b\u{7}", "contentEncoding": "gzip" },
            { "type": "file", "path": "../z", "name": "public/live.log", "contentType": "text/plain" },
        ],
        "mounts": [
            { "cacheName": "c", "directory": "d" },
            { "cacheName": "c", "directory": "e" },
            { "file": "f", "content": { "taskId": "JFz48f_-RcOf7dDbbHVVlA", "artifact": "public/x" } },
            { "directory": "d", "format": "zip", "content": { "url": "https://example.com/x.zip" } },
        ],
    })
}

fn container() -> Value {
    json!({
        "image": { "type": "task-image", "taskId": "JFz48f_-RcOf7dDbbHVVlA", "path": "public/x" },
        "command": ["", "b"], "maxRunTime": 60, "env": { "A": "b" }, "log": "public/live.log",
        "features": { "taskclusterProxy": true, "interactive": true, "allowPtrace": true },
        "capabilities": { "privileged": true, "devices": { "kvm": true } },
        "cache": { "c": "/c", "d": "/c/d", "e*": "/proc/x" },
        "onExitStatus": { "retry": [1] },
        "artifacts": {
            "public/a": { "type": "file", "path": "/a", "expires": "2025-01-01T00:00:00Z" },
            "../b": { "type": "directory", "path": "/b" },
            "public/v": { "type": "volume", "path": "/dev/x" },
            "public/live.log": { "type": "file", "path": "/l" },
        },
    })
}

#[test]
fn one_mistake_does_not_hide_the_others() {
    for payload in [native(), container()] {
        let all = messages(&payload);
        let rules: BTreeSet<&str> = all.iter().map(|(rule, _)| *rule).collect();
        assert!(rules.len() > 5 && !rules.contains("payload/schema"), "{rules:?}");
        let damage: [fn(&mut Value); 5] = [
            |payload| payload["maxRunTime"] = json!(0),
            |payload| drop(payload.as_object_mut().and_then(|payload| payload.remove("maxRunTime"))),
            |payload| payload["maxRuntime"] = json!(60),
            |payload| payload["onExitStatus"]["retry"] = json!(["x"]),
            |payload| payload["supersederUrl"] = json!(5),
        ];
        for damage in damage {
            let mut payload = payload.clone();
            damage(&mut payload);
            let said = messages(&payload);
            assert!(said.is_superset(&all), "{:?}", all.difference(&said).collect::<Vec<_>>());
            let more: BTreeSet<&str> = said.difference(&all).map(|(rule, _)| *rule).collect();
            assert_eq!(more, BTreeSet::from(["payload/schema"]));
        }
    }
}

/// Calls `each` with the pointer of every value below this one.
fn walk(value: &Value, pointer: &str, each: &mut dyn FnMut(&str)) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let at = format!("{pointer}/{index}");
                each(&at);
                walk(item, &at, each);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let at = format!("{pointer}/{}", escape_pointer_segment(name));
                each(&at);
                walk(member, &at, each);
            }
        }
        _ => {}
    }
}

#[test]
fn nothing_is_said_of_what_follows_from_a_mistake() {
    for payload in [native(), container()] {
        let all = messages(&payload);
        let mut tried = 0;
        walk(&payload, "", &mut |pointer| {
            for wrong in [json!(null), json!(5.5)] {
                let mut broken = payload.clone();
                *broken.pointer_mut(pointer).expect("it is there") = wrong;
                let said = messages(&broken);
                tried += 1;
                if broken.get("image").is_some() != payload.get("image").is_some() {
                    continue;
                }
                assert!(said.iter().any(|(rule, _)| *rule == "payload/schema"), "{pointer}");
                let more: Vec<_> = said.difference(&all).filter(|(rule, _)| !BESIDE_THE_SCHEMA.contains(rule)).collect();
                assert!(more.is_empty(), "{pointer}: {more:?}");
            }
        });
        assert!(tried > 50, "{tried}");
    }
}

#[test]
fn what_is_no_payload_at_all_has_no_other_problem() {
    let rules = |payload: &Value| messages(payload).into_iter().map(|(rule, _)| rule).collect::<BTreeSet<_>>();
    for payload in [json!(null), json!(5), json!([]), json!("x")] {
        assert_eq!(rules(&payload), BTreeSet::from(["payload/schema", "task/schema"]), "{payload}");
    }
    assert_eq!(rules(&json!({ "artifact1": 1 })), BTreeSet::from(["payload/schema"]));
    assert_eq!(rules(&json!({ "image": 5 })), BTreeSet::from(["payload/schema"]));
}

#[test]
fn references_in_the_dependencies_of_a_definition_are_names_of_the_graph() {
    let graph = |dependencies: Value| {
        let node = |task: Value, edges: Value| json!({ "task": task, "dependencies": edges });
        let mut build = task(&json!({ "command": [["a"]], "maxRunTime": 60 }));
        let test = build.clone();
        build["dependencies"] = dependencies;
        json!({ "b": node(build, json!({ "t": "test" })), "test": node(test, json!({})) })
    };
    for (dependencies, rules) in [
        (json!([{ "task-reference": "<t>" }, { "task-reference": "<decision>" }]), vec![]),
        (json!([{ "task-reference": "<nobody>" }]), vec!["dependency/reference"]),
        (json!([{ "task-reference": "<self>" }]), vec!["dependency/self"]),
    ] {
        let report = one(graph(dependencies.clone()).to_string());
        assert_eq!(ids(&report), rules, "{dependencies}: {:?}", report.diagnostics);
    }
}
