//! The one place that knows which engines there are.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use tc_engine::Engine;
use tc_engine_docker::{
    Bounds, Connection, DockerEngine, DockerOptions, OwnerIdentity,
    image::{Collect, Images, ImagesOptions, RegistryAccess},
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
pub fn docker(config: &Config) -> Result<Option<Arc<dyn Engine>>, Failure> {
    if !config.d2g.enable_d2g {
        return Ok(None);
    }
    let host = &config.own.docker.host;
    let connection = Connection::new(host)
        .map_err(|error| Failure::new(crate::config::INVALID, format!("use the Docker engine at {host}")).because(&error))?;
    tracing::info!("Container tasks run on the Docker engine at {host}");
    let owner = OwnerIdentity::new(worker::owner(config).worker);
    let images = Images::new(images(config, connection.clone())?);
    Ok(Some(Arc::new(DockerEngine::new(DockerOptions { connection, owner, images, bounds: Bounds::default() }))))
}

fn images(config: &Config, connection: Connection) -> Result<ImagesOptions, Failure> {
    let docker = &config.own.docker;
    let mut registries = BTreeMap::new();
    for (host, registry) in &docker.registries {
        registries.insert(host.clone(), access(host, registry)?);
    }
    Ok(ImagesOptions {
        manifest_ttl: Duration::from_secs(docker.manifest_ttl_secs),
        registries,
        collect: match docker.gc {
            ImageGc::Own => Collect::Own,
            ImageGc::Host => Collect::Host,
        },
        ..ImagesOptions::new(connection, config.own.state_dir.clone())
    })
}

fn access(host: &str, registry: &RegistryConfig) -> Result<RegistryAccess, Failure> {
    let username = match (&registry.username, &registry.username_file) {
        (Some(name), _) => Some(name.clone()),
        (None, Some(file)) => {
            let name = std::fs::read_to_string(file).map_err(|error| {
                let what = format!("read who pulls from {host} in \"{}\"", file.display());
                Failure::new(crate::config::INVALID, what).because(&error)
            })?;
            Some(name.trim().to_owned())
        }
        (None, None) => None,
    };
    Ok(RegistryAccess { login: username.zip(registry.password_file.clone()), mirrors: registry.mirrors.clone() })
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
