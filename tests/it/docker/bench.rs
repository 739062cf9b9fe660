//! What each test of containers stands on: an engine, a queue of its own, workers, and a count of what was there before.
//!
//! Tests that use one engine take turns, so that whatever a test leaves behind is its own.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tc_worker::api::TaskStatus;
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{Deployment, Worker};

static TURN: Mutex<()> = Mutex::const_new(());

/// An engine, spoken to by the `docker` command: it shares no code with the worker.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Such as `unix:///run/docker.sock`.
    pub host: String,
}

impl Engine {
    /// The engine that a variable names. Without it the test is noted as not run.
    pub fn by(variable: &str) -> Option<Self> {
        let found = std::env::var(variable).ok();
        if found.is_none() {
            not_run(&format!("{variable} names no Docker engine"));
        }
        found.map(|host| Self { host })
    }

    /// The engine of most tests: the newest with the newest store, or the one that this machine has.
    pub fn newest() -> Option<Self> {
        Self::by(if std::env::var("TC_DOCKER_HOST").is_ok() { "TC_DOCKER_HOST" } else { "TC_DOCKER_CONTAINERD" })
    }

    /// The `docker` command.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new("docker")
            .args(["--host", &self.host])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the docker command is installed")
    }

    /// What the command says; it has to succeed.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "docker {arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// Lines that the command says; none if the engine is not there.
    fn lines(&self, arguments: &[&str]) -> Option<BTreeSet<String>> {
        let output = self.command(arguments);
        let said = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        output.status.success().then_some(said)
    }

    /// Identifiers of the containers that run.
    pub fn running(&self) -> BTreeSet<String> {
        self.lines(&["ps", "--quiet"]).expect("the engine answers")
    }

    fn images(&self) -> Option<BTreeSet<String>> {
        self.lines(&["images", "--all", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"])
    }

    fn inventory(&self) -> Option<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for (what, arguments) in [
            ("container", &["ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"][..]),
            ("network", &["network", "ls", "--format", "{{.Name}}"]),
            ("volume", &["volume", "ls", "--format", "{{.Name}}"]),
        ] {
            all.extend(self.lines(arguments)?.into_iter().map(|line| format!("{what} {line}")));
        }
        Some(all)
    }
}

/// Notes that the current test cannot run here, where `tests/run` reads it.
pub fn not_run(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed").to_owned();
    println!("NOT RUN: {reason}");
    if let Some(path) = std::env::var_os("TC_TESTS_NOT_RUN") {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("the list of tests not run");
        writeln!(file, "{name}\t{reason}").expect("written");
    }
}

/// An archive of the test bed.
pub fn archive(name: &str) -> PathBuf {
    let directory = std::env::var("TC_DOCKER_IMAGES").expect("set together with the engine");
    Path::new(&directory).join(name)
}

/// The image that every engine of the test bed has.
pub fn busybox() -> String {
    match std::env::var("TC_DOCKER_REGISTRY") {
        Ok(registry) => format!("{registry}/tc-test/busybox:latest"),
        Err(_) => "tc-test/busybox:latest".to_owned(),
    }
}

/// The same, for a test that needs the registry which it is in. Without that the test is noted as not run.
pub fn published() -> Option<String> {
    if std::env::var("TC_DOCKER_REGISTRY").is_err() {
        not_run("TC_DOCKER_REGISTRY names no registry");
        return None;
    }
    Some(busybox())
}

/// A payload that runs a shell script in a container.
pub fn script(text: &str) -> Value {
    json!({ "image": busybox(), "command": ["sh", "-c", text], "maxRunTime": 60 })
}

/// The payload with one key more.
pub fn with(mut payload: Value, key: &str, value: Value) -> Value {
    payload[key] = value;
    payload
}

/// What came of a task.
pub struct Done {
    /// Its identifier.
    pub task_id: String,
    /// `state/reasonResolved` of the last run.
    pub resolution: String,
    /// The backing log, or what there is of it.
    pub log: String,
    /// All runs.
    pub status: TaskStatus,
}

impl Done {
    /// The task has to have ended like this.
    pub fn expect(self, resolution: &str) -> Self {
        assert_eq!(self.resolution, resolution, "{}", self.log);
        self
    }

    /// The log has to contain this.
    pub fn says(self, text: &str) -> Self {
        assert!(self.log.contains(text), "{text:?} is not in\n{}", self.log);
        self
    }
}

