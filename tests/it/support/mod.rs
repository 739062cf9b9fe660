//! A deployment in miniature: the embedded queue on loopback, real worker processes, and a client that looks at both.

pub mod proxy;

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tc_worker::{
    api::{Credentials, CredentialsCell, HttpTransport, Queue, Secret, Services, TaskStatus},
    local::{Options, Server},
    seam::{SystemClock, SystemRandom, slugid},
};
use tempfile::TempDir;

/// The worker's binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tc-worker");
/// Longest that a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A queue of its own for one test.
pub struct Deployment {
    /// The server, in this process.
    pub server: Server,
    /// Speaks to it with all scopes.
    pub queue: Queue,
    /// Everything of the test on disk.
    pub dir: TempDir,
    access_token: String,
}

/// What is to be different from the usual configuration.
pub type Overrides = Value;

impl Deployment {
    /// A queue with the usual claim timeout of 20 minutes.
    pub async fn start() -> Self {
        Self::with_claim_timeout(Duration::from_secs(1200)).await
    }

    /// A queue whose claims last this long.
    pub async fn with_claim_timeout(claim_timeout: Duration) -> Self {
        Self::with(|options| options.claim_timeout = claim_timeout).await
    }

    /// A queue whose options are changed before it starts.
    pub async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let access_token = slugid(&SystemRandom);
        let mut options = Options::new(dir.path().join("store"), ("tester".to_owned(), access_token.clone()));
        change(&mut options);
        let server = Server::start(options).await.expect("the queue starts");
        let transport = Arc::new(HttpTransport::new(None, true).expect("a transport"));
        let services = Services::new(&server.root_url(), transport, Arc::new(SystemClock), Arc::new(SystemRandom))
            .expect("the root URL is one");
        let credentials =
            Credentials { client_id: "tester".to_owned(), access_token: Secret::new(access_token.clone()), certificate: None };
        let queue = services.queue(CredentialsCell::new(credentials));
        Self { server, queue, dir, access_token }
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        self.server.root_url().trim_start_matches("http://").trim_end_matches('/').to_owned()
    }

    /// Creates a task with this payload and returns its id.
    pub async fn create(&self, payload: Value) -> String {
        self.create_with(payload, json!({})).await
    }

    /// Creates a task with this payload and these properties of its definition.
    pub async fn create_with(&self, payload: Value, properties: Value) -> String {
        let task_id = slugid(&SystemRandom);
        let now = jiff::Timestamp::now();
        let at = |hours: i64| (now + jiff::SignedDuration::from_hours(hours)).to_string();
        let mut definition = json!({
            "provisionerId": "tests",
            "workerType": "it",
            "created": now.to_string(),
            "deadline": at(1),
            "expires": at(24),
            "payload": payload,
            "metadata": {
                "name": "a test", "description": "made by a test", "owner": "nobody@example.com", "source": "https://example.com/"
            },
        });
        for (key, value) in properties.as_object().expect("an object") {
            definition[key] = value.clone();
        }
        self.queue.create_task(&task_id, &definition).await.expect("the task is created");
        task_id
    }

    /// Writes a configuration and starts a worker with it.
    pub fn worker(&self, overrides: Overrides) -> Worker {
        self.worker_at(&self.server.root_url(), overrides)
    }

    /// As [`Deployment::worker`], with another root URL.
    pub fn worker_at(&self, root_url: &str, overrides: Overrides) -> Worker {
        self.worker_with(root_url, overrides, &[])
    }

    /// As [`Deployment::worker_at`], with variables in the worker's environment.
    #[expect(clippy::needless_pass_by_value, reason = "a literal at each of the many places of use")]
    pub fn worker_with(&self, root_url: &str, overrides: Overrides, env: &[(&str, &str)]) -> Worker {
        let home = tempfile::Builder::new().prefix("worker-").tempdir_in(self.dir.path()).expect("a directory");
        let path = home.path().join("worker.json");
        std::fs::write(&path, self.config(home.path(), root_url, &overrides).to_string()).expect("the configuration");
        Worker::start(home, &["run", "--config", path.to_str().expect("UTF-8")], env)
    }

    /// The usual configuration.
    pub fn config(&self, home: &Path, root_url: &str, overrides: &Overrides) -> Value {
        let mut config = json!({
            "rootURL": root_url,
            "clientId": "tester",
            "accessToken": self.access_token,
            "provisionerId": "tests",
            "workerType": "it",
            "workerGroup": "loopback",
            "workerId": "one",
            "ed25519SigningKeyLocation": home.join("key"),
            "tasksDir": home.join("tasks"),
            "cachesDir": home.join("caches"),
            "downloadsDir": home.join("downloads"),
            "requiredDiskSpaceMegabytes": 1,
            "numberOfTasksToRun": 1,
            "tcWorker": { "stateDir": home.join("state"), "cancelPollSecs": 0 },
        });
        for (key, value) in overrides.as_object().expect("an object") {
            match (config.get_mut(key).and_then(Value::as_object_mut), value.as_object()) {
                (Some(object), Some(changes)) => object.extend(changes.clone()),
                _ => config[key] = value.clone(),
            }
        }
        config
    }

    /// The status of a task, as the queue tells it.
    pub async fn status(&self, task_id: &str) -> TaskStatus {
        self.queue.status(task_id).await.expect("the queue tells the status")
    }

    /// Waits until the run of a task satisfies a condition.
    pub async fn wait_for(&self, task_id: &str, what: &str, condition: impl Fn(&TaskStatus) -> bool) -> TaskStatus {
        until_some(what, async || Some(self.status(task_id).await).filter(|status| condition(status))).await
    }

    /// Waits until the task is resolved, and returns `state/reasonResolved` of its last run.
    pub async fn resolution(&self, task_id: &str) -> String {
        let status = self
            .wait_for(task_id, "the task is resolved", |s| ["completed", "failed", "exception"].contains(&s.state.as_str()))
            .await;
        resolution(&status)
    }

    /// Content of an artifact, decoded.
    pub fn artifact(&self, task_id: &str, name: &str) -> Option<Vec<u8>> {
        let stored = self.server.published(task_id);
        let mut found = stored.iter().filter(|a| a.name == name).max_by_key(|a| a.run_id)?;
        if found.storage_type == "link" {
            let target = found.target.as_deref()?;
            found = stored.iter().find(|a| a.name == target && a.run_id == found.run_id)?;
        }
        let bytes = std::fs::read(found.path.as_ref()?).expect("a stored artifact is readable");
        if found.content_encoding.as_deref() != Some("gzip") {
            return Some(bytes);
        }
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).expect("gzip");
        Some(plain)
    }

    /// The backing log of a task.
    pub fn log(&self, task_id: &str) -> String {
        let bytes = self.artifact(task_id, "public/logs/live_backing.log").expect("a backing log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Names and storage types of all artifacts of a task.
    pub fn artifacts(&self, task_id: &str) -> BTreeMap<String, String> {
        self.server.published(task_id).into_iter().map(|a| (a.name, a.storage_type.to_owned())).collect()
    }
}

/// `state/reasonResolved` of the last run.
pub fn resolution(status: &TaskStatus) -> String {
    let run = status.runs.last().expect("a run");
    format!("{}/{}", run.state, run.reason_resolved.as_deref().unwrap_or("-"))
}

/// A worker process; it is killed when the test drops it.
pub struct Worker {
    child: Child,
    home: Arc<TempDir>,
    arguments: Vec<String>,
    env: Vec<(String, String)>,
}

impl Worker {
    /// Starts the binary in a directory of its own.
    pub fn start(home: TempDir, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_in(Arc::new(home), arguments, env)
    }

    /// Starts it again, in the same directory, with the same arguments and the same variables.
    pub fn again(&self) -> Self {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let env: Vec<(&str, &str)> = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Self::start_in(Arc::clone(&self.home), &arguments, &env)
    }

    fn start_in(home: Arc<TempDir>, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let output = |name: &str| Stdio::from(std::fs::File::create(home.path().join(name)).expect("an output file"));
        let child = Command::new(BINARY)
            .args(arguments)
            .envs(env.iter().copied())
            .env("TMPDIR", home.path())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("the worker starts");
        let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { child, home, arguments: arguments.iter().map(|&a| a.to_owned()).collect(), env }
    }

    /// Its directory.
    pub fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// Its log so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.home.path().join("stderr")).unwrap_or_default()).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        // Until we wait for it, its process id stays its own.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal);
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the worker does not end; its log:\n{}", self.stderr());
            pause().await;
        }
    }

    /// Waits for its end and returns its exit code.
    pub async fn code(&mut self) -> Option<i32> {
        self.wait().await.code()
    }

    /// Waits until its log contains a text.
    pub async fn says(&self, text: &str) {
        until(&format!("the worker says {text:?}"), async || self.stderr().contains(text)).await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- log of the worker ---\n{}", self.stderr());
        }
    }
}

/// Between two looks at a condition.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// Waits for a condition.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    until_some(what, async || condition().await.then_some(())).await;
}

/// Waits for a value.
pub async fn until_some<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long until {what}");
        pause().await;
    }
}

/// A payload that runs a shell script.
pub fn script(text: &str) -> Value {
    json!({ "command": [["/bin/bash", "-c", text]], "maxRunTime": 60 })
}
