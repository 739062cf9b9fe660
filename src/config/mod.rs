//! From a configuration file to a checked [`Config`], or to everything that is wrong with the file.
//!
//! Owns: the names and types of all settings (`keys`), reading them in any case and spelling that the reference worker and its
//! runner write (`reader`), their defaults (`values`), what must hold between them (`rules`). Does not own: acting on any of it.
//!
//! ```text
//! file ─Document─▶ keys in one spelling ─types─▶ Config ─rules─▶ Loaded { config, warnings }
//!                        │                 │          │
//!                        └──── 64 ─────────┘          └── 73        ConfigError { all problems, with file:line:column }
//! ```
//!
//! What the reference worker calls "cannot load" (exit code 64) is found in the file alone: syntax, unknown names, wrong types. What it
//! calls "invalid" (73) is found in the values. Both kinds are looked for before anything is said, so a file is repaired in one go.

mod docker;
mod error;
mod keys;
mod live_log;
mod metadata;
mod reader;
mod rules;
mod sheet;
#[cfg(test)]
mod tests;
mod values;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tc_engine_native::Containment;

use crate::api::Secret;

pub use docker::{D2gConfig, DockerConfig, ImageGc, RegistryConfig, WhenDown};
pub use error::{CANNOT_LOAD, ConfigError, INVALID};
pub use sheet::{Sheet, is_setting, sheet};

/// A checked configuration.
///
/// Fields are named like the settings of the reference worker, whose meaning they have. Directories are absolute.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the settings are those of the reference worker; docs/operating.md lists our own")]
pub struct Config {
    pub root_url: String,
    pub client_id: String,
    pub access_token: Secret,
    /// Only with temporary credentials.
    pub certificate: Option<Secret>,
    pub provisioner_id: String,
    pub worker_type: String,
    pub worker_group: String,
    pub worker_id: String,

    pub caches_dir: PathBuf,
    pub downloads_dir: PathBuf,
    pub tasks_dir: PathBuf,
    pub ed25519_signing_key_location: PathBuf,
    /// A name to be looked up in `PATH`, or a path.
    pub livelog_executable: String,
    pub taskcluster_proxy_executable: String,
    pub run_after_user_creation: String,

    /// At least 1.
    pub capacity: u8,
    /// 0: no limit.
    pub number_of_tasks_to_run: u32,
    /// 0: never.
    pub idle_timeout_secs: u32,
    pub max_task_run_time: u32,
    pub required_disk_space_megabytes: u32,
    pub clean_up_task_dirs: bool,
    pub create_object_artifacts: bool,
    pub disable_native_payloads: bool,
    pub disable_oom_protection: bool,
    pub disable_reboots: bool,
    pub headless_tasks: bool,
    pub shutdown_machine_on_idle: bool,
    pub shutdown_machine_on_internal_error: bool,

    pub enable_chain_of_trust: bool,
    pub enable_interactive: bool,
    pub enable_live_log: bool,
    pub enable_loopback_audio: bool,
    pub enable_loopback_video: bool,
    pub enable_metadata: bool,
    pub enable_mounts: bool,
    pub enable_os_groups: bool,
    pub enable_resource_monitor: bool,
    pub enable_run_task_as_current_user: bool,
    pub enable_taskcluster_proxy: bool,

    pub allowed_high_memory_duration_secs: u64,
    pub max_memory_usage_percent: u64,
    pub min_available_memory_bytes: u64,

    pub interactive_port: u16,
    pub livelog_port_base: u16,
    /// 0: any.
    pub livelog_expose_port: u16,
    pub taskcluster_proxy_port: u16,
    pub loopback_audio_device_number: u8,
    pub loopback_video_device_number: u8,

    pub public_ip: Option<IpAddr>,
    pub private_ip: Option<IpAddr>,
    pub instance_id: String,
    pub instance_type: String,
    pub region: String,
    pub availability_zone: String,
    /// JSON text for the tasks' environment; empty if there is none.
    pub worker_location: String,
    /// An object. What the file says, and what this worker says about itself under `generic-worker`.
    pub worker_type_metadata: Value,

    pub sentry_project: String,
    pub wst_audience: String,
    pub wst_server_url: String,
    /// The object `d2gConfig`: which container payloads are taken.
    pub d2g: D2gConfig,

    /// The settings that only this worker has.
    pub own: OwnConfig,
}

/// The object `tcWorker`.
#[derive(Clone, Debug)]
pub struct OwnConfig {
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Spool, temporary files, small state. By default beside the caches: that is where operators put the large and fast disk.
    pub state_dir: PathBuf,
    /// Between two questions whether running tasks were cancelled; 0: it is never asked.
    pub cancel_poll_secs: u64,
    /// How long claims may go unanswered before an idle worker gives up.
    pub give_up_after_secs: u64,
    /// Whether there are live logs.
    pub live_log: LiveLogMode,
    /// How tasks are isolated.
    pub engine: EngineChoice,
    /// How the processes of a task are kept together.
    pub containment: Containment,
    /// The engine that runs containers.
    pub docker: DockerConfig,
    /// Whether all caches are discarded when the worker ends. No file can say so.
    pub fresh_caches: bool,
}

/// Whether there are live logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveLogMode {
    /// Served and published.
    On,
    /// Neither, and tasks run as if they had not asked.
    OffSilently,
}

/// Which engine runs native tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// As the user of the worker.
    Insecure,
}

/// A configuration that was read, and what its owner should know about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One line each.
    pub warnings: Vec<String>,
}

/// What an embedded queue's worker needs to know; everything else has its default.
#[derive(Clone, Debug)]
pub struct ExecValues {
    /// Where the queue listens.
    pub root_url: String,
    /// Credentials that may claim.
    pub client_id: String,
    /// Their secret.
    pub access_token: Secret,
    /// Below it, the worker makes all its directories.
    pub dir: PathBuf,
    /// How many tasks run at a time; at least 1.
    pub capacity: u8,
    /// After how many tasks the worker ends; 0: never.
    pub number_of_tasks_to_run: u32,
}

/// Reads and checks a configuration file. Relative paths in it are taken from the current directory.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    reader::load(path)
}

impl Config {
    /// The configuration of a worker that serves an embedded queue on this machine.
    pub fn for_exec(values: ExecValues) -> Config {
        let mut config = Config {
            root_url: values.root_url,
            client_id: values.client_id,
            access_token: values.access_token,
            provisioner_id: "local".to_owned(),
            worker_type: "exec".to_owned(),
            worker_group: "local".to_owned(),
            worker_id: "local".to_owned(),
            capacity: values.capacity.max(1),
            number_of_tasks_to_run: values.number_of_tasks_to_run,
            // Somebody's own machine: how full it may get is theirs to decide, and so is how long a task of theirs runs.
            required_disk_space_megabytes: 0,
            max_task_run_time: u32::MAX,
            ..values::config_of(&serde_json::Map::new(), &values.dir)
        };
        config.own.state_dir = values.dir.join("state");
        metadata::describe_worker(&mut config);
        config
    }

    /// Whether tasks get live logs.
    pub fn live_log_is_served(&self) -> bool {
        self.enable_live_log && self.own.live_log == LiveLogMode::On
    }

    /// `<provisionerId>/<workerType>`: the pool, which is also the task queue.
    pub fn task_queue_id(&self) -> String {
        format!("{}/{}", self.provisioner_id, self.worker_type)
    }
}
