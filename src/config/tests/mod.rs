//! Configuration files, from text to settings.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CANNOT_LOAD, Config, ConfigError, ExecValues, INVALID, LiveLogMode, Loaded, load};
use crate::api::Secret;

mod docker;

/// The least that a worker needs.
fn least() -> Value {
    json!({
        "rootURL": "https://tc.example.com", "clientId": "worker", "accessToken": "hush", "workerId": "w", "workerType": "linux",
        "ed25519SigningKeyLocation": "/etc/key",
    })
}

fn with(more: &Value) -> Value {
    let mut config = least();
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    config
}

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("worker.config");
    fs_err::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    load(&path).map_err(|mut error| {
        for problem in &mut error.problems {
            problem.file = problem.file.as_ref().map(|_| "F".to_owned());
        }
        error
    })
}

fn load_value(config: &Value) -> Result<Loaded, ConfigError> {
    load_text(&config.to_string())
}

fn refused(more: &Value) -> (u8, String) {
    let error = load_value(&with(more)).unwrap_err();
    let messages: Vec<String> =
        error.problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
    (error.exit_code, messages.join("; "))
}

fn warned(more: &Value) -> Vec<String> {
    load_value(&with(more)).unwrap().warnings
}

#[test]
fn the_least_file_gets_the_documented_defaults() {
    let Loaded { config, warnings } = load_value(&least()).unwrap();
    assert_eq!(warnings, [""; 0]);
    let cwd = std::env::current_dir().unwrap();
    assert_eq!((config.provisioner_id.as_str(), config.worker_group.as_str()), ("test-provisioner", "test-worker-group"));
    assert_eq!(config.task_queue_id(), "test-provisioner/linux");
    assert_eq!(config.access_token.expose(), "hush");
    assert!(config.certificate.is_none() && config.public_ip.is_none());
    assert_eq!(
        (config.tasks_dir, config.caches_dir, config.downloads_dir),
        (cwd.join("tasks"), cwd.join("caches"), cwd.join("downloads"))
    );
    assert_eq!(config.own.state_dir, cwd.join("tc-worker-state"));
    assert_eq!((config.capacity, config.max_task_run_time, config.required_disk_space_megabytes), (1, 86_400, 10_240));
    assert_eq!((config.number_of_tasks_to_run, config.idle_timeout_secs), (0, 0));
    assert_eq!((config.own.cancel_poll_secs, config.own.give_up_after_secs), (60, 3600));
    assert!(config.clean_up_task_dirs && config.enable_live_log && config.enable_mounts && !config.shutdown_machine_on_idle);
}

#[test]
fn yaml_and_json_say_the_same() {
    let yaml = "# my pool\nrootURL: https://tc.example.com\nclientId: worker\naccessToken: hush\nworkerId: w\nworkerType: linux\n\
                ed25519SigningKeyLocation: /etc/key\ncapacity: 3\ncachesDir: /mnt/caches\ntcWorker: {cancelPollSecs: 0, caFile: ca.pem}\n";
    let config = load_text(yaml).unwrap().config;
    assert_eq!((config.capacity, config.own.cancel_poll_secs), (3, 0));
    assert_eq!(config.own.state_dir, Path::new("/mnt/tc-worker-state"));
    assert_eq!(config.own.ca_file.unwrap(), std::env::current_dir().unwrap().join("ca.pem"));
}

#[test]
fn names_are_read_in_any_case_and_merged() {
    let mut text = least().to_string();
    text.pop();
    text.push_str(
        r#", "instanceID": "i-1", "WORKERGROUP": "g", "workerTypeMetaData": {"a": {"x": 1}, "b": 1}, "workerTypeMetadata": {"a": {"y": 2}},
           "workerTypeMetadata": {"b": 2}, "D2GConfig": {"enabled2g": false}, "d2gConfig": {"allowGPUs": true}}"#,
    );
    let config = load_text(&text).unwrap().config;
    assert_eq!((config.instance_id.as_str(), config.worker_group.as_str()), ("i-1", "g"));
    let metadata = config.worker_type_metadata.as_object().unwrap();
    assert_eq!((&metadata["a"], &metadata["b"]), (&json!({"x": 1, "y": 2}), &json!(2)));
    assert_eq!((config.d2g.enable_d2g, config.d2g.gpus.as_deref()), (false, Some("all")));
}

