//! Settings for container payloads.

use std::path::Path;

use serde_json::{Value, json};
use tc_engine::Limits;
use tc_payload::docker::ImageForm;

use super::super::{CANNOT_LOAD, Config, INVALID, ImageGc, WhenDown};
use super::{load_text, load_value, refused, with};

fn loaded(docker: &Value) -> Config {
    load_value(&with(&json!({ "tcWorker": { "docker": docker } }))).unwrap().config
}

fn refused_docker(docker: &Value) -> (u8, String) {
    refused(&json!({ "tcWorker": { "docker": docker } }))
}

#[test]
fn containers_are_off_and_nothing_is_limited_by_default() {
    let config = load_value(&super::least()).unwrap().config;
    assert!(!config.d2g.enable_d2g && config.d2g.allow_privileged && config.d2g.allow_kvm && config.d2g.allow_ptrace);
    assert_eq!(config.d2g.gpus, None);
    let docker = config.own.docker;
    assert_eq!((docker.registries.len(), docker.prefetch.len()), (0, 0));
    assert_eq!((docker.gc, docker.when_down), (ImageGc::Own, WhenDown::Stop));
    assert_eq!((docker.manifest_ttl_secs, docker.give_up_after_secs), (3600, 900));
    assert_eq!(docker.limits, Limits::default());
    let usual = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    assert_eq!(docker.host, usual);
}

#[test]
fn every_setting_arrives() {
    let d2g = json!({ "enabled2g": true, "allowPrivileged": false, "allowGPUs": true, "gpus": "device=1" });
    let config = load_value(&with(&json!({ "d2gConfig": d2g }))).unwrap();
    assert_eq!(config.warnings, [""; 0]);
    assert!(config.config.d2g.enable_d2g && !config.config.d2g.allow_privileged);
    assert_eq!(config.config.d2g.gpus.as_deref(), Some("device=1"));

    let docker = loaded(&json!({
        "host": "tcp://127.0.0.1:2375", "gc": "host", "whenDown": "native-only",
        "manifestTTLSecs": 0, "giveUpAfterSecs": 5, "memoryMegabytes": 1024, "cpus": 1.5, "pids": 100,
        "prefetch": ["debian:12", { "type": "indexed-image", "namespace": "a.b", "path": "public/image.tar.zst" }],
        "registries": {
            "docker.io": { "mirrors": ["https://mirror.example/", "http://10.0.0.1:5000"] },
            "Quay.io": { "username": "u", "passwordFile": "secret/p" },
            "localhost:5000": { "tokenFile": "/etc/token" },
        },
    }))
    .own
    .docker;
    assert_eq!(
        (docker.host.as_str(), docker.gc, docker.when_down),
        ("tcp://127.0.0.1:2375", ImageGc::Host, WhenDown::NativeOnly)
    );
    assert_eq!((docker.manifest_ttl_secs, docker.give_up_after_secs), (0, 5));
    assert_eq!(docker.limits, Limits { memory_bytes: Some(1 << 30), millicpus: Some(1500), pids: Some(100) });
    assert_eq!(docker.prefetch[0], ImageForm::Registry("debian:12".to_owned()));
    assert!(matches!(&docker.prefetch[1], ImageForm::Indexed { namespace, .. } if namespace == "a.b"));
    assert_eq!(docker.registries["docker.io"].mirrors, ["https://mirror.example", "http://10.0.0.1:5000"]);
    let quay = &docker.registries["Quay.io"];
    let secret = std::env::current_dir().unwrap().join("secret/p");
    assert_eq!((quay.username.as_deref(), quay.password_file.as_deref()), (Some("u"), Some(secret.as_path())));
    assert_eq!(docker.registries["localhost:5000"].token_file.as_deref(), Some(Path::new("/etc/token")));
    let unlimited = loaded(&json!({ "memoryMegabytes": 0, "cpus": 0, "pids": 0 })).own.docker.limits;
    assert_eq!(unlimited, Limits::default());
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    for secret in [json!("hush"), json!(4711)] {
        let (code, said) = refused_docker(
            &json!({ "registries": { "quay.io": { "username": "u", "password": secret, "passwordFile": "f" } } }),
        );
        assert_eq!(code, CANNOT_LOAD);
        assert_eq!(said, "tcWorker.docker.registries.quay.io.password: must not stand in this file");
    }
    let text = "tcWorker: {docker: {registries: {quay.io: {token: hush}}}}\n".to_owned() + "rootURL: x\n";
    let error = load_text(&text).unwrap_err().to_string();
    assert!(
        error.contains("F:1:44: tcWorker.docker.registries.quay.io.token: must not stand in this file\n  hint: write it into"),
        "{error}"
    );
    assert!(!error.contains("hush"));
}

