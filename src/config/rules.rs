//! What must hold between the values of a configuration.

use std::path::Path;

use serde_json::{Map, Value};
use tc_payload::Problem;

use super::{Config, docker};

/// Settings without which, or empty, the worker cannot work.
const NEEDED: [&str; 12] = [
    "accessToken",
    "cachesDir",
    "clientId",
    "downloadsDir",
    "ed25519SigningKeyLocation",
    "livelogExecutable",
    "provisionerId",
    "rootURL",
    "tasksDir",
    "workerGroup",
    "workerId",
    "workerType",
];

/// Of these, the ones that have a default.
const DEFAULTED: [&str; 6] = ["cachesDir", "downloadsDir", "livelogExecutable", "provisionerId", "tasksDir", "workerGroup"];

/// Everything that is wrong with the values. Pointers are in the documented spelling, also of what the file does not set.
pub(super) fn problems(config: &Config, settings: &Map<String, Value>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for name in NEEDED {
        let is_missing = match settings.get(name) {
            None | Some(Value::Null) => !DEFAULTED.contains(&name),
            Some(value) => value.as_str() == Some(""),
        };
        if is_missing {
            problems.push(Problem::new(format!("/{name}"), format!("Config setting \"{name}\" has not been defined")));
        }
    }
    let is_web = |url: &str| ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) && tc_payload::is_uri(url);
    if !config.root_url.is_empty() && !is_web(&config.root_url) {
        let message = format!("must be an http or https URL, not {}", Value::from(config.root_url.as_str()));
        problems.push(Problem::new("/rootURL", message));
    }
    if config.capacity == 0 {
        problems.push(Problem::new("/capacity", "must be at least 1"));
    }
    problems.extend(port_problems(config));
    if let Some(Value::Object(settings)) = settings.get("tcWorker").and_then(|own| own.get("docker")) {
        problems.extend(docker::problems(settings));
    }
    if settings.get("tcWorker").and_then(|own| own.get("engine")).and_then(Value::as_str) == Some("multiuser") {
        let problem = Problem::new("/tcWorker/engine", "this worker has no engine that runs tasks as users of their own yet");
        problems.push(problem.with_hint("\"insecure\" runs them as the user of the worker"));
    }
    problems
}

/// How many ports lie between those of two neighbouring task slots.
const PORTS_PER_SLOT: u32 = 4;

/// The ports that one setting reserves, `first..=last`.
struct Range {
    setting: &'static str,
    first: u32,
    last: u32,
}

/// Ports are reserved for all slots at once: for slot `s`, a feature has the port `base + 4 s`, live logs also the one after it.
fn port_problems(config: &Config) -> Vec<Problem> {
    let features = [
        (config.enable_live_log, "livelogPortBase", config.livelog_port_base, 1),
        (config.enable_interactive, "interactivePort", config.interactive_port, 0),
        (config.enable_taskcluster_proxy, "taskclusterProxyPort", config.taskcluster_proxy_port, 0),
    ];
    let slots_after_first = u32::from(config.capacity.saturating_sub(1));
    let ranges: Vec<Range> = features
        .into_iter()
        .filter(|(enabled, ..)| *enabled)
        .map(|(_, setting, base, extra)| {
            let first = u32::from(base);
            Range { setting, first, last: first + PORTS_PER_SLOT * slots_after_first + extra }
        })
        .collect();
    let describe = |range: &Range| format!("{} ({} to {})", range.setting, range.first, range.last);
    let mut problems = Vec::new();
    for (index, range) in ranges.iter().enumerate() {
        if range.last > u32::from(u16::MAX) {
            let message = format!("{} with capacity {} exceeds maximum port number 65535", describe(range), config.capacity);
            problems.push(Problem::new(format!("/{}", range.setting), message));
        }
        for other in &ranges[index + 1..] {
            if range.first <= other.last && other.first <= range.last {
                let message = format!("port range overlap detected: {} and {}", describe(range), describe(other));
                problems.push(Problem::new(format!("/{}", range.setting), message));
            }
        }
    }
    problems
}

/// The warning that a file holds credentials for everybody.
pub(super) fn readable_by_all(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    // Whoever owns the file may have their reasons, so it is said and left as it is.
    let mode = fs_err::metadata(path).ok()?.permissions().mode() & 0o7777;
    (mode & 0o004 != 0)
        .then(|| format!("{}: holds credentials, but every user of this machine can read it (mode {mode:04o})", path.display()))
}

/// The warning that tasks share a user.
pub(super) fn shared(config: &Config) -> Option<String> {
    (config.capacity > 1).then(|| {
        format!(
            "capacity is {}, and tasks run as the user of the worker: tasks that run at the same time can touch each other's files",
            config.capacity
        )
    })
}
