//! What the engine is asked for: from a plan to the body of one call. Pure.
//!
//! Whatever is not said here is the engine's default, on purpose: its seccomp profile, its parent group for containers (which
//! is not the worker's), its shared memory, its DNS.

use std::{collections::HashMap, ffi::OsString};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
};
use tc_engine::{Bind, ContainerPlan, Environment, Limits, SandboxPlan};

use super::{gpus, volume::Covered};
use crate::labels;

/// The one host name that every task finds beside those of its plan.
const LOCALHOST: &str = "localhost.localdomain:127.0.0.1";

/// Makes the body. `Err` says what about the plan cannot be.
pub(crate) fn body(
    plan: &SandboxPlan,
    run: &str,
    network: Option<&str>,
    labels: &HashMap<String, String>,
    covered: &[Covered],
) -> Result<ContainerCreateBody, String> {
    let container = plan.container.as_ref().ok_or("the run has no container")?;
    let [command] = plan.commands.as_slice() else {
        return Err(format!("a container runs one command, not {}", plan.commands.len()));
    };
    let argv = command.argv.iter().map(|word| text(word, "an argument")).collect::<Result<Vec<_>, _>>()?;
    Ok(ContainerCreateBody {
        image: Some(container.image.clone()),
        // Without a command the image says what runs; its entry point stays in either case.
        cmd: (!argv.is_empty()).then_some(argv),
        env: Some(environment(&plan.env)?),
        tty: Some(true),
        open_stdin: Some(false),
        attach_stdin: Some(false),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        labels: Some(labels.clone()),
        host_config: Some(host_config(container, run, network, labels, covered)?),
        ..ContainerCreateBody::default()
    })
}

fn host_config(
    container: &ContainerPlan,
    run: &str,
    network: Option<&str>,
    labels: &HashMap<String, String>,
    covered: &[Covered],
) -> Result<HostConfig, String> {
    let hosts = container.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}"));
    let devices = container.devices.iter().map(|path| {
        let path = text(path.as_os_str(), "a device")?;
        Ok(DeviceMapping {
            path_on_host: Some(path.clone()),
            path_in_container: Some(path),
            cgroup_permissions: Some("rwm".to_owned()),
        })
    });
    let mut mounts = container.binds.iter().map(bind).collect::<Result<Vec<_>, String>>()?;
    let volume = |source: Option<String>, target: &String| Mount {
        typ: Some(MountType::VOLUME),
        source,
        target: Some(target.clone()),
        // Without the copy the volume is empty whatever the image has there.
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            labels: Some(labels.clone()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    };
    let named = container.volumes.iter().enumerate();
    mounts.extend(named.map(|(position, target)| volume(Some(labels::volume_of(run, position)), target)));
    // Without a name they go with the container.
    mounts.extend(covered.iter().map(|covered| volume(None, &covered.target)));
    let Limits { memory_bytes, millicpus, pids } = container.limits;
    let memory = memory_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    Ok(HostConfig {
        privileged: Some(container.privileged),
        cap_add: (container.sys_ptrace && !container.privileged).then(|| vec!["SYS_PTRACE".to_owned()]),
        security_opt: container.seccomp_unconfined.then(|| vec!["seccomp=unconfined".to_owned()]),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        memory,
        // The limit of memory and swap together: as much as memory alone, or none.
        memory_swap: Some(memory.unwrap_or(-1)),
        nano_cpus: millicpus.map(|cpus| i64::try_from(cpus.saturating_mul(1_000_000)).unwrap_or(i64::MAX)),
        // Podman has a limit of its own unless it is told that there is none.
        pids_limit: Some(pids.map_or(-1, i64::from)),
        extra_hosts: Some(std::iter::once(LOCALHOST.to_owned()).chain(hosts).collect()),
        devices: Some(devices.collect::<Result<_, String>>()?).filter(|devices: &Vec<_>| !devices.is_empty()),
        device_requests: container.gpus.as_deref().map(|gpus| gpus::request(gpus).map(|one| vec![one])).transpose()?,
        mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
        network_mode: network.map(str::to_owned),
        ..HostConfig::default()
    })
}

/// Source and target go over as they are; options that an author appends to a path stay part of the path.
fn bind(bind: &Bind) -> Result<Mount, String> {
    Ok(Mount {
        typ: Some(MountType::BIND),
        source: Some(text(bind.source.as_os_str(), "the source of a mount")?),
        target: Some(bind.target.clone()),
        ..Mount::default()
    })
}

fn environment(env: &Environment) -> Result<Vec<String>, String> {
    env.iter()
        .map(|(name, value)| {
            let name = text(name, "the name of an environment variable")?;
            // Docker takes what is before the first sign for the name, and a name alone for a removal.
            if name.is_empty() || name.contains('=') {
                return Err(format!("an environment variable cannot have the name {name:?}"));
            }
            let value = text(value, &format!("the environment variable {name}"))?;
            if value.contains('\0') || name.contains('\0') {
                return Err(format!("the environment variable {name:?} contains a NUL byte"));
            }
            Ok(format!("{name}={value}"))
        })
        .collect()
}