#[test]
fn the_worker_describes_itself_whatever_the_file_says() {
    let file =
        with(&json!({"capacity": 2, "workerTypeMetadata": {"generic-worker": {"go-os": "fakeos"}, "machine-setup": {"x": 1}}}));
    let metadata = load_value(&file).unwrap().config.worker_type_metadata;
    assert_eq!(metadata["machine-setup"], json!({"x": 1}));
    let own = &metadata["generic-worker"];
    assert_eq!(own["go-os"], "linux");
    assert_eq!(own["engine"], "insecure");
    assert_eq!(own["config"]["capacity"], 2);
    assert_eq!(own["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_file_that_is_wrong_in_five_places_is_explained_in_one_go() {
    let text = "rootURL: tc.example.com\nclientId: worker\naccessToken: {x: hush}\nworkerType: linux\ncapacty: 2\n\
                publicIP: 257.1.2.1\nenableLiveLog: \"true\"\ntcWorker:\n  liveLogs: off\n";
    let error = load_text(text).unwrap_err();
    assert_eq!(error.exit_code, CANNOT_LOAD);
    assert_eq!(
        error.to_string(),
        "F:1:1: ed25519SigningKeyLocation: Config setting \"ed25519SigningKeyLocation\" has not been defined\n\
         F:1:1: workerId: Config setting \"workerId\" has not been defined\n\
         F:1:10: rootURL: must be an http or https URL, not \"tc.example.com\"\n\
         F:3:14: accessToken: must be a string\n\
         F:5:1: capacty: is not a known setting\n  hint: did you mean `capacity`?\n\
         F:6:11: publicIP: invalid IP address: 257.1.2.1\n\
         F:7:16: enableLiveLog: must be true or false, not the string \"true\"\n  hint: write true, without quotes\n\
         F:9:3: tcWorker.liveLogs: is not a known setting\n  hint: did you mean `liveLog`?"
    );
    assert!(!error.to_string().contains("hush"));
}

#[test]
fn what_is_missing_or_empty_is_named() {
    for name in ["rootURL", "clientId", "accessToken", "workerId", "workerType", "ed25519SigningKeyLocation"] {
        let mut config = least();
        config.as_object_mut().unwrap().remove(name);
        let error = load_value(&config).unwrap_err();
        assert_eq!(error.exit_code, INVALID);
        assert_eq!(error.problems.len(), 1);
        assert_eq!(error.problems[0].message, format!("Config setting \"{name}\" has not been defined"));
    }
    for name in ["provisionerId", "workerGroup", "cachesDir", "downloadsDir", "tasksDir", "livelogExecutable", "workerId"] {
        let expected = format!("{name}: Config setting \"{name}\" has not been defined");
        assert_eq!(refused(&json!({name: ""})), (INVALID, expected));
    }
}

#[test]
fn files_that_cannot_be_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = load(&missing).unwrap_err();
    assert_eq!(error.exit_code, CANNOT_LOAD);
    let said = error.to_string();
    assert!(said.starts_with(&format!("{}: cannot be read: ", missing.display())), "{said}");
    assert!(load(dir.path()).unwrap_err().to_string().contains("cannot be read: "));
    assert!(load(Path::new("/dev/zero")).unwrap_err().to_string().contains("are read"));
    assert_eq!(load_text("").unwrap_err().to_string(), "F: is empty");
    assert_eq!(load_text("[1]").unwrap_err().to_string(), "F:1:1: must be an object, not a list");
    let error = load_text("{\"rootURL\": \"x\",\n oops}").unwrap_err();
    assert_eq!(error.exit_code, CANNOT_LOAD);
    assert!(error.to_string().starts_with("F:2:2: invalid JSON: "), "{error}");
}

#[test]
fn types_and_bounds_are_checked() {
    assert_eq!(refused(&json!({"capacity": 256})).0, CANNOT_LOAD);
    assert_eq!(
        refused(&json!({"capacity": -1})),
        (CANNOT_LOAD, "capacity: must be a whole number from 0 to 255, not -1".to_owned())
    );
    assert_eq!(refused(&json!({"capacity": 1.5})).0, CANNOT_LOAD);
    assert_eq!(refused(&json!({"capacity": 0})), (INVALID, "capacity: must be at least 1".to_owned()));
    assert_eq!(refused(&json!({"livelogExposePort": 65_536})).0, CANNOT_LOAD);
    assert_eq!(refused(&json!({"d2gConfig": {"gpus": 1}})).1, "d2gConfig.gpus: must be a string, not the number 1");
    assert_eq!(
        refused(&json!({"tcWorker": {"liveLog": "off"}})).1,
        "tcWorker.liveLog: must be one of on, off-silently, not \"off\""
    );
    assert_eq!(refused(&json!({"tcWorker": {"engine": "multiuser"}})).0, INVALID);
    assert_eq!(refused(&json!({"workerTypeMetadata": []})).1, "workerTypeMetadata: must be an object, not a list");
    let config =
        load_value(&with(&json!({"capacity": 2.0, "requiredDiskSpaceMegabytes": u64::MAX, "publicIP": "", "privateIP": null})));
    let config = config.unwrap().config;
    assert_eq!((config.capacity, config.required_disk_space_megabytes, config.public_ip), (2, u32::MAX, None));
}

#[test]
fn port_ranges_must_not_touch() {
    let ports = |livelog: u16, interactive: u16, proxy: u16, capacity: u8| json!({"livelogPortBase": livelog, "interactivePort": interactive, "taskclusterProxyPort": proxy, "capacity": capacity});
    assert!(load_value(&with(&ports(60_098, 53_654, 80, 1))).is_ok());
    assert!(load_value(&with(&ports(60_000, 60_100, 60_200, 10))).is_ok());
    let (code, said) = refused(&ports(60_098, 60_098, 80, 1));
    assert_eq!(code, INVALID);
    assert!(
        said.contains("port range overlap detected: livelogPortBase (60098 to 60099) and interactivePort (60098 to 60098)"),
        "{said}"
    );
    // The second port of a live log counts, and so do all slots.
    assert!(refused(&ports(60_000, 60_001, 80, 1)).1.contains("port range overlap detected"));
    assert!(
        refused(&ports(60_000, 53_654, 60_036, 10)).1.contains("livelogPortBase (60000 to 60037) and taskclusterProxyPort")
    );
    assert!(load_value(&with(&ports(60_000, 53_654, 60_038, 10))).is_ok());
    assert_eq!(refused(&ports(60_000, 60_000, 60_000, 1)).1.matches("overlap").count(), 3);
    assert!(refused(&ports(65_535, 53_654, 80, 1)).1.contains("exceeds maximum port number"));
    assert!(refused(&json!({"interactivePort": 65_534, "capacity": 2})).1.contains("exceeds maximum port number"));
    // What is switched off reserves nothing.
    let mut off = ports(60_098, 60_098, 80, 1);
    off["enableInteractive"] = json!(false);
    assert!(load_value(&with(&off)).is_ok());
}

#[test]
fn retired_settings_do_no_harm_at_their_neutral_value() {
    let neutral = json!({"checkForNewDeploymentEverySecs": 0, "deploymentId": "", "runTasksAsCurrentUser": false});
    assert_eq!(warned(&neutral).len(), 3);
    for set in
        [json!({"checkForNewDeploymentEverySecs": 60}), json!({"deploymentId": "x"}), json!({"runTasksAsCurrentUser": true})]
    {
        let (code, said) = refused(&set);
        assert_eq!(code, CANNOT_LOAD);
        assert!(said.contains("is a retired setting and cannot be"), "{said}");
    }
}

#[test]
fn parts_that_come_later_are_named_in_one_warning() {
    let asks = json!({
        "d2gConfig": {"enableD2G": true, "allowPrivileged": false}, "enableTaskclusterProxy": true, "wstAudience": "a", "wstServerURL": "", "enableInteractive": false,
        "headlessTasks": true, "taskclusterProxyPort": 8080,
    });
    let warnings = warned(&asks);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].ends_with("yet: enableTaskclusterProxy, wstAudience, headlessTasks"), "{}", warnings[0]);
}

