//! Tests of container payloads: what becomes of them, and what is refused beyond the schema.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use serde_json::{Value, json};

use super::{Capabilities, ImageForm, Payload, check, written::backing};
use crate::native::{FileOrDirectory, Logs};

fn payload(more: &Value) -> Value {
    let mut payload = json!({"image": "debian:12", "maxRunTime": 60});
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    payload
}

fn checked(more: &Value) -> Payload {
    check(&payload(more)).unwrap()
}

fn said(more: &Value) -> Vec<String> {
    check(&payload(more)).unwrap_err().iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect()
}

#[test]
fn the_smallest_payload_gets_the_documented_defaults() {
    let Payload { common, container } = checked(&json!({}));
    assert_eq!(common.command, [Vec::<String>::new()]);
    assert_eq!((common.max_run_time_secs, &common.logs), (60, &Logs::default()));
    assert!(common.features.live_log && common.features.backing_log && common.features.resource_monitor);
    assert!(!common.features.taskcluster_proxy && !common.features.interactive && !common.features.chain_of_trust);
    assert!(common.artifacts.is_empty() && common.env.is_empty() && common.os_groups.is_empty() && common.mounts.is_empty());
    assert_eq!(container.image, ImageForm::Registry("debian:12".to_owned()));
    assert!(container.command.is_empty() && container.caches.is_empty() && container.volumes.is_empty());
    assert_eq!(container.capabilities, Capabilities::default());
}

#[test]
fn every_part_arrives_in_its_type() {
    let Payload { common, container } = checked(&json!({
        "command": ["a", "b"], "env": {"A": "1"},
        "cache": {"c1": "/x:ro,z", "c2": "//home/./me/"},
        "artifacts": {
            "public/z": {"type": "file", "path": "out.tar.gz", "expires": "2030-01-01T00:00:00Z"},
            "public/a": {"type": "volume", "path": "/v/"},
            "public/m": {"type": "directory", "path": "/a/../b"},
            "public/n": {"type": "volume", "path": "/v"},
        },
        "capabilities": {"privileged": true, "disableSeccomp": true,
            "devices": {"loopbackVideo": true, "loopbackAudio": true, "hostSharedMemory": true, "kvm": true}},
        "features": {"taskclusterProxy": true, "interactive": true, "allowPtrace": true, "chainOfTrust": true, "bulkLog": false},
        "onExitStatus": {"retry": [125], "purgeCaches": [0, 72]}, "log": "public/my.log", "supersederUrl": "x",
    }));
    assert_eq!(common.command, [["a", "b"]]);
    assert_eq!(container.command, ["a", "b"]);
    assert_eq!(
        container.caches.iter().map(|(name, path)| (name.as_str(), path.as_str())).collect::<Vec<_>>(),
        [("c1", "/x:ro,z"), ("c2", "/home/me")]
    );
    assert_eq!(container.volumes, ["/v"]);
    let artifacts: Vec<_> =
        common.artifacts.iter().map(|a| (a.published_name(), a.path.as_str(), a.kind, a.optional)).collect();
    assert_eq!(
        artifacts,
        [
            ("public/a", "/v", FileOrDirectory::Directory, true),
            ("public/m", "/b", FileOrDirectory::Directory, true),
            ("public/n", "/v", FileOrDirectory::Directory, true),
            ("public/z", "/out.tar.gz", FileOrDirectory::File, true),
        ]
    );
    assert_eq!(common.artifacts[3].expires.unwrap().to_string(), "2030-01-01T00:00:00Z");
    assert_eq!(common.on_exit.retry, [125]);
    assert_eq!(common.on_exit.purge_caches, [0, 72]);
    assert_eq!((common.logs.live.as_str(), common.logs.backing.as_str()), ("public/my.log", "public/my_backing.log"));
    assert!(common.features.live_log && !common.features.backing_log);
    assert!(common.features.taskcluster_proxy && common.features.interactive && common.features.chain_of_trust);
    let all = Capabilities {
        privileged: true,
        disable_seccomp: true,
        allow_ptrace: true,
        loopback_video: true,
        loopback_audio: true,
        host_shared_memory: true,
        kvm: true,
    };
    assert_eq!(container.capabilities, all);
    assert!(!common.features.loopback_video && !common.features.loopback_audio, "devices are the container's");
}

#[test]
fn all_forms_of_images() {
    let image = |image: &Value| checked(&json!({ "image": image })).container.image;
    assert_eq!(image(&json!({"type": "docker-image", "name": "a/b"})), ImageForm::Registry("a/b".to_owned()));
    let (namespace, path) = ("a.b".to_owned(), "public/image.tar.zst".to_owned());
    assert_eq!(
        image(&json!({"type": "indexed-image", "namespace": namespace, "path": path})),
        ImageForm::Indexed { namespace, path: path.clone() }
    );
    assert_eq!(
        image(&json!({"type": "task-image", "taskId": "T", "path": path})),
        ImageForm::Task { task_id: "T".to_owned(), path }
    );
}

#[test]
fn without_artifacts_there_are_no_logs() {
    let Payload { common, container } = checked(&json!({
        "features": {"artifacts": false}, "artifacts": {"a": {"type": "volume", "path": "/v"}, "b": {"type": "file", "path": "/b"}},
    }));
    assert!(common.artifacts.is_empty() && !common.features.live_log && !common.features.backing_log);
    assert_eq!(container.volumes, ["/v"], "the task finds its directory all the same");
}

