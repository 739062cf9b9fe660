//! Leftovers go, everything else stays.

use std::collections::HashMap;

use bollard::{
    models::{ContainerCreateBody, NetworkCreateRequest, VolumeCreateRequest},
    query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder},
};
use tc_engine::{Engine, Owner};

use crate::support::{Rig, hosts, keep, sh};

/// A container, a volume and a network with the labels of a run.
async fn make(rig: &Rig, owner: &str, run: &str, process: &str) {
    let labels = HashMap::from([
        ("tc-worker.owner".to_owned(), owner.to_owned()),
        ("tc-worker.run".to_owned(), run.to_owned()),
        ("tc-worker.process".to_owned(), process.to_owned()),
    ]);
    let (docker, name) = (rig.straight.docker(), format!("tc-worker.{run}"));
    let container = ContainerCreateBody {
        image: Some(rig.image.clone()),
        cmd: Some(vec!["sleep".into(), "600".into()]),
        labels: Some(labels.clone()),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    docker.create_container(Some(options), container).await.expect("a container");
    docker.start_container(&name, None).await.expect("it runs");
    let volume =
        VolumeCreateRequest { name: Some(format!("{name}.0")), labels: Some(labels.clone()), ..VolumeCreateRequest::default() };
    docker.create_volume(volume).await.expect("a volume");
    let network = NetworkCreateRequest { name, labels: Some(labels), ..NetworkCreateRequest::default() };
    docker.create_network(network).await.expect("a network");
}

async fn remove(rig: &Rig, run: &str) {
    let (docker, name) = (rig.straight.docker(), format!("tc-worker.{run}"));
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container(&name, Some(options)).await.expect("no container");
    docker
        .remove_volume(&format!("{name}.0"), None::<bollard::query_parameters::RemoveVolumeOptions>)
        .await
        .expect("no volume");
    docker.remove_network(&name).await.expect("no network");
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_dead_workers_go_and_all_else_stays() {
    for (name, host) in hosts("leftovers_of_dead_workers_go_and_all_else_stays") {
        let rig = Rig::new(&host).await;
        let unique = rig.worker.trim_start_matches("test/").to_owned();
        let runs = ["dead", "kept", "other"].map(|kind| format!("task_{kind}_{unique}"));
        let [dead, kept, other] = &runs;
        make(&rig, &rig.worker, dead, "4000000@1@an earlier boot/1").await;
        make(&rig, &rig.worker, kept, "4000000@1@an earlier boot/1").await;
        make(&rig, &format!("{}-other", rig.worker), other, "4000000@1@an earlier boot/1").await;
        // A run of this process, which goes on.
        let (mut handle, sink) = rig.start(sh(&rig, "echo ready; sleep 600")).await;
        tokio::select! {
            biased; // It does not end by itself.
            end = handle.run(0) => panic!("{name}: {end:?}"),
            () = sink.shows("ready") => {}
        }
        let own = format!("task_{unique}_1");
        let owner = Owner { worker: rig.worker.clone(), tasks_dir: rig.task_dir("") };
        let swept = rig.engine.sweep(&owner, keep(&[kept.clone(), own.clone()])).await;
        assert_eq!((swept.removed, swept.failed), (vec![dead.clone()], Vec::new()), "{name}");
        let left = rig.left().await;
        let of = |run: &str| left.iter().filter(|name| name.contains(run)).count();
        assert_eq!((of(dead), of(kept), of(&own)), (0, 3, 1), "{name}: {left:?}");
        // The other worker's is found by its own name only, and removing it would fail if it were gone.
        remove(&rig, other).await;
        // Now nothing is kept.
        let swept = rig.engine.sweep(&owner, keep(&[])).await;
        assert_eq!((swept.removed.len(), swept.failed.len()), (2, 0), "{name}: {swept:?}");
        assert_eq!(rig.left().await, Vec::<String>::new(), "{name}");
        assert!(handle.quiesce().await.is_ok(), "{name}: what was swept away is quiet");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_there_is_said_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = format!("unix://{}", dir.path().join("docker.sock").display());
    let connection = tc_engine_docker::Connection::new(&host).expect("an address");
    let images = tc_engine_docker::image::ImagesOptions::new(connection.clone(), dir.path().join("state"));
    let engine = tc_engine_docker::DockerEngine::new(tc_engine_docker::DockerOptions {
        connection,
        images: tc_engine_docker::image::Images::new(images),
        owner: tc_engine_docker::OwnerIdentity::new("test/nowhere"),
        bounds: crate::support::short_bounds(),
    });
    let why = engine.health().await.expect_err("nothing is there");
    assert!(why.contains("not installed or not running"), "{why}");
    let owner = Owner { worker: "test/nowhere".into(), tasks_dir: dir.path().into() };
    assert_eq!(engine.sweep(&owner, keep(&[])).await.failed.len(), 1);
    for (name, host) in hosts("an_engine_that_is_not_there_is_said_so") {
        assert_eq!(Rig::new(&host).await.engine.health().await, Ok(()), "{name}");
    }
}
