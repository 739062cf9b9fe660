//! `WORKER_METRICS` lines: one JSON object a line in the worker log, in the shape that log parsers of the reference read.

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::info;

use crate::config::Config;

/// Names of events.
pub mod event {
    /// The machine has started.
    pub const INSTANCE_BOOT: &str = "instanceBoot";
    /// The worker asks for its first task.
    pub const WORKER_READY: &str = "workerReady";
    /// A task was created; dated at its creation.
    pub const TASK_QUEUED: &str = "taskQueued";
    /// A task was claimed.
    pub const TASK_START: &str = "taskStart";
    /// A task was resolved.
    pub const TASK_FINISH: &str = "taskFinish";
    /// The worker restarts the machine.
    pub const INSTANCE_REBOOT: &str = "instanceReboot";
    /// The worker powers the machine off.
    pub const INSTANCE_SHUTDOWN: &str = "instanceShutdown";
}

/// Writes a line for an event of the machine or of one run.
pub fn emit(config: &Config, event: &str, at: Timestamp, run: Option<(&str, u32)>) {
    info!("WORKER_METRICS {}", line(config, event, at, run));
}

/// The JSON object of a line. Keys are sorted; the timestamp is in whole seconds.
pub fn line(config: &Config, event: &str, at: Timestamp, run: Option<(&str, u32)>) -> Value {
    let mut object = Map::new();
    object.insert("eventType".into(), event.into());
    object.insert("instanceType".into(), config.instance_type.as_str().into());
    object.insert("region".into(), config.region.as_str().into());
    if let Some((_, run_id)) = run {
        object.insert("runId".into(), run_id.into());
    }
    if let Some((task_id, _)) = run {
        object.insert("taskId".into(), task_id.into());
    }
    object.insert("timestamp".into(), at.as_second().into());
    object.insert("worker".into(), "generic-worker".into());
    object.insert("workerId".into(), config.worker_id.as_str().into());
    object.insert("workerPoolId".into(), format!("{}/{}", config.provisioner_id, config.worker_type).into());
    Value::Object(object)
}
