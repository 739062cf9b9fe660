//! What it costs to publish what a container has left, beside `docker cp … - | curl -T -` in the same run.
//!
//! `cargo bench --profile ci --bench artifacts` prints the table. It needs the `docker` command, `curl`, and an engine with the image
//! `busybox:latest` in `TC_DOCKER_GRAPH`, `TC_DOCKER_CLASSIC` or `TC_DOCKER_CONTAINERD`. The store is a server in this process that
//! counts bytes and drops them.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use async_trait::async_trait;
use axum::{Router, body::Body, extract::Path, routing};
use http_body_util::BodyExt as _;
use serde_json::json;
use tc_engine::{EngineError, Entry, Gone, Kind, Quiet};
use tc_engine_docker::{Connection, archive::Archive};
use tc_payload::native::ArtifactSpec;
use tc_worker::{
    api::{Credentials, CredentialsCell, HttpTransport, Secret, Services},
    artifact::{Ending, Surroundings, Target, collect},
    seam::{SystemClock, SystemRandom},
};
use tokio::sync::mpsc;

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let hosts = ["TC_DOCKER_GRAPH", "TC_DOCKER_CLASSIC", "TC_DOCKER_CONTAINERD"];
    let Some(host) = hosts.into_iter().find_map(|name| std::env::var(name).ok()) else {
        return println!("NOT RUN: no variable names a Docker engine");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(measure(&host, if smoke { 8 } else { 1024 }));
}

/// A container that has run, and goes with this value.
struct Ran {
    host: String,
    id: String,
}

impl Ran {
    fn script(host: &str, script: &str) -> Self {
        let docker = |arguments: &[&str]| {
            let output = Command::new("docker").args(["-H", host]).args(arguments).output().expect("docker runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        let label = "tc-bench=artifacts";
        let id = docker(&["create", "--label", label, "--network", "none", "-u", "0", "busybox:latest", "sh", "-ec", script]);
        let ran = Self { host: host.to_owned(), id };
        docker(&["start", "-a", &ran.id]);
        ran
    }

    /// `docker cp … - | what follows`, in seconds.
    fn floor(&self, path: &str, then: &str) -> f64 {
        let began = Instant::now();
        let line = format!("docker -H {} cp {}:{path} - | {then}", self.host, self.id);
        let status = Command::new("sh").args(["-c", &line]).stdout(Stdio::null()).status().expect("sh runs");
        assert!(status.success(), "{line}");
        began.elapsed().as_secs_f64()
    }
}

impl Drop for Ran {
    fn drop(&mut self) {
        let removed = Command::new("docker").args(["-H", &self.host, "rm", "-fv", &self.id]).output();
        assert!(removed.is_ok_and(|output| output.status.success()), "the container is removed");
    }
}

struct Container(Archive);

#[async_trait]
impl Quiet for Container {
    fn read(&self, path: &str, kind: Kind) -> mpsc::Receiver<Entry> {
        self.0.read(path, kind)
    }

    async fn destroy(self: Box<Self>, _keep_files: bool) -> Result<Gone, EngineError> {
        Ok(Gone::verified())
    }
}

/// A queue that gives URLs, and a store that drops what it is given.
async fn store() -> (Target, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let put_url = format!("{address}/store");
    let url = put_url.clone();
    let create = routing::post(move |Path(_): Path<(String, String, String)>, body: String| async move {
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        json!({ "storageType": "s3", "putUrl": url, "contentType": body["contentType"], "expires": body["expires"] })
            .to_string()
    });
    let put = routing::put(|mut body: Body| async move { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} });
    let routes = Router::new().route("/api/queue/v1/task/{task}/runs/{run}/artifacts/{name}", create).route("/store", put);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let transport = Arc::new(HttpTransport::new(None, true).expect("a transport"));
    let services = Services::new(&address, transport, Arc::new(SystemClock), Arc::new(SystemRandom)).expect("services");
    let credentials = Credentials { client_id: "c".to_owned(), access_token: Secret::new("t"), certificate: None };
    let queue = services.queue(CredentialsCell::new(credentials));
    (Target { queue, task_id: "fZ42HVdDQ-KFFycr9PxptA".to_owned(), run_id: 0, objects: false }, put_url)
}

/// Memory of this process in MiB: now, or at its highest since the last reset.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let found = status.lines().find_map(|l| l.strip_prefix(line)).expect("the line");
    found.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") / 1024
}

