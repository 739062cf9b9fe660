//! What the worker says about itself at the head of each task's log.

use serde_json::{Value, json};

use super::{Config, EngineChoice};

/// Fills in `workerTypeMetadata["generic-worker"]`. The file cannot say anything else there; its other keys stay as they are.
///
/// The name and the keys are the reference worker's, since that is what log readers know; the values are true.
pub(super) fn describe_worker(config: &mut Config) {
    let engine = match config.own.engine {
        EngineChoice::Insecure => "insecure",
    };
    let version = env!("CARGO_PKG_VERSION");
    let description = json!({
        "config": { "capacity": config.capacity },
        "engine": engine,
        "go-arch": match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
        "go-os": std::env::consts::OS,
        "go-version": "none (written in Rust)",
        "release": format!("tc-worker {version}"),
        "version": version,
    });
    match &mut config.worker_type_metadata {
        Value::Object(metadata) => {
            metadata.insert("generic-worker".to_owned(), description);
        }
        other => *other = json!({ "generic-worker": description }),
    }
}
