//! The real worker, as a process of its own.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use super::Deployment;

/// The program.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tc-worker");

/// A worker that is killed when this is dropped.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a worker of this deployment, which it reaches at `root_url`.
pub fn worker(bench: &Deployment, root_url: &str, overrides: &Value) -> Child {
    start_worker(bench.dir.path(), root_url, &bench.token, overrides)
}

/// Starts a worker that keeps everything below `dir`, its log in `worker/log`.
pub fn start_worker(dir: &Path, root_url: &str, token: &str, overrides: &Value) -> Child {
    let home = dir.join("worker");
    drop(std::fs::create_dir(&home));
    let mut config = json!({
        "rootURL": root_url, "clientId": "bench", "accessToken": token, "provisionerId": "benches", "workerType": "road",
        "workerGroup": "loopback", "workerId": "one", "ed25519SigningKeyLocation": home.join("key"),
        "tasksDir": home.join("tasks"), "cachesDir": home.join("caches"), "downloadsDir": home.join("downloads"),
        "requiredDiskSpaceMegabytes": 1, "tcWorker": { "stateDir": home.join("state") },
    });
    for (key, value) in overrides.as_object().expect("an object") {
        match (config[key].as_object_mut(), value.as_object()) {
            (Some(object), Some(more)) => object.extend(more.clone()),
            _ => config[key] = value.clone(),
        }
    }
    let path = home.join("worker.json");
    std::fs::write(&path, config.to_string()).expect("the configuration");
    let log = std::fs::File::create(home.join("log")).expect("a log");
    Command::new(BINARY)
        .args(["run", "--config"])
        .arg(&path)
        .current_dir(&home)
        .env("TMPDIR", &home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the worker starts")
}
