//! Settings for container payloads: `d2gConfig`, which the reference worker knows, and `tcWorker.docker`, which is ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tc_engine::Limits;
use tc_payload::{Problem, Reference, docker::ImageForm, escape_pointer_segment};

use super::values::whole;

/// Where an engine listens when nobody says otherwise.
const USUAL_HOST: &str = "unix:///var/run/docker.sock";
/// Less memory than this is refused by Docker.
const LEAST_MEGABYTES: u64 = 6;

/// The object `d2gConfig`: which container payloads are taken, and what they may have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the settings are those of the reference worker")]
pub struct D2gConfig {
    /// Container payloads are taken.
    pub enable_d2g: bool,
    pub allow_chain_of_trust: bool,
    pub allow_disable_seccomp: bool,
    pub allow_host_shared_memory: bool,
    pub allow_interactive: bool,
    pub allow_kvm: bool,
    pub allow_loopback_audio: bool,
    pub allow_loopback_video: bool,
    pub allow_privileged: bool,
    pub allow_ptrace: bool,
    pub allow_taskcluster_proxy: bool,
    /// The GPUs that every container gets, as Docker's command line names them: `all`, a number, or `device=…`. None unless
    /// `allowGPUs` is set.
    pub gpus: Option<String>,
}

/// The object `tcWorker.docker`.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// Where the engine listens: `unix://…`, `tcp://…` or `http://…`. By default what `DOCKER_HOST` says, else the usual socket.
    pub host: String,
    /// How registries are reached, by their host as it stands in names of images (`docker.io` for names without one).
    pub registries: BTreeMap<String, RegistryConfig>,
    /// For how long a tag is believed to mean the same image, in seconds; 0: it is looked up for each task.
    pub manifest_ttl_secs: u64,
    /// Images to bring while the worker waits for work.
    pub prefetch: Vec<ImageForm>,
    /// Which images may be removed when disks run short.
    pub gc: ImageGc,
    /// What becomes of native tasks while the engine is unusable.
    pub when_down: WhenDown,
    /// What one container may use of the machine.
    pub limits: Limits,
    /// How long the engine may be unusable before the worker gives up, in seconds.
    pub give_up_after_secs: u64,
}

/// How one registry is reached. Secrets are in files, which are read each time they are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Who pulls. At most one of this and [`RegistryConfig::username_file`].
    pub username: Option<String>,
    /// A file that holds it.
    pub username_file: Option<PathBuf>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// A file that holds a token; not together with a name or a password.
    pub token_file: Option<PathBuf>,
    /// URLs to be asked before the registry itself, in this order.
    pub mirrors: Vec<String>,
}

/// Which images may be removed when disks run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageGc {
    /// Those that this worker brought.
    Own,
    /// All that nobody uses.
    Host,
}

/// What becomes of native tasks while the engine is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenDown {
    /// The worker takes no tasks at all.
    Stop,
    /// It goes on taking them.
    NativeOnly,
}

impl D2gConfig {
    /// What the settings amount to.
    pub(super) fn of(values: &Map<String, Value>) -> D2gConfig {
        let flag = |name: &str, default: bool| values.get(name).and_then(Value::as_bool).unwrap_or(default);
        let gpus = values.get("gpus").and_then(Value::as_str).unwrap_or("all");
        D2gConfig {
            enable_d2g: flag("enableD2G", false),
            allow_chain_of_trust: flag("allowChainOfTrust", true),
            allow_disable_seccomp: flag("allowDisableSeccomp", true),
            allow_host_shared_memory: flag("allowHostSharedMemory", true),
            allow_interactive: flag("allowInteractive", true),
            allow_kvm: flag("allowKVM", true),
            allow_loopback_audio: flag("allowLoopbackAudio", true),
            allow_loopback_video: flag("allowLoopbackVideo", true),
            allow_privileged: flag("allowPrivileged", true),
            allow_ptrace: flag("allowPtrace", true),
            allow_taskcluster_proxy: flag("allowTaskclusterProxy", true),
            gpus: flag("allowGPUs", false).then(|| gpus.to_owned()),
        }
    }
}

