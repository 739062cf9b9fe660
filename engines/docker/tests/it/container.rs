//! What authors observe of a container, apart from its output and its end.

use std::os::unix::fs::MetadataExt;

use bollard::{
    models::{ContainerConfig, ContainerCreateBody},
    query_parameters::{CommitContainerOptionsBuilder, RemoveContainerOptionsBuilder},
};
use tc_engine::{Bind, ContainerPlan, Engine, Exit, Fault, Limits};

use crate::support::{Rig, created, hosts, plan, sh};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_and_nothing_is_left() {
    for (name, host) in hosts("a_container_runs_and_nothing_is_left") {
        let rig = Rig::new(&host).await;
        let (end, sink) = rig.perform(sh(&rig, "echo hello; exit 7")).await;
        assert_eq!(end.expect("an end").exit, Exit::Code(7), "{name}");
        assert_eq!(sink.text(), "hello\r\n", "{name}");
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_image_says_holds_where_the_plan_says_nothing() {
    for (name, host) in hosts("what_the_image_says_holds_where_the_plan_says_nothing") {
        let rig = Rig::new(&host).await;
        let docker = rig.straight.docker();
        let config = ContainerConfig {
            entrypoint: Some(vec!["/bin/sh".into(), "-c".into(), "echo entry $0 $* as $(id -u) in $PWD; echo $A $B".into()]),
            cmd: Some(vec!["default".into()]),
            user: Some("1000".into()),
            working_dir: Some("/tmp".into()),
            env: Some(vec!["A=image".into(), "B=image".into(), "PATH=/bin".into()]),
            ..ContainerConfig::default()
        };
        let body = ContainerCreateBody { image: Some(rig.image.clone()), cmd: Some(vec!["x".into()]), ..Default::default() };
        let container = docker.create_container(None, body).await.expect("a container to commit").id;
        let options = CommitContainerOptionsBuilder::default().container(&container).build();
        let image = docker.commit_container(options, config).await.expect("an image").id;
        docker.remove_container(&container, None).await.expect("no container any more");

        let mut plan = plan(ContainerPlan { image: image.clone(), ..rig.container() }, &[]);
        plan.env.insert("B".into(), "plan".into());
        let (end, sink) = rig.perform(plan.clone()).await;
        assert_eq!(end.expect("an end").exit, Exit::Code(0), "{name}");
        assert_eq!(sink.text(), "entry default as 1000 in /tmp\r\nimage plan\r\n", "{name}");
        plan.commands[0].argv = vec!["mine".into(), "two".into()];
        let (_, sink) = rig.perform(plan).await;
        assert_eq!(sink.text(), "entry mine two as 1000 in /tmp\r\nimage plan\r\n", "{name}");

        docker
            .remove_image(&image, None::<bollard::query_parameters::RemoveImageOptions>, None)
            .await
            .expect("no image any more");
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_any_kind_arrive() {
    for (name, host) in hosts("values_of_any_kind_arrive") {
        let rig = Rig::new(&host).await;
        let mut plan = sh(&rig, "printf %s \"$LINES2\"; printf %s \"$LONG\" | wc -c");
        plan.env.insert("LINES2".into(), "a\nb=\"c\"é\n".into());
        plan.env.insert("LONG".into(), "x".repeat(100_000).into());
        let (end, sink) = rig.perform(plan).await;
        assert_eq!(end.expect("an end").exit, Exit::Code(0), "{name}");
        assert_eq!(sink.text(), "a\r\nb=\"c\"é\r\n100000\r\n", "{name}");

        let mut plan = sh(&rig, "true");
        plan.env.insert("A=B".into(), "c".into());
        let Err((error, quiet)) = rig.reserve().await.create(plan).await else { panic!("a name with a sign") };
        assert_eq!((error.fault, error.message.contains("A=B")), (Fault::Payload, true), "{error}");
        quiet.destroy(false).await.expect("gone");
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_refuses_are_exit_codes_with_its_sentence() {
    for (name, host) in hosts("what_the_engine_refuses_are_exit_codes_with_its_sentence") {
        let rig = Rig::new(&host).await;
        let missing = Bind { source: "/nowhere/at all".into(), target: "/x".into() };
        for (plan, code, says) in [
            (rig.plan(&["no-such-program"]), 127, "executable file not found"),
            (rig.plan(&["/no/such/program"]), 127, "no such file or directory"),
            (rig.plan(&["/etc/passwd"]), 126, "permission denied"),
            (
                plan(ContainerPlan { binds: vec![missing], ..rig.container() }, &["true"]),
                125,
                "bind source path does not exist",
            ),
            (plan(ContainerPlan { gpus: Some("all".into()), ..rig.container() }, &["true"]), 125, "gpu"),
        ] {
            let (end, sink) = rig.perform(plan).await;
            let end = end.expect("the author can see it");
            assert_eq!(end.exit, Exit::Code(code), "{name}: {}", sink.text());
            let text = sink.text();
            let is_known = text.starts_with("docker: Error response from daemon: ") && text.ends_with('\n');
            assert!(is_known && text.contains(says), "{name}: {text:?}");
        }
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_was_removed_is_not_the_tasks_failure() {
    for (name, host) in hosts("an_image_that_was_removed_is_not_the_tasks_failure") {
        let rig = Rig::new(&host).await;
        let image = format!("sha256:{}", "0".repeat(64));
        let created = rig.reserve().await.create(plan(ContainerPlan { image, ..rig.container() }, &["true"])).await;
        let Err((error, quiet)) = created else { panic!("{name}: there is no such image") };
        assert_eq!(error.fault, Fault::Resource, "{name}: {error}");
        quiet.destroy(false).await.expect("gone");
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_empty_and_go_with_the_container() {
    for (name, host) in hosts("volumes_are_empty_and_go_with_the_container") {
        let rig = Rig::new(&host).await;
        let mut container = rig.container();
        // The image has files there.
        container.volumes = vec!["/etc/network".into(), "/new/volume".into(), "/bin".into()];
        let sandbox = created(rig.reserve().await.create(plan(container.clone(), &["true"])).await);
        assert_eq!(rig.left().await.iter().filter(|name| name.starts_with("tc-worker.")).count(), 3, "{name}");
        sandbox.quiesce().await.destroy(false).await.expect("gone");
        rig.assert_clean().await;

        container.volumes = vec!["/etc".into(), "/new/volume".into()];
        // The engine's own three files are put over whatever is there.
        let script = "ls -A /etc | grep -v '^host\\|^resolv'; ls -A /new/volume; touch /etc/a /new/volume/b && echo written";
        let (end, sink) = rig.perform(plan(container, &["/bin/sh", "-c", script])).await;
        assert_eq!(end.expect("an end").exit, Exit::Code(0), "{name}: {}", sink.text());
        assert_eq!(sink.text(), "written\r\n", "{name}");
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn binds_are_taken_literally_and_keep_their_owners() {
    for (name, host) in hosts("binds_are_taken_literally_and_keep_their_owners") {
        let rig = Rig::new(&host).await;
        let cache = tempfile::tempdir().expect("a directory");
        let source = cache.path().join("with space:ro");
        std::fs::create_dir(&source).expect("a cache");
        let mut container = rig.container();
        container.binds = vec![Bind { source: source.clone(), target: "/cache:ro,z".into() }];
        let script =
            "touch '/cache:ro,z/file' && chown 1234:5678 '/cache:ro,z/file'; cat /proc/self/mounts | grep -c cache:ro,z";
        let (end, sink) = rig.perform(plan(container, &["/bin/sh", "-c", script])).await;
        assert_eq!(end.expect("an end").exit, Exit::Code(0), "{name}: {}", sink.text());
        assert_eq!(sink.text(), "1\r\n", "{name}");
        let file = std::fs::metadata(source.join("file")).expect("what the task wrote");
        assert_eq!((file.uid(), file.gid()), (1234, 5678), "{name}");
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_have_names() {
    for (name, host) in hosts("hosts_have_names") {
        let rig = Rig::new(&host).await;
        let extra_hosts = vec![("taskcluster".to_owned(), "192.0.2.7".to_owned())];
        let plan = plan(ContainerPlan { extra_hosts, ..rig.container() }, &["cat", "/etc/hosts"]);
        let (_, sink) = rig.perform(plan).await;
        let has = |line: &str| sink.text().lines().any(|found| found.split_whitespace().collect::<Vec<_>>().join(" ") == line);
        assert!(has("127.0.0.1 localhost.localdomain") && has("192.0.2.7 taskcluster"), "{name}: {}", sink.text());
    }
}

/// Seccomp mode and effective capabilities, as the kernel shows them; none if this machine cannot give what is asked for.
async fn confinement(rig: &Rig, container: ContainerPlan) -> Option<(String, u64)> {
    let (_, sink) = rig.perform(plan(container, &["cat", "/proc/self/status"])).await;
    let text = sink.text();
    if text.contains("unable to apply caps: operation not permitted") {
        return None;
    }
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("no {name} in {text:?}"))
            .trim()
            .to_owned()
    };
    Some((field("Seccomp:"), u64::from_str_radix(&field("CapEff:"), 16).expect("a mask")))
}

#[tokio::test(flavor = "multi_thread")]
async fn confinement_is_the_engines_unless_something_else_was_asked_for() {
    const PTRACE: u64 = 1 << 19;
    for (name, host) in hosts("confinement_is_the_engines_unless_something_else_was_asked_for") {
        let rig = Rig::new(&host).await;
        let (seccomp, plain) = confinement(&rig, rig.container()).await.expect("a status");
        assert_eq!((seccomp.as_str(), plain & PTRACE), ("2", 0), "{name}");
        let (seccomp, traced) =
            confinement(&rig, ContainerPlan { sys_ptrace: true, ..rig.container() }).await.expect("a status");
        assert_eq!((seccomp.as_str(), traced), ("2", plain | PTRACE), "{name}");
        let (seccomp, open) =
            confinement(&rig, ContainerPlan { seccomp_unconfined: true, ..rig.container() }).await.expect("a status");
        assert_eq!((seccomp.as_str(), open), ("0", plain), "{name}");
        let privileged = ContainerPlan { privileged: true, sys_ptrace: true, ..rig.container() };
        let Some((_, all)) = confinement(&rig, privileged).await else {
            // Older engines want to give all there are. Where this machine itself has not all, that can only be refused.
            assert!(lacks_capabilities(), "{name}: privileged containers do not start");
            continue;
        };
        assert!(all.count_ones() > plain.count_ones() && all & PTRACE != 0, "{name}: {all:x}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_limits_but_those_of_the_pool() {
    for (name, host) in hosts("there_are_no_limits_but_those_of_the_pool") {
        let rig = Rig::new(&host).await;
        for (limits, memory, pids, cpus) in [
            (Limits::default(), 0, 0, 0),
            (Limits { memory_bytes: Some(64 << 20), millicpus: Some(500), pids: Some(20) }, 64 << 20, 20, 500_000_000),
        ] {
            let plan = plan(ContainerPlan { limits, ..rig.container() }, &["sh", "-c", "echo ready; sleep 60"]);
            let (mut handle, sink) = rig.start(plan).await;
            let name_of_container = rig.left().await.pop().expect("its container");
            {
                let running = handle.run(0);
                tokio::select! {
                    biased; // The end would come too early.
                    end = running => panic!("{name}: it ended: {end:?}"),
                    () = sink.shows("ready") => {}
                }
            }
            let docker = rig.straight.docker();
            let found = docker.inspect_container(name_of_container.trim_start_matches('/'), None).await.expect("a container");
            let host = found.host_config.expect("its host config");
            assert_eq!(host.memory.unwrap_or(0), memory, "{name}");
            assert_eq!(host.pids_limit.unwrap_or(0), pids, "{name}");
            assert_eq!(host.nano_cpus.unwrap_or(0), cpus, "{name}");
            // Not below the group of whoever runs the worker.
            let pid = found.state.and_then(|state| state.pid).expect("a process");
            let group = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("groups");
            let own = group("self");
            for line in own.lines().filter(|line| !line.ends_with(":/")) {
                assert!(!group(&pid.to_string()).contains(line), "{name}: the container is in a group of the worker: {line}");
            }
            handle.quiesce().await.expect("quiet").destroy(false).await.expect("gone");
        }
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_dead_runs_container_is_free_again_and_a_strangers_is_not() {
    for (name, host) in hosts("the_name_of_a_dead_runs_container_is_free_again_and_a_strangers_is_not") {
        let rig = Rig::new(&host).await;
        let docker = rig.straight.docker();
        let names = rig.names();
        let create = |process: &str| {
            let labels = std::collections::HashMap::from([
                ("tc-worker.owner".to_owned(), rig.worker.clone()),
                ("tc-worker.run".to_owned(), names.run.clone()),
                ("tc-worker.process".to_owned(), process.to_owned()),
            ]);
            let body = ContainerCreateBody {
                image: Some(rig.image.clone()),
                cmd: Some(vec!["true".into()]),
                labels: Some(labels),
                ..ContainerCreateBody::default()
            };
            let container = format!("tc-worker.{}", names.run);
            let options = bollard::query_parameters::CreateContainerOptionsBuilder::default().name(&container).build();
            async move { docker.create_container(Some(options), body).await.expect("a container").id }
        };
        create("1@1@another boot").await;
        let ground = rig.engine.reserve(names.clone()).await.expect("space");
        created(ground.create(rig.plan(&["true"])).await).quiesce().await.destroy(false).await.expect("gone");
        rig.assert_clean().await;

        let stranger = create("no process at all").await;
        let ground = rig.engine.reserve(names.clone()).await.expect("space");
        let Err((error, quiet)) = ground.create(rig.plan(&["true"])).await else { panic!("{name}: the name is taken") };
        assert_eq!(error.fault, Fault::Worker, "{name}: {error}");
        drop(quiet);
        assert_eq!(rig.left().await.len(), 1, "{name}: what is not ours stays");
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        docker.remove_container(&stranger, Some(options)).await.expect("no container any more");
    }
}

/// Whether this machine itself may not do all that its kernel knows of.
fn lacks_capabilities() -> bool {
    let number = |path: &str, after: &str| {
        let text = std::fs::read_to_string(path).expect("the kernel says it");
        text.lines().find_map(|line| line.strip_prefix(after)).expect("a value").trim().to_owned()
    };
    let last: u32 = number("/proc/sys/kernel/cap_last_cap", "").parse().expect("a number");
    let bound = u64::from_str_radix(&number("/proc/self/status", "CapBnd:"), 16).expect("hexadecimal");
    bound.count_ones() < last + 1
}
