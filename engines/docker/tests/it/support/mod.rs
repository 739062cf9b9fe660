//! Engines to test with, and short ways through a run.

pub mod faulty;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder};
use tc_engine::{
    CommandEnd, CommandSpec, ContainerPlan, Engine, EngineError, Environment, Ground, Keep, Limits, Names, Quiet, RunHandle,
    Sandbox, SandboxPlan, Sink,
};
use tc_engine_docker::{
    Bounds, Connection, DockerEngine, DockerOptions, OwnerIdentity,
    image::{Images, ImagesOptions},
};

/// The runs of these names go on.
pub fn keep(runs: &[String]) -> Keep {
    let runs = runs.to_vec();
    Arc::new(move |run| runs.iter().any(|kept| kept == run))
}

/// Where engines are, with their names.
pub fn hosts(test: &str) -> Vec<(&'static str, String)> {
    let mut hosts = Vec::new();
    for name in ["TC_DOCKER_CLASSIC", "TC_DOCKER_GRAPH", "TC_DOCKER_CONTAINERD"] {
        match std::env::var(name) {
            Ok(host) if !host.is_empty() => hosts.push((name, host)),
            _ => not_run(&format!("{test} ({name})"), &format!("{name} names no engine")),
        }
    }
    hosts
}

/// Notes a test that this machine cannot run.
pub fn not_run(test: &str, reason: &str) {
    use std::io::Write;
    println!("NOT RUN {test}: {reason}");
    if let Ok(path) = std::env::var("TC_TESTS_NOT_RUN") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        file.and_then(|mut file| writeln!(file, "{test}\t{reason}")).expect("the list of tests that were not run");
    }
}

/// Everything that came out.
#[derive(Default)]
pub struct Collected(Mutex<Vec<u8>>);