/// See the module.
pub struct Bench {
    /// The engine under the worker.
    pub engine: Engine,
    /// A queue with nothing in it.
    pub queue: Deployment,
    before: BTreeSet<String>,
    images: BTreeSet<String>,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Bench {
    /// Waits for this test's turn.
    pub async fn on(engine: Engine) -> Self {
        let turn = TURN.lock().await;
        Self::with(engine, Some(turn)).await
    }

    /// On an engine that no other test uses.
    pub async fn alone(engine: Engine) -> Self {
        Self::with(engine, None).await
    }

    async fn with(engine: Engine, turn: Option<MutexGuard<'static, ()>>) -> Self {
        let before = engine.inventory().expect("the engine answers");
        let images = engine.images().expect("the engine answers");
        Self { engine, queue: Deployment::start().await, before, images, _turn: turn }
    }

    /// A worker for container tasks, with these settings besides.
    pub fn worker(&self, overrides: &Value) -> Worker {
        let mut settings = json!({ "d2gConfig": { "enableD2G": true } });
        for (key, value) in overrides.as_object().expect("an object") {
            settings[key] = value.clone();
        }
        self.queue.worker_with(&self.queue.server.root_url(), settings, &[("DOCKER_HOST", &self.engine.host)])
    }

    /// Creates a task that may use every cache and capability.
    pub async fn create(&self, payload: Value, properties: Value) -> String {
        let mut all = json!({ "scopes": ["docker-worker:*"], "retries": 0 });
        for (key, value) in properties.as_object().expect("an object") {
            all[key] = value.clone();
        }
        self.queue.create_with(payload, all).await
    }

    /// Runs one task to its end.
    pub async fn run(&self, payload: Value) -> Done {
        self.run_all(vec![payload], &json!({})).await.remove(0)
    }

    /// Runs some tasks, with these settings of the worker.
    pub async fn run_all(&self, payloads: Vec<Value>, overrides: &Value) -> Vec<Done> {
        let mut tasks = Vec::new();
        for payload in payloads {
            tasks.push(self.create(payload, json!({})).await);
        }
        self.work(&tasks, overrides).await
    }

    /// Lets a worker do what waits in the queue.
    pub async fn work(&self, tasks: &[String], overrides: &Value) -> Vec<Done> {
        let mut settings = json!({ "numberOfTasksToRun": tasks.len() });
        for (key, value) in overrides.as_object().expect("an object") {
            settings[key] = value.clone();
        }
        let mut worker = self.worker(&settings);
        let code = worker.code().await;
        assert_eq!(code, Some(0), "{}", worker.stderr());
        let mut done = Vec::new();
        for task in tasks {
            done.push(self.done(task).await);
        }
        done
    }

    /// What came of a task that is resolved, or will be.
    pub async fn done(&self, task_id: &str) -> Done {
        let resolution = self.queue.resolution(task_id).await;
        let log = self.queue.artifact(task_id, "public/logs/live_backing.log").unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        Done { task_id: task_id.to_owned(), resolution, log, status: self.queue.status(task_id).await }
    }

    /// A task that published these archives, each as `public/NAME`.
    pub async fn publish(&self, names: &[&str]) -> String {
        self.publish_as("public", names, json!({})).await
    }

    /// The same below another name than `public`, and with these properties of the task.
    pub async fn publish_as(&self, below: &str, names: &[&str], properties: Value) -> String {
        let list: Vec<String> = names.iter().map(|name| archive(name).display().to_string()).collect();
        let artifacts: Vec<Value> =
            names.iter().map(|name| json!({ "type": "file", "path": name, "name": format!("{below}/{name}") })).collect();
        let payload = json!({
            "command": [["/bin/sh", "-c", format!("cp {} .", list.join(" "))]], "maxRunTime": 60, "artifacts": artifacts
        });
        let task = self.create(payload, properties).await;
        self.work(&[task], &json!({})).await.remove(0).expect("completed/completed").task_id
    }

    /// Creates a task in an image that another one published.
    pub async fn create_in(&self, publisher: &str, archive: &str, command: &[&str]) -> String {
        let image = json!({ "type": "task-image", "taskId": publisher, "path": format!("public/{archive}") });
        let payload = json!({ "image": image, "command": command, "maxRunTime": 60 });
        self.create(payload, json!({ "dependencies": [publisher] })).await
    }

    /// Containers, networks and volumes have to be what they were. Images that the test brought are removed.
    pub fn close(self) {
        let now = self.engine.inventory().expect("the engine answers");
        let left: Vec<&String> = now.difference(&self.before).collect();
        assert!(left.is_empty(), "left in the engine: {left:#?}");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Also when the test failed, so that the next one does not inherit it. What cannot be removed is found by `tests/run`.
        let now = self.engine.inventory().unwrap_or_default();
        for line in now.difference(&self.before) {
            let mut words = line.split(' ');
            if let (Some(what), Some(name)) = (words.next(), words.next()) {
                let force: &[&str] = if what == "network" { &[] } else { &["--force"] };
                self.engine.command(&[&[what, "rm"], force, &[name]].concat());
            }
        }
        let images = self.engine.images().unwrap_or_default();
        for line in images.difference(&self.images) {
            let (id, name) = line.split_once(' ').unwrap_or((line, ""));
            self.engine.command(&["rmi", "--force", if name.contains("<none>") { id } else { name }]);
        }
    }
}