/// The API is JSON, in which there is only text.
fn text(text: impl AsRef<std::ffi::OsStr>, what: &str) -> Result<String, String> {
    OsString::from(text.as_ref()).into_string().map_err(|bytes| format!("{what} is not UTF-8: {}", bytes.display()))
}

#[cfg(test)]
mod tests {
    use tc_engine::CommandSpec;

    use super::*;

    fn plan(container: ContainerPlan) -> SandboxPlan {
        SandboxPlan {
            commands: vec![CommandSpec { argv: vec!["true".into()] }],
            env: Environment::from([("A".into(), "b\nc=d".into())]),
            fallback_path: None,
            container: Some(container),
        }
    }

    fn made(container: ContainerPlan) -> serde_json::Value {
        let labels = HashMap::from([("l".to_owned(), "v".to_owned())]);
        serde_json::to_value(body(&plan(container), "r", None, &labels, &[]).expect("a body")).expect("JSON")
    }

    #[test]
    fn nothing_is_said_that_was_not_asked_for() {
        let made = made(ContainerPlan { image: "sha256:0".into(), ..ContainerPlan::default() });
        assert_eq!(
            made,
            serde_json::json!({
                "Image": "sha256:0", "Cmd": ["true"], "Env": ["A=b\nc=d"], "Tty": true, "OpenStdin": false,
                "AttachStdin": false, "AttachStdout": true, "AttachStderr": true, "Labels": {"l": "v"},
                "HostConfig": {
                    "Privileged": false, "LogConfig": {"Type": "none"}, "MemorySwap": -1, "PidsLimit": -1,
                    "ExtraHosts": ["localhost.localdomain:127.0.0.1"],
                },
            })
        );
    }

    #[test]
    fn everything_that_can_be_asked_for() {
        let made = made(ContainerPlan {
            image: "sha256:0".into(),
            sys_ptrace: true,
            seccomp_unconfined: true,
            devices: vec!["/dev/kvm".into()],
            binds: vec![Bind { source: "/c/a".into(), target: "/cache:ro,z".into() }],
            volumes: vec!["/v".into()],
            extra_hosts: vec![("taskcluster".into(), "172.17.0.1".into())],
            gpus: Some("all".into()),
            limits: Limits { memory_bytes: Some(64 << 20), millicpus: Some(1500), pids: Some(32) },
            privileged: false,
        });
        let host = &made["HostConfig"];
        assert_eq!(host["CapAdd"], serde_json::json!(["SYS_PTRACE"]));
        assert_eq!(host["SecurityOpt"], serde_json::json!(["seccomp=unconfined"]));
        assert_eq!(
            host["Devices"],
            serde_json::json!([{"PathOnHost": "/dev/kvm", "PathInContainer": "/dev/kvm", "CgroupPermissions": "rwm"}])
        );
        assert_eq!(
            host["Mounts"],
            serde_json::json!([
                {"Type": "bind", "Source": "/c/a", "Target": "/cache:ro,z"},
                {"Type": "volume", "Source": "tc-worker.r.0", "Target": "/v", "VolumeOptions": {"NoCopy": true, "Labels": {"l": "v"}}},
            ])
        );
        assert_eq!(host["ExtraHosts"], serde_json::json!(["localhost.localdomain:127.0.0.1", "taskcluster:172.17.0.1"]));
        assert_eq!((&host["Memory"], &host["MemorySwap"]), (&(64 << 20).into(), &(64 << 20).into()));
        assert_eq!((&host["NanoCpus"], &host["PidsLimit"]), (&1_500_000_000_u64.into(), &32.into()));
        assert_eq!(host["DeviceRequests"][0]["Count"], -1);
    }

    #[test]
    fn privileged_outranks_ptrace_and_no_command_means_that_of_the_image() {
        let mut plan = plan(ContainerPlan { privileged: true, sys_ptrace: true, ..ContainerPlan::default() });
        plan.commands[0].argv.clear();
        let body = body(&plan, "r", Some("n"), &HashMap::new(), &[]).expect("a body");
        let host = body.host_config.expect("a host config");
        assert_eq!((host.privileged, host.cap_add, body.cmd, body.entrypoint), (Some(true), None, None, None));
        assert_eq!(host.network_mode.as_deref(), Some("n"));
    }

    #[test]
    fn names_of_variables_are_names() {
        for (name, value) in [("", "x"), ("A=B", "x"), ("A", "x\0y")] {
            let env = Environment::from([(name.into(), value.into())]);
            assert!(environment(&env).is_err(), "{name:?}");
        }
    }
}
