//! The one place that knows which engines there are.

use std::{process::ExitCode, sync::Arc, time::Duration};

use tc_engine::Engine;
use tc_engine_docker::{
    Bounds, Connection, DockerEngine, DockerOptions, OwnerIdentity,
    image::{Collect, Images, ImagesOptions, LeaseOwner, Login, RegistryAccess, Username},
};
use tc_engine_native::{Containment, NativeEngine, NativeOptions};

use super::problems::Failure;
use crate::{
    config::{Config, ImageGc, RegistryConfig},
    worker,
};

/// The engine's name, as `--engine` and the reference worker call it.
pub const NAME: &str = "insecure";

/// This program, whatever file has its path by now.
const OURSELVES: &str = "/proc/self/exe";

/// The engine for native tasks. Says in the log what it promises and what it does not.
pub fn engine(containment: Containment) -> Result<Arc<dyn Engine>, Failure> {
    let engine = NativeEngine::new(NativeOptions { reaper_program: OURSELVES.into(), containment })
        .map_err(|error| Failure::new(super::INTERNAL_ERROR, "make control groups for tasks").because(&error))?;
    // The engine has to look at this process's own place in the system first.
    close_memory_to_others();
    let how = match engine.containment() {
        Containment::Reaper => "a reaper process",
        Containment::Cgroup | Containment::Detect => "a control group",
    };
    tracing::info!(
        "Tasks run as the current user, not isolated from one another, each with {how} that ends all of its processes"
    );
    if let Some(why) = engine.why_no_cgroup() {
        tracing::info!("Control groups are not used: {why}");
    }
    Ok(Arc::new(engine))
}

/// The engine for container tasks, if the configuration wants them. Nothing has to answer yet: the worker waits for it.
/// `alone` says that no other process works under this worker's name.
pub fn docker(config: &Config, alone: bool) -> Result<Option<Arc<dyn Engine>>, Failure> {
    if !config.d2g.enable_d2g {
        return Ok(None);
    }
    let host = &config.own.docker.host;
    let connection = Connection::new(host)
        .map_err(|error| Failure::new(crate::config::INVALID, format!("use the Docker engine at {host}")).because(&error))?;
    tracing::info!("Container tasks run on the Docker engine at {host}");
    let name = worker::owner(config).worker;
    let leases = if alone { LeaseOwner::Alone(name.clone()) } else { LeaseOwner::Shared(name.clone()) };
    let images = Images::new(images(config, leases, connection.clone()));
    let owner = OwnerIdentity::new(name);
    Ok(Some(Arc::new(DockerEngine::new(DockerOptions { connection, owner, images, bounds: Bounds::default() }))))
}

fn images(config: &Config, owner: LeaseOwner, connection: Connection) -> ImagesOptions {
    let docker = &config.own.docker;
    let registries = docker.registries.iter().map(|(host, registry)| (host.clone(), access(registry))).collect();
    ImagesOptions {
        owner,
        manifest_ttl: Duration::from_secs(docker.manifest_ttl_secs),
        registries,
        collect: match docker.gc {
            ImageGc::Own => Collect::Own,
            ImageGc::Host => Collect::Host,
        },
        ..ImagesOptions::new(connection, config.own.state_dir.clone())
    }
}

fn access(registry: &RegistryConfig) -> RegistryAccess {
    let username = match (&registry.username, &registry.username_file) {
        (Some(name), _) => Some(Username::Given(name.clone())),
        (None, file) => file.clone().map(Username::File),
    };
    // The configuration's check has seen to it that there is one way to log in at most.
    let login = match (username, &registry.password_file, &registry.token_file) {
        (Some(username), Some(file), _) => Some(Login::Password { username, password_file: file.clone() }),
        (_, _, Some(file)) => Some(Login::Token { token_file: file.clone() }),
        _ => None,
    };
    // Whether a registry is spoken to over http is the engine's decision; it wants names and no URLs.
    let name = |url: &String| url.split_once("://").map_or(url.as_str(), |(_, name)| name).to_owned();
    RegistryAccess { login, mirrors: registry.mirrors.iter().map(name).collect() }
}

/// If the engine has started this program inside of a run, does what it is there for.
pub fn entered_inside_a_run() -> Option<ExitCode> {
    let entered = std::env::args_os().nth(1).is_some_and(|argument| argument == tc_engine_native::REAPER_COMMAND);
    entered.then(tc_engine_native::reaper_main)
}

/// Keeps other processes of the same user, such as tasks, from reading the memory of this one, which holds credentials.
pub fn close_memory_to_others() {
    // The kernel refuses this to nobody; without it the worker is only as closed as other programs are.
    drop(tc_sys::process::make_undumpable());
}
