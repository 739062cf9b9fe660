//! Volumes that an image declares: empty at first, of the right owner, gone with the container.

use bollard::{
    models::{ContainerConfig, ContainerCreateBody},
    query_parameters::{
        CommitContainerOptionsBuilder, ListContainersOptionsBuilder, ListVolumesOptions, RemoveContainerOptionsBuilder,
    },
};
use tc_engine::{Bind, ContainerPlan, Engine, Exit, Fault, Owner};

use crate::support::{
    Rig,
    faulty::{Fault as Mood, Proxy, Rule},
    hosts, keep, plan, short_bounds,
};

/// What the images of these tests have on top of busybox.
const FILL: &str = "mkdir -p /full/deep /empty /outer/inner /real /plain && echo x > /full/f && echo x > /full/deep/f && \
    echo x > /outer/f && echo x > /outer/inner/f && echo x > /real/f && echo x > /plain/f && chown 1000:1001 /full && \
    chmod 2770 /full && chown 1000 /empty && chmod 700 /empty && chown 1000 /outer && chmod 711 /outer/inner && \
    chown 1000 /outer/inner && ln -s /real /link && ln -s /nowhere /dangling";

/// An image with these files and volumes.
async fn image(rig: &Rig, volumes: &[&str]) -> String {
    let docker = rig.straight.docker();
    let cmd = ["sh", "-c", FILL].map(str::to_owned).to_vec();
    let body = ContainerCreateBody { image: Some(rig.image.clone()), cmd: Some(cmd), ..Default::default() };
    let container = docker.create_container(None, body).await.expect("a container").id;
    docker.start_container(&container, None).await.expect("started");
    loop {
        let found = docker.inspect_container(&container, None).await.expect("it is there").state.expect("a state");
        if found.running == Some(false) {
            assert_eq!(found.exit_code, Some(0));
            break;
        }
    }
    let config = ContainerConfig {
        user: Some("1000".to_owned()),
        volumes: Some(volumes.iter().map(|path| (*path).to_owned()).collect()),
        ..ContainerConfig::default()
    };
    let options = CommitContainerOptionsBuilder::default().container(&container).build();
    let image = docker.commit_container(options, config).await.expect("an image").id;
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    docker.remove_container(&container, Some(options)).await.expect("no container any more");
    image
}

async fn forget(rig: &Rig, image: &str) {
    let options = None::<bollard::query_parameters::RemoveImageOptions>;
    rig.straight.docker().remove_image(image, options, None).await.expect("no image any more");
    rig.assert_clean().await;
}

async fn volumes(rig: &Rig) -> Vec<String> {
    let listed = rig.straight.docker().list_volumes(None::<ListVolumesOptions>).await.expect("volumes");
    listed.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect()
}