impl DockerConfig {
    /// What the settings amount to. Relative paths are taken from `cwd`.
    pub(super) fn of(values: &Map<String, Value>, cwd: &Path) -> DockerConfig {
        let text = |name: &str| values.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let number = |name: &str| values.get(name).and_then(whole);
        let host = text("host").or_else(|| std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()));
        let registries = values.get("registries").and_then(Value::as_object).into_iter().flatten();
        let prefetch = values.get("prefetch").and_then(Value::as_array).into_iter().flatten();
        DockerConfig {
            host: host.unwrap_or_else(|| USUAL_HOST.to_owned()),
            registries: registries.map(|(host, settings)| (host.clone(), RegistryConfig::of(settings, cwd))).collect(),
            manifest_ttl_secs: number("manifestTtlSecs").unwrap_or(3600),
            // The type check has refused what is no image.
            prefetch: prefetch.filter_map(|image| tc_payload::docker::image(image).ok()).collect(),
            gc: if text("gc").as_deref() == Some("host") { ImageGc::Host } else { ImageGc::Own },
            when_down: if text("whenDown").as_deref() == Some("native-only") { WhenDown::NativeOnly } else { WhenDown::Stop },
            limits: Limits {
                memory_bytes: number("memoryMegabytes").filter(|megabytes| *megabytes > 0).map(|megabytes| megabytes << 20),
                millicpus: values.get("cpus").and_then(Value::as_f64).map(millicpus).filter(|millicpus| *millicpus > 0),
                pids: number("pids").and_then(|pids| u32::try_from(pids).ok()).filter(|pids| *pids > 0),
            },
            give_up_after_secs: number("giveUpAfterSecs").unwrap_or(900),
        }
    }
}

impl RegistryConfig {
    fn of(settings: &Value, cwd: &Path) -> RegistryConfig {
        let text = |name: &str| settings.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let file = |name: &str| text(name).map(|path| cwd.join(path));
        let mirrors = settings.get("mirrors").and_then(Value::as_array).into_iter().flatten();
        RegistryConfig {
            username: text("username").map(str::to_owned),
            username_file: file("usernameFile"),
            password_file: file("passwordFile"),
            token_file: file("tokenFile"),
            mirrors: mirrors.filter_map(|url| Some(url.as_str()?.trim_end_matches('/').to_owned())).collect(),
        }
    }
}

/// The type check has bounded it.
fn millicpus(cpus: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, as it should")]
    let millicpus = (cpus * 1000.0).round() as u64;
    millicpus
}

/// What is wrong with the values. `settings` is the object `tcWorker.docker`; pointers are in the documented spelling.
pub(super) fn problems(settings: &Map<String, Value>) -> Vec<Problem> {
    const DOCKER: &str = "/tcWorker/docker";
    let mut problems = Vec::new();
    if let Some(host) = settings.get("host").and_then(Value::as_str)
        && !host.is_empty()
        && !is_engine(host)
    {
        let problem =
            Problem::new(format!("{DOCKER}/host"), format!("is not where an engine can listen: {}", Value::from(host)));
        problems.push(problem.with_hint("such as unix:///var/run/docker.sock or tcp://127.0.0.1:2375"));
    }
    let megabytes = settings.get("memoryMegabytes").and_then(whole).unwrap_or(0);
    if (1..LEAST_MEGABYTES).contains(&megabytes) {
        problems.push(Problem::new(
            format!("{DOCKER}/memoryMegabytes"),
            format!("must be at least {LEAST_MEGABYTES}, or 0 for no limit"),
        ));
    }
    for (host, registry) in settings.get("registries").and_then(Value::as_object).into_iter().flatten() {
        let pointer = format!("{DOCKER}/registries/{}", escape_pointer_segment(host));
        if !Reference::is_registry(host) {
            let problem = Problem::new(&pointer, "is not a registry as it stands in names of images").about_key();
            problems
                .push(problem.with_hint(
                    "a host with a dot, a port, or localhost, without https://; names without one are of docker.io",
                ));
        }
        let has = |name: &str| registry.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        let mut refuse = |name: &str, why: &str| problems.push(Problem::new(format!("{pointer}/{name}"), why));
        if has("username") && has("usernameFile") {
            refuse("usernameFile", "stands beside `username`; one of them is enough");
        }
        let named = has("username") || has("usernameFile");
        if has("passwordFile") != named && !has("tokenFile") {
            let (there, missing) = if named { ("username", "passwordFile") } else { ("passwordFile", "username") };
            let there = if named && !has("username") { "usernameFile" } else { there };
            refuse(there, &format!("needs `{missing}` beside it"));
        }
        if has("tokenFile") && (named || has("passwordFile")) {
            refuse("tokenFile", "stands beside a name or a password; a token needs neither");
        }
        let mirrors = registry.get("mirrors").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for (index, url) in mirrors.enumerate() {
            if !is_web(url) {
                let why = if url.contains('@') {
                    "must be an http or https URL without a name or a password in it".to_owned()
                } else {
                    format!("must be an http or https URL, not {}", Value::from(url))
                };
                refuse(&format!("mirrors/{index}"), &why);
            }
        }
    }
    problems
}

/// Whether an engine can listen there.
fn is_engine(host: &str) -> bool {
    match host.split_once("://") {
        Some(("unix", path)) => path.starts_with('/'),
        Some(("tcp" | "http", address)) => !address.is_empty() && tc_payload::is_uri(host),
        _ => false,
    }
}

/// Whether it is the URL of something on the web, without a name or a password in it.
fn is_web(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.contains('@')) && tc_payload::is_uri(url)
}
