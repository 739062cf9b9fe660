//! What several benches need: a deployment in this process, programs beside it, relays that note what passes, figures of a list.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tc_worker::{
    api::{Body, Credentials, CredentialsCell, HttpTransport, NewArtifact, Queue, Request, Resolution, Secret, Services},
    local::{Options, Server},
    seam::{SystemClock, SystemRandom, slugid},
};
use tempfile::TempDir;

pub mod calls;
pub mod relay;
pub mod worker;

/// A queue in this process and a client of it.
pub struct Deployment {
    pub server: Server,
    pub queue: Queue,
    pub dir: TempDir,
    pub token: String,
}

impl Deployment {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let token = slugid(&SystemRandom);
        let options = Options::new(dir.path().join("store"), ("bench".to_owned(), token.clone()));
        let server = Server::start(options).await.expect("the queue starts");
        let transport = Arc::new(HttpTransport::new(None, true).expect("a transport"));
        let services =
            Services::new(&server.root_url(), transport, Arc::new(SystemClock), Arc::new(SystemRandom)).expect("a root URL");
        let credentials =
            Credentials { client_id: "bench".to_owned(), access_token: Secret::new(token.clone()), certificate: None };
        let queue = services.queue(CredentialsCell::new(credentials));
        Self { server, queue, dir, token }
    }

    pub async fn create(&self, payload: Value) -> String {
        let task_id = slugid(&SystemRandom);
        let now = jiff::Timestamp::now();
        let at = |hours: i64| (now + jiff::SignedDuration::from_hours(hours)).to_string();
        let definition = json!({
            "provisionerId": "benches", "workerType": "road", "created": now.to_string(), "deadline": at(1), "expires": at(24),
            "payload": payload,
            "metadata": { "name": "bench", "description": "bench", "owner": "nobody@example.com", "source": "https://example.com/" },
        });
        self.queue.create_task(&task_id, &definition).await.expect("created");
        task_id
    }

    /// Waits until a task has completed.
    pub async fn completed(&self, task: &str) {
        loop {
            let status = self.queue.status(task).await.expect("a status");
            if status.state == "completed" {
                break;
            }
            assert!(["pending", "running"].contains(&status.state.as_str()), "{}", status.state);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A completed task that has this file as its artifact.
    pub async fn publish(&self, file: &Path, name: &str) -> String {
        let task_id = self.create(json!({})).await;
        let claim = self.queue.claim_work("benches/road", "g", "w", 1).await.expect("an answer").pop().expect("a claim");
        let run = self.queue.services().queue(CredentialsCell::new(claim.credentials.clone()));
        let length = std::fs::metadata(file).expect("a file").len();
        let (content_type, expires) = ("application/zstd".to_owned(), claim.task.expires);
        let artifact = NewArtifact::S3 { content_type, content_length: length, expires };
        let answer = run.create_artifact(&task_id, 0, name, &artifact).await.expect("created");
        let bytes = tokio::fs::File::open(file).await.expect("a file");
        let stream = Box::pin(tokio_util::io::ReaderStream::with_capacity(bytes, 256 << 10));
        let request = Request {
            method: http::Method::PUT,
            url: answer.put_url.expect("a URL").expose().to_owned(),
            headers: [(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/zstd"))].into_iter().collect(),
            body: Body::Stream { stream, length },
            timeout: Duration::from_secs(600),
            answer_bytes: 1000,
        };
        assert_eq!(self.queue.services().transport().send(request).await.expect("an answer").status, 200);
        run.report(&task_id, 0, Resolution::Completed).await.expect("resolved");
        task_id
    }

    /// Where an artifact that was published is downloaded from.
    pub fn url(&self, task_id: &str, name: &str) -> String {
        format!("{}/api/queue/v1/task/{task_id}/artifacts/{name}", self.server.root_url())
    }
}

/// What a script of the shell writes, off the runtime's threads. It has to succeed.
pub async fn shell(script: impl Into<String>) -> String {
    let script = script.into();
    let run = move || {
        let output =
            Command::new("bash").args(["-euo", "pipefail", "-c", &script]).stdin(Stdio::null()).output().expect("bash");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

/// Hosts of the Docker engines that the environment names, each with what is special about it.
pub fn engines() -> Vec<(&'static str, String)> {
    let kinds = [
        ("20.10", "TC_DOCKER_CLASSIC"),
        ("28.5, graph driver", "TC_DOCKER_GRAPH"),
        ("28.5, containerd", "TC_DOCKER_CONTAINERD"),
    ];
    kinds.into_iter().filter_map(|(kind, variable)| Some((kind, std::env::var(variable).ok()?))).collect()
}

/// Nanoseconds since 1970, which processes of one machine agree on.
pub fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos()
}

/// A difference of two such times.
#[expect(clippy::cast_precision_loss, reason = "differences of times are small")]
pub fn millis(ns: i128) -> f64 {
    ns as f64 / 1e6
}

/// Looks again and again until something is there. Blocks.
pub fn wait_for<T>(look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The value that this share of a sorted list does not exceed.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small numbers")]
    let index = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[index]
}

/// The median of durations, in seconds.
pub fn middle(times: &[Duration]) -> f64 {
    let mut seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    percentile(&seconds, 0.5)
}

/// Peak memory of this process, server included.
pub fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim().to_owned()
}
