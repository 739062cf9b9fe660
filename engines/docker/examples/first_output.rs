//! How long a container takes from the order to its first byte: through this engine, and by the bare calls that have to be made.
//!
//! `cargo run --example first_output -- unix:///var/run/docker.sock [rounds]`; the engine needs `busybox:latest`.

#![expect(clippy::unwrap_used, reason = "a measurement that fails has nothing to recover")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{ContainerCreateBody, HostConfig, HostConfigLogConfig},
    query_parameters::{
        AttachContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
    },
};
use futures_util::StreamExt;
use tc_engine::{CommandSpec, ContainerPlan, Engine, Environment, Names, SandboxPlan, Sink};
use tc_engine_docker::{
    Bounds, Connection, DockerEngine, DockerOptions, OwnerIdentity,
    image::{Images, ImagesOptions},
};

/// Remembers when the first byte came.
#[derive(Default)]
struct First(Mutex<Option<Instant>>);

impl Sink for First {
    fn write(&self, _: &[u8]) {
        self.0.lock().unwrap().get_or_insert_with(Instant::now);
    }
}

/// From the order to the first byte, and to the end of everything.
type Took = (Duration, Duration);

async fn ours(engine: &DockerEngine, image: &str, dir: &std::path::Path, round: usize) -> Took {
    let began = Instant::now();
    let names = Names { run: format!("bench_{round}"), task_dir: dir.join(round.to_string()), network: false };
    let plan = SandboxPlan {
        commands: vec![CommandSpec { argv: vec!["echo".into(), "x".into()] }],
        env: Environment::new(),
        fallback_path: None,
        container: Some(ContainerPlan { image: image.to_owned(), ..ContainerPlan::default() }),
    };
    let ground = engine.reserve(names).await.unwrap();
    let Ok(sandbox) = ground.create(plan).await else { panic!("not created") };
    let sink = Arc::new(First::default());
    let mut handle = sandbox.start(sink.clone());
    handle.run(0).await.unwrap();
    handle.quiesce().await.unwrap().destroy(false).await.unwrap();
    let first = sink.0.lock().unwrap().unwrap();
    (first - began, began.elapsed())
}

async fn bare(docker: &Docker, image: &str) -> Took {
    let began = Instant::now();
    let host_config = HostConfig {
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        ..HostConfig::default()
    };
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["echo".into(), "x".into()]),
        tty: Some(true),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    };
    let id = docker.create_container(None, body).await.unwrap().id;
    let options = AttachContainerOptionsBuilder::default().stdout(true).stderr(true).stream(true).build();
    let mut attached = docker.attach_container(&id, Some(options)).await.unwrap();
    docker.start_container(&id, None::<StartContainerOptions>).await.unwrap();
    attached.output.next().await;
    let first = began.elapsed();
    // An error is how bollard tells an exit code that is not zero.
    drop(docker.wait_container(&id, None::<WaitContainerOptions>).next().await);
    docker.remove_container(&id, Some(RemoveContainerOptionsBuilder::default().v(true).force(true).build())).await.unwrap();
    (first, began.elapsed())
}

fn show(name: &str, mut took: Vec<Took>) {
    let mut all: Vec<_> = took.iter().map(|(_, all)| *all).collect();
    all.sort_unstable();
    took.sort_unstable();
    let at = |percent: usize| (took.len() - 1) * percent / 100;
    println!(
        "{name}: first byte p50 {:?} p90 {:?}; gone p50 {:?} p90 {:?} ({} rounds)",
        took[at(50)].0,
        took[at(90)].0,
        all[at(50)],
        all[at(90)],
        took.len()
    );
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| tc_engine_docker::connection::DEFAULT_HOST.to_owned());
    let rounds: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(30);
    let connection = Connection::open(&host).await.unwrap();
    let image = connection.docker().inspect_image("busybox:latest").await.unwrap().id.unwrap();
    let pooled = Docker::connect_with_unix(&host, 120, API_DEFAULT_VERSION).unwrap();
    let began = Instant::now();
    for _ in 0..200 {
        connection.docker().ping().await.unwrap();
    }
    let fresh = began.elapsed() / 200;
    let began = Instant::now();
    for _ in 0..200 {
        pooled.ping().await.unwrap();
    }
    println!("one call: {fresh:?} with a connection of its own, {:?} over a kept one", began.elapsed() / 200);
    let dir = tempfile::tempdir().unwrap();
    let owner = OwnerIdentity::new(format!("bench/{}", std::process::id()));
    let images = Images::new(ImagesOptions::new(connection.clone(), dir.path().join("state")));
    let engine = DockerEngine::new(DockerOptions { connection, owner, images, bounds: Bounds::default() });
    let (mut mine, mut floor) = (Vec::new(), Vec::new());
    // In turns, so that whatever else the machine does hits both.
    for round in 0..=rounds {
        let (a, b) = (ours(&engine, &image, dir.path(), round).await, bare(&pooled, &image).await);
        if round > 0 {
            mine.push(a);
            floor.push(b);
        }
    }
    show("bare calls ", floor);
    show("this engine", mine);
}