/// The volumes that a run's container uses while it waits, all of which have to be gone afterwards.
async fn says(rig: &Rig, container: ContainerPlan, script: &str) -> String {
    let waiting = format!("{script}; echo ready; until [ -e /tmp/go ]; do usleep 10000; done");
    let (mut handle, sink) = rig.start(plan(container, &["sh", "-c", &waiting])).await;
    let docker = rig.straight.docker();
    let watched = async {
        sink.shows("ready").await;
        let ours = std::collections::HashMap::from([("label".to_owned(), vec![format!("tc-worker.owner={}", rig.worker)])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&ours).build();
        let containers = docker.list_containers(Some(options)).await.expect("containers");
        let [container] = &containers[..] else { panic!("{containers:?}: {}", sink.text()) };
        let mounts = container.mounts.clone().unwrap_or_default();
        let used: Vec<String> = mounts.into_iter().filter_map(|mount| mount.name).filter(|name| !name.is_empty()).collect();
        let exec = bollard::models::ExecConfig {
            cmd: Some(["touch", "/tmp/go"].map(str::to_owned).to_vec()),
            ..bollard::models::ExecConfig::default()
        };
        // What it says may come before the engine has noted that it runs.
        let id = container.id.as_deref().expect("an id");
        let exec = loop {
            if let Ok(made) = docker.create_exec(id, exec.clone()).await {
                break made.id;
            }
        };
        docker.start_exec(&exec, None).await.expect("it runs");
        used
    };
    let (end, used) = tokio::join!(handle.run(0), watched);
    assert_eq!(end.expect("an end").exit, Exit::Code(0), "{}", sink.text());
    handle.quiesce().await.expect("quiet").destroy(false).await.expect("gone");
    let left = volumes(rig).await;
    assert!(!used.iter().any(|name| left.contains(name)), "{used:?} are not all gone");
    assert!(!used.is_empty(), "there are volumes");
    sink.text().replace("ready\r\n", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_an_image_start_empty_and_belong_to_whom_it_says() {
    for (name, host) in hosts("volumes_of_an_image_start_empty_and_belong_to_whom_it_says") {
        let rig = Rig::new(&host).await;
        let image = image(&rig, &["/full", "/empty", "/outer/", "/outer/inner", "/plain", "/not/there"]).await;
        // Those of the user that the image has can be written by it, and what is written is not there the next time.
        let script = "for v in full empty outer/inner plain not/there; do stat -c '%u:%g %a' /$v; ls -A /$v; done; \
            stat -c '%u %a' /outer; ls -A /outer; touch /full/mine /empty/mine /outer/mine /outer/inner/mine";
        let expected = "1000:1001 2770\n1000:0 700\n1000:0 711\n0:0 755\n0:0 755\n1000 755\ninner\n".replace('\n', "\r\n");
        for time in ["first", "second"] {
            let container = ContainerPlan { image: image.clone(), ..rig.container() };
            assert_eq!(says(&rig, container, script).await, expected, "{name}: {time}");
        }
        forget(&rig, &image).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plan_mounts_takes_the_place_of_a_volume() {
    for (name, host) in hosts("what_the_plan_mounts_takes_the_place_of_a_volume") {
        let rig = Rig::new(&host).await;
        let image = image(&rig, &["/full", "/outer"]).await;
        let cache = tempfile::tempdir().expect("a directory");
        std::fs::write(cache.path().join("kept"), "x").expect("a file");
        let binds = vec![Bind { source: cache.path().to_owned(), target: "/full".to_owned() }];
        let container = ContainerPlan { image: image.clone(), binds, ..rig.container() };
        assert_eq!(says(&rig, container.clone(), "ls -A /full /outer").await, "/full:\r\nkept\r\n\r\n/outer:\r\n", "{name}");
        let container = ContainerPlan { volumes: vec!["/outer".to_owned()], ..container };
        assert_eq!(says(&rig, container, "ls -A /full /outer").await, "/full:\r\nkept\r\n\r\n/outer:\r\n", "{name}");
        forget(&rig, &image).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_may_be_declared_at_a_link() {
    for (name, host) in hosts("a_volume_may_be_declared_at_a_link") {
        let rig = Rig::new(&host).await;
        let image = image(&rig, &["/link", "/dangling"]).await;
        let container = ContainerPlan { image: image.clone(), ..rig.container() };
        assert_eq!(
            says(&rig, container, "ls -A /link/ /real /dangling/").await,
            "/dangling/:\r\n\r\n/link/:\r\n\r\n/real:\r\n",
            "{name}"
        );
        forget(&rig, &image).await;
    }
}

/// An engine that does not show or set owners leaves what Docker's command line would give.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_refuses_to_help_is_left_to_its_own_way() {
    for (name, host) in hosts("an_engine_that_refuses_to_help_is_left_to_its_own_way") {
        for method in ["GET", "PUT"] {
            let rules = vec![Rule { method, path: "/archive", times: 1, fault: Mood::Answer(500, "mood") }];
            let proxy = Proxy::new(&host, rules);
            let rig = Rig::through(&host, &proxy.host, short_bounds()).await;
            let image = image(&rig, &["/full"]).await;
            let container = ContainerPlan { image: image.clone(), ..rig.container() };
            let script = "stat -c %u:%g /full; ls /full; touch /full/mine";
            for _ in 0..2 {
                let said = says(&rig, container.clone(), script).await;
                // A line for two words, since there is a terminal.
                let words: Vec<&str> = said.split_ascii_whitespace().map(|word| word.trim_matches(char::is_control)).collect();
                assert_eq!(words, ["1000:1001", "deep", "f"], "{name}: {method}");
            }
            assert!(proxy.unused().is_empty(), "{name}: {method} did not happen");
            forget(&rig, &image).await;
        }
    }
}

/// The engine goes away at each of the calls that volumes take.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_goes_away_meanwhile_leaves_nothing() {
    for (name, host) in hosts("an_engine_that_goes_away_meanwhile_leaves_nothing") {
        for (method, mood) in [("GET", Mood::Hang), ("GET", Mood::DropBefore), ("PUT", Mood::DropAfter), ("PUT", Mood::Hang)] {
            let rules = vec![Rule { method, path: "/archive", times: 1, fault: mood.clone() }];
            let proxy = Proxy::new(&host, rules);
            let rig = Rig::through(&host, &proxy.host, short_bounds()).await;
            let image = image(&rig, &["/full"]).await;
            let container = ContainerPlan { image: image.clone(), ..rig.container() };
            let Err((error, quiet)) = rig.reserve().await.create(plan(container, &["true"])).await else {
                panic!("{name}: {method} {mood:?}: created")
            };
            assert_eq!(error.fault, Fault::Lost, "{name}: {method} {mood:?}: {error}");
            quiet.destroy(false).await.expect("gone");
            // With the volumes, which have labels.
            forget(&rig, &image).await;
        }
    }
}

/// Somebody has removed the container alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_finds_volumes_whose_container_is_gone() {
    for (name, host) in hosts("a_sweep_finds_volumes_whose_container_is_gone") {
        let rig = Rig::new(&host).await;
        let image = image(&rig, &["/full"]).await;
        let container = ContainerPlan { image: image.clone(), ..rig.container() };
        let created = rig.reserve().await.create(plan(container, &["true"])).await;
        drop(created.unwrap_or_else(|(error, _)| panic!("{name}: {error}")));
        let left = rig.left().await;
        let [run, volume] = &left[..] else { panic!("{name}: {left:?}") };
        let options = RemoveContainerOptionsBuilder::default().force(true).v(false).build();
        rig.straight.docker().remove_container(run.trim_start_matches('/'), Some(options)).await.expect("removed");
        assert_eq!(&rig.left().await, std::slice::from_ref(volume), "{name}");
        let owner = Owner { worker: rig.worker.clone(), tasks_dir: rig.task_dir("") };
        let swept = rig.engine.sweep(&owner, keep(&[])).await;
        assert!(swept.failed.is_empty() && swept.removed.len() == 1, "{name}: {swept:?}");
        assert!(rig.left().await.is_empty(), "{name}");
        let options = None::<bollard::query_parameters::RemoveImageOptions>;
        rig.straight.docker().remove_image(&image, options, None).await.expect("no image any more");
    }
}