#[test]
fn live_logs_can_be_switched_off_in_three_ways() {
    for (more, warnings) in [
        (json!({"livelogExecutable": "/bin/false"}), 1),
        (json!({"livelogExecutable": "/bin/true"}), 1),
        (json!({"tcWorker": {"liveLog": "off-silently"}}), 0),
        (json!({"enableLiveLog": false}), 0),
    ] {
        let loaded = load_value(&with(&more)).unwrap();
        assert!(!loaded.config.live_log_is_served(), "{more}");
        assert_eq!(loaded.warnings.len(), warnings, "{more}");
    }
    let loaded = load_value(&with(&json!({"livelogExecutable": "/usr/local/bin/no-such-livelog"}))).unwrap();
    assert!(loaded.config.live_log_is_served());
    assert_eq!(loaded.config.own.live_log, LiveLogMode::On);
}

#[test]
fn a_file_that_everybody_can_read_is_worth_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("worker.config");
    fs_err::write(&path, least().to_string()).unwrap();
    for (mode, expected) in [(0o600, 0), (0o640, 0), (0o644, 1)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(load(&path).unwrap().warnings.len(), expected, "{mode:o}");
    }
}

#[test]
fn secrets_do_not_show() {
    let config = load_value(&with(&json!({"certificate": "{\"signature\": \"hush\"}"}))).unwrap().config;
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn an_embedded_worker_needs_no_file() {
    let config = Config::for_exec(ExecValues {
        root_url: "http://127.0.0.1:1".to_owned(),
        client_id: "c".to_owned(),
        access_token: Secret::new("hush"),
        dir: "/w".into(),
        capacity: 0,
        number_of_tasks_to_run: 2,
    });
    assert_eq!((config.capacity, config.number_of_tasks_to_run), (1, 2));
    assert_eq!((config.tasks_dir.as_path(), config.own.state_dir.as_path()), (Path::new("/w/tasks"), Path::new("/w/state")));
    assert_eq!(config.worker_type_metadata["generic-worker"]["engine"], "insecure");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_value_of_any_setting_panics(
        name in prop::sample::select(super::keys::KEYS.iter().map(|key| key.name).collect::<Vec<_>>()),
        value in prop_oneof![
            Just(json!(null)), any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from), any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from), any::<String>().prop_map(Value::from), any::<u16>().prop_map(Value::from),
            Just(json!([])), Just(json!({})), any::<String>().prop_map(|name| json!({name: 1})),
        ],
    ) {
        if let Err(error) = load_value(&with(&json!({name: value}))) {
            prop_assert!(error.exit_code == CANNOT_LOAD || error.exit_code == INVALID);
            prop_assert!(!error.problems.is_empty());
            for problem in &error.problems {
                prop_assert!(problem.place.is_some(), "{:?}", problem);
            }
        }
    }
}