impl Collected {
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits until the output contains this.
    pub async fn shows(&self, text: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !self.text().contains(text) {
            assert!(tokio::time::Instant::now() < deadline, "{text:?} never came, only {:?}", self.text());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Sink for Collected {
    fn write(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }
}

/// One engine and a worker of one test.
pub struct Rig {
    pub engine: Arc<DockerEngine>,
    /// Past everything that stands between the engine under test and Docker.
    pub straight: Connection,
    pub worker: String,
    pub image: String,
    dir: tempfile::TempDir,
    count: Mutex<u32>,
}

/// Bounds for tests in which something hangs. A busy machine takes seconds for what is instant otherwise.
pub fn short_bounds() -> Bounds {
    Bounds {
        call: Duration::from_secs(6),
        create: Duration::from_secs(8),
        start: Duration::from_secs(10),
        kill: Duration::from_secs(15),
        removal_call: Duration::from_secs(6),
        removal: Duration::from_secs(60),
        late: Duration::from_secs(1),
        silence: Duration::from_secs(3),
        drain: Duration::from_secs(5),
        health: Duration::from_secs(6),
        ..Bounds::default()
    }
}

impl Rig {
    pub async fn new(host: &str) -> Self {
        Self::through(host, host, Bounds::default()).await
    }

    /// The engine under test reaches Docker at `through`.
    pub async fn through(host: &str, through: &str, bounds: Bounds) -> Self {
        let straight = Connection::open(host).await.expect("the engine that was given answers");
        let image = straight.docker().inspect_image("busybox:latest").await.expect("it has busybox").id.expect("an id");
        let dir = tempfile::tempdir().expect("a directory");
        let unique = dir.path().file_name().expect("a name").to_string_lossy().trim_start_matches('.').to_owned();
        let worker = format!("test/{unique}");
        let connection = Connection::new(through).expect("an address");
        let images = ImagesOptions::new(connection.clone(), dir.path().join("state"));
        let engine = DockerEngine::new(DockerOptions {
            connection,
            owner: OwnerIdentity::new(&worker),
            images: Images::new(images),
            bounds,
        });
        Self { engine: Arc::new(engine), straight, worker, image, dir, count: Mutex::default() }
    }

    /// Images of the same engine.
    pub fn images(&self) -> Images {
        Images::new(ImagesOptions::new(self.straight.clone(), self.dir.path().join("state")))
    }

    /// Names for another run.
    pub fn names(&self) -> Names {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        let run = format!("task_{}_{count}", self.worker.trim_start_matches("test/"));
        Names { task_dir: self.task_dir(&run), run, network: false }
    }

    pub fn task_dir(&self, run: &str) -> PathBuf {
        self.dir.path().join(run)
    }

    /// A tame container.
    pub fn container(&self) -> ContainerPlan {
        let limits = Limits { memory_bytes: Some(128 << 20), millicpus: None, pids: Some(64) };
        ContainerPlan { image: self.image.clone(), limits, ..ContainerPlan::default() }
    }

    pub fn plan(&self, argv: &[&str]) -> SandboxPlan {
        plan(self.container(), argv)
    }

    pub async fn reserve(&self) -> Box<dyn Ground> {
        self.engine.reserve(self.names()).await.expect("space")
    }

    pub async fn start(&self, plan: SandboxPlan) -> (Box<dyn RunHandle>, Arc<Collected>) {
        let sandbox = created(self.reserve().await.create(plan).await);
        let sink = Arc::new(Collected::default());
        (sandbox.start(sink.clone()), sink)
    }

    /// The whole way of a run.
    pub async fn perform(&self, plan: SandboxPlan) -> (Result<CommandEnd, EngineError>, Arc<Collected>) {
        let (mut handle, sink) = self.start(plan).await;
        let end = handle.run(0).await;
        handle.quiesce().await.expect("quiet").destroy(false).await.expect("gone");
        (end, sink)
    }

    /// What Docker has of this worker: names of containers, volumes and networks.
    pub async fn left(&self) -> Vec<String> {
        let filter = std::collections::HashMap::from([("label".to_owned(), vec![format!("tc-worker.owner={}", self.worker)])]);
        let docker = self.straight.docker();
        let containers = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
        let mut left = Vec::new();
        for container in docker.list_containers(Some(containers)).await.expect("containers") {
            left.extend(container.names.unwrap_or_default());
        }
        let volumes = ListVolumesOptionsBuilder::default().filters(&filter).build();
        let volumes = docker.list_volumes(Some(volumes)).await.expect("volumes").volumes.unwrap_or_default();
        left.extend(volumes.into_iter().map(|volume| volume.name));
        let networks = ListNetworksOptionsBuilder::default().filters(&filter).build();
        let networks = docker.list_networks(Some(networks)).await.expect("networks");
        left.extend(networks.into_iter().filter_map(|network| network.name));
        left
    }

    /// Whether a container of this worker runs.
    pub async fn runs(&self) -> bool {
        let docker = self.straight.docker();
        for name in self.left().await {
            let found = docker.inspect_container(name.trim_start_matches('/'), None).await;
            if found.is_ok_and(|found| found.state.and_then(|state| state.running) == Some(true)) {
                return true;
            }
        }
        false
    }

    /// Says that nothing is left, neither on the engine nor on the host.
    pub async fn assert_clean(&self) {
        assert_eq!(self.left().await, Vec::<String>::new());
        let directories: Vec<_> = std::fs::read_dir(self.dir.path()).expect("the directory").collect();
        assert!(directories.is_empty(), "{directories:?}");
    }
}

pub fn plan(container: ContainerPlan, argv: &[&str]) -> SandboxPlan {
    SandboxPlan {
        commands: vec![CommandSpec { argv: argv.iter().map(Into::into).collect() }],
        env: Environment::new(),
        fallback_path: None,
        container: Some(container),
    }
}

pub fn sh(rig: &Rig, script: &str) -> SandboxPlan {
    rig.plan(&["/bin/sh", "-c", script])
}

pub fn created(result: Result<Box<dyn Sandbox>, (EngineError, Box<dyn Quiet>)>) -> Box<dyn Sandbox> {
    match result {
        Ok(sandbox) => sandbox,
        Err((error, _)) => panic!("not created: {error}"),
    }
}
