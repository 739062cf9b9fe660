//! Settings, or their defaults, as fields of a [`Config`].

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tc_engine_native::Containment;

use super::{Config, D2gConfig, DockerConfig, EngineChoice, LiveLogMode, OwnConfig};
use crate::api::Secret;

/// A number without a fraction, however it is written.
pub(super) fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..1e18).contains(number))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bounds are checked in the line above")]
        Some(number as u64)
    })
}

/// The configuration that the settings amount to. They have the right types, or else are left out.
pub(super) fn config_of(values: &Map<String, Value>, cwd: &Path) -> Config {
    let group = |values: &Map<String, Value>, name: &str| match values.get(name) {
        Some(Value::Object(group)) => group.clone(),
        _ => Map::new(),
    };
    let own = group(values, "tcWorker");
    let from = |values: &Map<String, Value>, name: &str| values.get(name).and_then(Value::as_str).map(str::to_owned);
    let text = |name: &str, default: &str| from(values, name).unwrap_or_else(|| default.to_owned());
    let secret = |name: &str| Secret::new(text(name, ""));
    let flag = |name: &str, default: bool| values.get(name).and_then(Value::as_bool).unwrap_or(default);
    let number = |name: &str, default: u64| values.get(name).and_then(whole).unwrap_or(default);
    let address = |name: &str| from(values, name).and_then(|text| text.parse::<IpAddr>().ok());
    let dir = |name: &str, default: &str| cwd.join(text(name, default));
    let caches_dir = dir("cachesDir", "caches");
    let state_dir = match from(&own, "stateDir") {
        Some(given) => cwd.join(given),
        None => caches_dir.parent().unwrap_or(cwd).join("tc-worker-state"),
    };
    let live_log = match from(&own, "liveLog").as_deref() {
        Some("off-silently") => LiveLogMode::OffSilently,
        _ => LiveLogMode::On,
    };
    Config {
        root_url: text("rootURL", ""),
        client_id: text("clientId", ""),
        access_token: secret("accessToken"),
        certificate: Some(secret("certificate")).filter(|certificate| !certificate.is_empty()),
        provisioner_id: text("provisionerId", "test-provisioner"),
        worker_type: text("workerType", ""),
        worker_group: text("workerGroup", "test-worker-group"),
        worker_id: text("workerId", ""),

        downloads_dir: dir("downloadsDir", "downloads"),
        tasks_dir: dir("tasksDir", "tasks"),
        ed25519_signing_key_location: from(values, "ed25519SigningKeyLocation")
            .map_or_else(PathBuf::new, |path| cwd.join(path)),
        livelog_executable: text("livelogExecutable", "livelog"),
        taskcluster_proxy_executable: text("taskclusterProxyExecutable", "taskcluster-proxy"),
        run_after_user_creation: text("runAfterUserCreation", ""),

        capacity: u8::try_from(number("capacity", 1)).unwrap_or(u8::MAX),
        number_of_tasks_to_run: saturate(number("numberOfTasksToRun", 0)),
        idle_timeout_secs: saturate(number("idleTimeoutSecs", 0)),
        max_task_run_time: saturate(number("maxTaskRunTime", 86_400)),
        required_disk_space_megabytes: saturate(number("requiredDiskSpaceMegabytes", 10_240)),
        clean_up_task_dirs: flag("cleanUpTaskDirs", true),
        create_object_artifacts: flag("createObjectArtifacts", false),
        disable_native_payloads: flag("disableNativePayloads", false),
        disable_oom_protection: flag("disableOOMProtection", false),
        disable_reboots: flag("disableReboots", false),
        headless_tasks: flag("headlessTasks", false),
        shutdown_machine_on_idle: flag("shutdownMachineOnIdle", false),
        shutdown_machine_on_internal_error: flag("shutdownMachineOnInternalError", false),

        enable_chain_of_trust: flag("enableChainOfTrust", true),
        enable_interactive: flag("enableInteractive", true),
        enable_live_log: flag("enableLiveLog", true),
        enable_loopback_audio: flag("enableLoopbackAudio", true),
        enable_loopback_video: flag("enableLoopbackVideo", true),
        enable_metadata: flag("enableMetadata", true),
        enable_mounts: flag("enableMounts", true),
        enable_os_groups: flag("enableOSGroups", true),
        enable_resource_monitor: flag("enableResourceMonitor", true),
        enable_run_task_as_current_user: flag("enableRunTaskAsCurrentUser", true),
        enable_taskcluster_proxy: flag("enableTaskclusterProxy", true),

        allowed_high_memory_duration_secs: number("allowedHighMemoryDurationSecs", 5),
        max_memory_usage_percent: number("maxMemoryUsagePercent", 90),
        min_available_memory_bytes: number("minAvailableMemoryBytes", 524_288_000),

        interactive_port: port(number("interactivePort", 53_654)),
        livelog_port_base: port(number("livelogPortBase", 60_098)),
        livelog_expose_port: port(number("livelogExposePort", 0)),
        taskcluster_proxy_port: port(number("taskclusterProxyPort", 80)),
        loopback_audio_device_number: u8::try_from(number("loopbackAudioDeviceNumber", 16)).unwrap_or(u8::MAX),
        loopback_video_device_number: u8::try_from(number("loopbackVideoDeviceNumber", 0)).unwrap_or(u8::MAX),

        public_ip: address("publicIP"),
        private_ip: address("privateIP"),
        instance_id: text("instanceId", ""),
        instance_type: text("instanceType", ""),
        region: text("region", ""),
        availability_zone: text("availabilityZone", ""),
        worker_location: text("workerLocation", ""),
        worker_type_metadata: values.get("workerTypeMetadata").cloned().unwrap_or_else(|| Value::Object(Map::new())),

        sentry_project: text("sentryProject", "generic-worker"),
        wst_audience: text("wstAudience", ""),
        wst_server_url: text("wstServerURL", ""),
        d2g: D2gConfig::of(&group(values, "d2gConfig")),

        own: OwnConfig {
            ca_file: from(&own, "caFile").filter(|path| !path.is_empty()).map(|path| cwd.join(path)),
            state_dir,
            cancel_poll_secs: own.get("cancelPollSecs").and_then(whole).unwrap_or(60),
            give_up_after_secs: own.get("giveUpAfterSecs").and_then(whole).unwrap_or(3600),
            live_log,
            engine: EngineChoice::Insecure,
            containment: match from(&own, "containment").as_deref() {
                Some("cgroup") => Containment::Cgroup,
                Some("reaper") => Containment::Reaper,
                _ => Containment::Detect,
            },
            docker: DockerConfig::of(&group(&own, "docker"), cwd),
            fresh_caches: false,
        },
        caches_dir,
    }
}

fn saturate(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The type check has bounded it.
fn port(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
