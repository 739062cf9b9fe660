//! What an engine is asked to run: from the payload and the configuration to commands and their environment.
//!
//! Native tasks: engine < payload < worker < parts. Containers: image < worker and parts < payload, as authors of container
//! tasks know it.

use std::path::PathBuf;

use tc_engine::{Bind, CommandSpec, ContainerPlan, Environment, SandboxPlan};
use tc_payload::docker::Container;

use super::context::RunContext;

/// Everything that the engine needs to run the commands of a task. `base` is what the engine puts below all else.
pub fn plan(cx: &RunContext, base: Environment) -> SandboxPlan {
    let commands = cx.payload.command.iter().map(|argv| CommandSpec { argv: argv.iter().map(Into::into).collect() }).collect();
    let payload = cx.payload.env.iter().map(|(name, value)| (name.into(), value.into()));
    let mut env = base;
    match &cx.container {
        None => {
            env.extend(payload);
            env.extend(worker_env(cx));
            if let Some(place) = cx.place() {
                env.insert("TASK_WORKDIR".into(), place.task_dir.clone().into());
            }
            env.extend(cx.extra_env());
            SandboxPlan { commands, env, fallback_path: std::env::var_os("PATH"), container: None }
        }
        Some(container) => {
            env.extend(worker_env(cx));
            env.extend(cx.extra_env());
            env.extend(payload);
            SandboxPlan { commands, env, fallback_path: None, container: Some(container_plan(cx, container)) }
        }
    }
}

/// What the worker tells every task about itself.
fn worker_env(cx: &RunContext) -> Environment {
    let config = &cx.shop.config;
    let always = [
        ("TASK_ID", cx.task_id.clone()),
        ("RUN_ID", cx.run_id.to_string()),
        ("TASK_GROUP_ID", cx.task.task_group_id.clone()),
        ("TASKCLUSTER_ROOT_URL", config.root_url.clone()),
    ];
    let known = [
        ("TASKCLUSTER_WORKER_LOCATION", config.worker_location.clone()),
        ("TASKCLUSTER_INSTANCE_TYPE", config.instance_type.clone()),
    ];
    let known = known.into_iter().filter(|(_, value)| !value.is_empty());
    always.into_iter().chain(known).map(|(name, value)| (name.into(), value.into())).collect()
}

/// What drivers of GPUs make for their own use; containers with GPUs get all of it, as with the reference.
fn gpu_devices() -> Vec<PathBuf> {
    let nodes = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let nodes = nodes.filter(|node| node.file_name().to_string_lossy().starts_with("nvidia"));
    let mut nodes: Vec<PathBuf> = nodes.map(|node| node.path()).collect();
    nodes.sort();
    nodes
}

fn container_plan(cx: &RunContext, container: &Container) -> ContainerPlan {
    let config = &cx.shop.config;
    let can = container.capabilities;
    let mut devices = Vec::new();
    if can.kvm {
        devices.push(PathBuf::from("/dev/kvm"));
    }
    if can.loopback_video {
        devices.push(format!("/dev/video{}", config.loopback_video_device_number).into());
    }
    if can.loopback_audio {
        devices.push(PathBuf::from("/dev/snd"));
    }
    if config.d2g.gpus.is_some() {
        devices.extend(gpu_devices());
    }
    let mut binds = cx.binds();
    if can.host_shared_memory {
        binds.push(Bind { source: "/dev/shm".into(), target: "/dev/shm".to_owned() });
    }
    ContainerPlan {
        image: cx.image().map(|image| image.id.clone()).unwrap_or_default(),
        privileged: can.privileged,
        sys_ptrace: can.allow_ptrace,
        seccomp_unconfined: can.disable_seccomp,
        devices,
        binds,
        volumes: container.volumes.clone(),
        gpus: config.d2g.gpus.clone(),
        limits: config.own.docker.limits,
        ..ContainerPlan::default()
    }
}