async fn measure(host: &str, mib: u32) {
    // Text that a compressor has to work for: a quarter of it goes.
    let script = format!(
        "mkdir -p /one /large /medium /small; dd if=/dev/urandom bs=1M count=6 2> /dev/null | base64 > /seed
         copy() {{ j=0; while [ $j -lt $2 ]; do cat /seed; j=$((j+8)); done | dd bs=1M count=$2 iflag=fullblock 2> /dev/null > $1; }}
         copy /one/file {mib}
         i=0; while [ $i -lt 4 ]; do copy /large/$i $(( {mib} / 4 )); i=$((i+1)); done
         i=0; while [ $i -lt $(( {mib} / 8 )) ]; do copy /medium/$i 8; i=$((i+1)); done
         copy /small-seed 1; head -c 100000 /small-seed > /small-seed2
         i=0; while [ $i -lt $(( {mib} * 4 )) ]; do cp /small-seed2 /small/$i; i=$((i+1)); done"
    );
    let ran = Ran::script(host, &script);
    let connection = Connection::open(host).await.expect("the engine answers");
    let (target, put_url) = store().await;
    let spool = tempfile::tempdir().expect("a directory");
    println!("| {mib} MiB | MB/s | floor, MB/s | ratio | memory over that at rest, MiB |");
    println!("|---|---|---|---|---|");
    for (what, kind, path, encoding) in [
        ("one file, as it is", "file", "/one/file", "identity"),
        ("one file, gzip", "file", "/one/file", "gzip"),
        ("4 files in a directory, as they are", "directory", "/large", "identity"),
        ("files of 8 MiB, as they are", "directory", "/medium", "identity"),
        ("files of 8 MiB, gzip", "directory", "/medium", "gzip"),
        ("files of 100 kB, as they are", "directory", "/small", "identity"),
    ] {
        let then = if encoding == "gzip" { format!("gzip -6 | curl -sT - {put_url}") } else { format!("curl -sT - {put_url}") };
        let floor = tokio::task::block_in_place(|| ran.floor(path, &then));
        let spec = json!([{ "type": kind, "path": path, "name": "public/x", "contentEncoding": encoding }]);
        let specs: Vec<ArtifactSpec> = serde_json::from_value(spec).expect("an artifact");
        let quiet = Container(Archive::new(connection.clone(), &ran.id, spool.path()));
        let surroundings = Surroundings {
            target: &target,
            expires: "2099-01-01T00:00:00Z".parse().expect("a date"),
            spool_dir: spool.path().to_owned(),
            is_taken: &|_| false,
        };
        std::fs::write("/proc/self/clear_refs", "5").expect("the highest is forgotten");
        let (before, began) = (memory("VmRSS:"), Instant::now());
        let collected = collect(&quiet, &specs, &surroundings).await;
        let took = began.elapsed().as_secs_f64();
        for row in &collected.rows {
            assert!(matches!(row.ending, Ending::Uploaded { .. }), "{}", row.name);
        }
        // What is copied is the same either way.
        let megabytes = f64::from(mib) * if path == "/small" { 0.4 } else { 1.048_576 };
        println!(
            "| {what} | {:.0} | {:.0} | {:.2} | {} |",
            megabytes / took,
            megabytes / floor,
            floor / took,
            memory("VmHWM:").saturating_sub(before)
        );
    }
}
