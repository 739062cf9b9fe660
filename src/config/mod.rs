//! stub, to be replaced at the merge
use std::{net::IpAddr, path::{Path, PathBuf}};
use serde::Deserialize;
use serde_json::{Value, json};
use crate::api::Secret;

#[derive(Debug, Clone)]
pub struct Config {
    pub root_url: String, pub client_id: String, pub access_token: Secret, pub certificate: Option<Secret>,
    pub provisioner_id: String, pub worker_type: String, pub worker_group: String, pub worker_id: String,
    pub tasks_dir: PathBuf, pub caches_dir: PathBuf, pub capacity: u8, pub clean_up_task_dirs: bool,
    pub number_of_tasks_to_run: u32, pub idle_timeout_secs: u32, pub max_task_run_time: u32,
    pub required_disk_space_megabytes: u32, pub disable_native_payloads: bool, pub disable_oom_protection: bool,
    pub enable_live_log: bool, pub enable_metadata: bool, pub enable_os_groups: bool, pub enable_resource_monitor: bool,
    pub max_memory_usage_percent: u64, pub min_available_memory_bytes: u64, pub allowed_high_memory_duration_secs: u64,
    pub shutdown_machine_on_idle: bool, pub shutdown_machine_on_internal_error: bool,
    pub worker_location: String, pub instance_type: String, pub region: String,
    pub public_ip: Option<IpAddr>, pub livelog_expose_port: u16, pub livelog_executable: String,
    pub worker_type_metadata: Value, pub own: OwnConfig,
}
#[derive(Debug, Clone)]
pub struct OwnConfig { pub ca_file: Option<PathBuf>, pub state_dir: PathBuf, pub cancel_poll_secs: u64, pub give_up_after_secs: u64 }
impl Config {
    pub fn live_log_is_served(&self) -> bool { self.enable_live_log && self.livelog_executable != "/bin/false" }
    pub fn load(path: &Path) -> Result<Self, String> {
        let v: Value = serde_json::from_slice(&std::fs::read(path).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        let s = |k: &str| v[k].as_str().unwrap_or_default().to_owned();
        let n = |k: &str, d: u64| v[k].as_u64().unwrap_or(d);
        let b = |k: &str, d: bool| v[k].as_bool().unwrap_or(d);
        let own = &v["tcWorker"];
        Ok(Self { root_url: s("rootURL"), client_id: s("clientId"), access_token: Secret::new(s("accessToken")), certificate: None,
            provisioner_id: s("provisionerId"), worker_type: s("workerType"), worker_group: s("workerGroup"), worker_id: s("workerId"),
            tasks_dir: s("tasksDir").into(), caches_dir: s("cachesDir").into(), capacity: n("capacity", 1) as u8, clean_up_task_dirs: b("cleanUpTaskDirs", true),
            number_of_tasks_to_run: n("numberOfTasksToRun", 0) as u32, idle_timeout_secs: n("idleTimeoutSecs", 0) as u32, max_task_run_time: n("maxTaskRunTime", 86400) as u32,
            required_disk_space_megabytes: n("requiredDiskSpaceMegabytes", 10240) as u32, disable_native_payloads: false, disable_oom_protection: false,
            enable_live_log: b("enableLiveLog", true), enable_metadata: true, enable_os_groups: true, enable_resource_monitor: true,
            max_memory_usage_percent: 90, min_available_memory_bytes: 524288000, allowed_high_memory_duration_secs: 5,
            shutdown_machine_on_idle: false, shutdown_machine_on_internal_error: false, worker_location: s("workerLocation"), instance_type: String::new(), region: String::new(),
            public_ip: None, livelog_expose_port: 0, livelog_executable: s("livelogExecutable"), worker_type_metadata: json!({}),
            own: OwnConfig { ca_file: own["caFile"].as_str().map(Into::into), state_dir: own["stateDir"].as_str().unwrap_or("state").into(), cancel_poll_secs: own["cancelPollSecs"].as_u64().unwrap_or(60), give_up_after_secs: own["giveUpAfterSecs"].as_u64().unwrap_or(3600) } })
    }
}
