//! The configuration of the worker inside of `exec`: everything that a file would say, for a queue of one's own.

use std::{path::Path, path::PathBuf};

use serde_json::json;

use crate::{
    api::Secret,
    config::{Config, OwnConfig},
};

/// The pool: tasks that name none go there, and scopes that name it are for it.
pub const PROVISIONER_ID: &str = "local";
/// Its second half.
pub const WORKER_TYPE: &str = "exec";

/// The configuration of a worker for the embedded queue.
pub fn config(root_url: &str, (client_id, access_token): (&str, &str), dir: &Path, jobs: u8) -> Config {
    Config {
        root_url: root_url.to_owned(),
        client_id: client_id.to_owned(),
        access_token: Secret::new(access_token),
        certificate: None,
        provisioner_id: PROVISIONER_ID.to_owned(),
        worker_type: WORKER_TYPE.to_owned(),
        worker_group: "local".to_owned(),
        worker_id: "local".to_owned(),
        tasks_dir: dir.join("tasks"),
        caches_dir: dir.join("caches"),
        capacity: jobs,
        clean_up_task_dirs: true,
        number_of_tasks_to_run: 0,
        idle_timeout_secs: 0,
        max_task_run_time: u32::MAX,
        // Somebody's own machine: how full it may get is theirs to decide.
        required_disk_space_megabytes: 0,
        disable_native_payloads: false,
        disable_oom_protection: false,
        enable_live_log: true,
        enable_metadata: true,
        enable_os_groups: true,
        enable_resource_monitor: true,
        max_memory_usage_percent: 90,
        min_available_memory_bytes: 500 << 20,
        allowed_high_memory_duration_secs: 5,
        shutdown_machine_on_idle: false,
        shutdown_machine_on_internal_error: false,
        worker_location: String::new(),
        instance_type: String::new(),
        region: String::new(),
        public_ip: None,
        livelog_expose_port: 0,
        livelog_executable: "livelog".to_owned(),
        worker_type_metadata: json!({}),
        own: OwnConfig {
            ca_file: None::<PathBuf>,
            state_dir: dir.join("state"),
            cancel_poll_secs: 0,
            give_up_after_secs: 3600,
        },
    }
}