#[test]
fn all_that_is_wrong_with_registries_is_said_at_once() {
    let (code, said) = refused_docker(&json!({
        "host": "ssh://somewhere", "memoryMegabytes": 5,
        "registries": {
            "https://quay.io": {}, "a.b": { "username": "u" }, "c.d": { "passwordFile": "p" }, "e.f": { "usernameFile": "u" },
            "g.h": { "username": "u", "usernameFile": "u", "passwordFile": "p" }, "i.j": { "tokenFile": "t", "username": "u" },
            "k.l": { "mirrors": ["mirror.example", "https://u:hush@mirror.example"] },
        },
    }));
    assert_eq!(code, INVALID);
    let all = "tcWorker.docker";
    let expected = [
        format!("{all}.host: is not where an engine can listen: \"ssh://somewhere\""),
        format!("{all}.memoryMegabytes: must be at least 6, or 0 for no limit"),
        format!("{all}.registries.https://quay.io: is not a registry as it stands in names of images"),
        format!("{all}.registries.a.b.username: needs `passwordFile` beside it"),
        format!("{all}.registries.c.d.passwordFile: needs `username` beside it"),
        format!("{all}.registries.e.f.usernameFile: needs `passwordFile` beside it"),
        format!("{all}.registries.g.h.usernameFile: stands beside `username`; one of them is enough"),
        format!("{all}.registries.i.j.tokenFile: stands beside a name or a password; a token needs neither"),
        format!("{all}.registries.k.l.mirrors.0: must be an http or https URL, not \"mirror.example\""),
        format!("{all}.registries.k.l.mirrors.1: must be an http or https URL without a name or a password in it"),
    ];
    let mut said: Vec<&str> = said.split("; ").collect();
    said.sort_unstable();
    let mut expected: Vec<&str> = expected.iter().map(String::as_str).flat_map(|line| line.split("; ")).collect();
    expected.sort_unstable();
    assert_eq!(said, expected);
}

#[test]
fn problems_have_the_place_of_what_is_wrong() {
    let lines = [
        "TCWORKER:",
        "  Docker:",
        "    registries:",
        "      k.l:",
        "        Mirrors: [https://fine.example, nowhere]",
        "        username: u",
        "    prefetch:",
        "      - --privileged",
    ];
    let error = load_text(&lines.join("\n")).unwrap_err().to_string();
    for line in [
        "F:5:41: tcWorker.docker.registries.k.l.mirrors.1: must be an http or https URL",
        "F:6:19: tcWorker.docker.registries.k.l.username: needs `passwordFile`",
        "F:8:9: TCWORKER.Docker.prefetch.0: is not the name of an image",
    ] {
        assert!(error.contains(line), "{line} is not in\n{error}");
    }
}

#[test]
fn types_are_checked_down_to_the_items() {
    let all = "tcWorker.docker";
    for (docker, expected) in [
        (json!({ "cpus": -1 }), format!("{all}.cpus: must be a number from 0 to 1048576, not -1")),
        (json!({ "cpus": "1" }), format!("{all}.cpus: must be a number")),
        (json!({ "prefetch": "debian" }), format!("{all}.prefetch: must be a list, not the string \"debian\"")),
        (json!({ "prefetch": [{}] }), format!("{all}.prefetch.0: `type` is missing")),
        (
            json!({ "prefetch": ["a", "--privileged"] }),
            format!("{all}.prefetch.1: is not the name of an image: \"--privileged\" begins with a dash"),
        ),
        (json!({ "registries": { "a.b": 1 } }), format!("{all}.registries.a.b: must be an object, not the number 1")),
        (json!({ "registries": { "a.b": { "mirror": [] } } }), format!("{all}.registries.a.b.mirror: is not a known setting")),
        (
            json!({ "registries": { "a.b": { "mirrors": [1] } } }),
            format!("{all}.registries.a.b.mirrors.0: must be a string, not the number 1"),
        ),
        (json!({ "gc": "all" }), format!("{all}.gc: must be one of own, host, not \"all\"")),
        (json!({ "whenDown": "go" }), format!("{all}.whenDown: must be one of stop, native-only, not \"go\"")),
        (json!({ "hosts": "x" }), format!("{all}.hosts: is not a known setting")),
    ] {
        assert_eq!(refused_docker(&docker), (CANNOT_LOAD, expected));
    }
}