#[test]
fn names_of_whole_logs() {
    for (live, whole) in [
        ("foo", "foo_backing"),
        ("live.log", "live_backing.log"),
        ("public/logs/live.log", "public/logs/live_backing.log"),
        ("apple/banana.log.txt", "apple/banana.log_backing.txt"),
        ("a.b/c", "a.b/c_backing"),
        ("a/.log", "a/_backing.log"),
        ("a.", "a_backing."),
    ] {
        assert_eq!(backing(live), whole);
    }
    assert_eq!(backing(&Logs::default().live), Logs::default().backing);
    assert_eq!(said(&json!({"log": ""})), ["log: is empty; an artifact needs a name"]);
}

#[test]
fn sentences_that_programs_read_are_literal() {
    assert_eq!(
        said(
            &json!({"maxRunTime": 0, "onExitStatus": {"retry": [0], "purgeCaches": [-1]}, "artifacts": {"x": {"type": "link", "path": "/x"}}})
        ),
        [
            "maxRunTime: Must be greater than or equal to 1",
            "onExitStatus.retry.0: Must be greater than or equal to 1",
            "onExitStatus.purgeCaches.0: Must be greater than or equal to 0",
            "artifacts.x.type: artifacts.x.type must be one of the following: \"file\", \"directory\", \"volume\"",
        ]
    );
}

#[test]
fn an_option_is_no_image() {
    let sentence = "is not the name of an image: \"--privileged\" begins with a dash";
    assert_eq!(said(&json!({"image": "--privileged"})), [format!("image: {sentence}")]);
    assert_eq!(said(&json!({"image": {"type": "docker-image", "name": "--privileged"}})), [format!("image.name: {sentence}")]);
}

#[test]
fn odd_paths_are_refused() {
    assert_eq!(
        said(&json!({
            "cache": {"a": "x", "b": "/a/../b", "c": "/", "d": "/d\0", "e": "/same", "f": "/same/", "g": "/v"},
            "artifacts": {
                "h": {"type": "volume", "path": "rel"}, "i": {"type": "volume", "path": "/v"},
                "j": {"type": "file", "path": ""}, "k": {"type": "file", "path": "x\0"}, "l": {"type": "file", "path": "rel"},
            },
        })),
        [
            "cache.a: must be absolute: \"x\"",
            "cache.b: must not have `..` in it: \"/a/../b\"",
            "cache.c: must not be the container's root: \"/\"",
            "cache.d: has a NUL character: \"/d\\u0000\"",
            "cache.f: is where cache \"e\" is, too: \"/same\"",
            "artifacts.h.path: must be absolute: \"rel\"",
            "artifacts.i.path: is where cache \"g\" is; a volume needs a place of its own",
            "artifacts.j.path: is empty: \"\"",
            "artifacts.k.path: has a NUL character: \"x\\u0000\"",
        ]
    );
}

#[test]
fn odd_variables_are_refused() {
    assert_eq!(
        said(&json!({"env": {"": "x", "A=B": "x", "C\0": "x", "D": "x\0", "E F\n": "fine"}, "command": ["a\0b"]})),
        [
            "command.0: has a NUL character, which no program can be given",
            "env.: is a variable without a name",
            "env.A=B: has `=` in its name, where its value would begin",
            "env.C\0: has a NUL character in its name",
            "env.D: has a NUL character, which no variable can hold",
        ]
    );
}

#[test]
fn what_no_program_can_be_given_is_refused_to_the_byte() {
    let most = "x".repeat(131_071);
    assert!(check(&payload(&json!({"command": [most], "env": {"A": &most[2..]}}))).is_ok());
    let kernel = "Linux hands a program at most 131071 bytes in one string (MAX_ARG_STRLEN)";
    assert_eq!(
        said(&json!({"command": [format!("{most}x")], "env": {"A": &most[1..]}})),
        [format!("command.0: has 131072 bytes; {kernel}"), format!("env.A: has 131072 bytes with its name; {kernel}"),]
    );
    assert_eq!(
        said(&json!({"env": {"A": "x".repeat(1_000_000)}})),
        [format!("env.A: has 1000002 bytes with its name; {kernel}")]
    );
    // 131080 bytes with all that each costs.
    let many = |count: usize| payload(&json!({"command": vec![most.clone(); count]}));
    assert!(check(&many(15)).is_ok());
    let problems = check(&many(16)).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].pointer, "/command");
    assert!(problems[0].message.contains("have 2097280 bytes together") && problems[0].message.contains("2097152 bytes"));
    let three: Value =
        (0..30).map(|i| (format!("V{i}"), Value::from("x".repeat(100_000)))).collect::<serde_json::Map<_, _>>().into();
    let problems = check(&payload(&json!({ "env": three }))).unwrap_err();
    assert_eq!((problems.len(), problems[0].pointer.as_str()), (1, "/env"));
}

#[test]
fn a_hostile_payload_gets_an_answer_of_bounded_length() {
    let env: serde_json::Map<String, Value> = (0..10_000).map(|i| (format!("{i}="), Value::from(""))).collect();
    let problems = check(&payload(&json!({ "env": env }))).unwrap_err();
    assert_eq!(problems.len(), 501);
    assert_eq!(problems[500].message, "and 9500 more problems");
}
