//! What the embedded queue can do: calls a second, and how it bears many tasks.
//!
//! `cargo bench --profile ci --bench queue` prints the table; `--smoke` only shows that it works. The server is a process of its own, the client
//! is this one, and both share the machine's cores, so the client speaks plain sockets and parses no more than it has to. Every call is signed:
//! creations and claims by the root client, reports with the credentials of the run, as workers do it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::json;
use tc_worker::{
    api::{Credentials, Secret, hawk},
    seam::{SystemRandom, slugid},
};

const BINARY: &str = env!("CARGO_BIN_EXE_tc-worker");
const CONNECTIONS: usize = 16;

struct Sizes {
    seconds: f64,
    tasks: usize,
    claims: usize,
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let sizes = if smoke {
        Sizes { seconds: 0.5, tasks: 1000, claims: 100 }
    } else {
        Sizes { seconds: 8.0, tasks: 100_000, claims: 2000 }
    };
    println!("Load of the machine before: {}", load());
    println!();
    println!("| row | measured | budget |");
    println!("|---|---|---|");
    let dir = tempfile::tempdir().expect("a directory");
    calls_without_work(sizes.seconds / 2.0);
    cycles("in memory", None, sizes.seconds, "≥ 2000/s");
    cycles("with a data directory", Some(&dir.path().join("cycles")), sizes.seconds, "");
    many("in memory", None, &sizes);
    many("with a data directory", Some(&dir.path().join("many")), &sizes);
    println!();
    println!("Load of the machine after: {}", load());
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// A `tc-worker queue`.
struct Server {
    child: Child,
    port: u16,
    root: Arc<Credentials>,
    started_in: Duration,
}

impl Server {
    fn start(data: Option<&Path>) -> Self {
        let began = Instant::now();
        let mut command = Command::new(BINARY);
        command.arg("queue");
        if let Some(data) = data {
            command.arg("--data-dir").arg(data);
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the queue starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().take(3);
        let values: Vec<String> =
            lines.map(|line| line.expect("a line").split_once('=').expect("a variable").1.to_owned()).collect();
        let [url, client_id, token] = values.try_into().expect("three variables");
        let root = Credentials { client_id, access_token: Secret::new(token), certificate: None };
        let port = url.rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok()).expect("a port");
        let mut server = Self { child, port, root: Arc::new(root), started_in: Duration::ZERO };
        server.wire().call("GET", "/api/queue/v1/ping", "");
        server.started_in = began.elapsed();
        server
    }

    fn wire(&self) -> Wire {
        Wire::connect(self.port, Arc::clone(&self.root))
    }

    /// Seconds that the process has spent on the processor.
    fn busy_secs(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        (ticks(11) + ticks(12)) / 100.0
    }

    /// A line of the process's status, in megabytes.
    fn megabytes(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    }

    fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One connection.
struct Wire {
    stream: TcpStream,
    port: u16,
    root: Arc<Credentials>,
    nonce: u64,
    name: String,
    answer: Vec<u8>,
}

#[derive(Deserialize)]
struct Claims {
    tasks: Vec<Claim>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claim {
    status: Status,
    run_id: u32,
    credentials: RunCredentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    task_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunCredentials {
    client_id: String,
    access_token: String,
    certificate: String,
}

impl Wire {
    fn connect(port: u16, root: Arc<Credentials>) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the queue listens");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, port, root, nonce: 0, name: slugid(&SystemRandom)[..8].to_owned(), answer: Vec::new() }
    }

    fn call(&mut self, method: &str, resource: &str, body: &str) -> &[u8] {
        let root = Arc::clone(&self.root);
        self.call_as(&root, method, resource, body)
    }

    /// The body of an answer that has to be a good one.
    fn call_as(&mut self, who: &Credentials, method: &str, resource: &str, body: &str) -> &[u8] {
        self.nonce += 1;
        let nonce = format!("{}{}", self.name, self.nonce);
        let ext = hawk::ext(who, None).expect("a certificate");
        let target = hawk::Target { method, resource, host: "127.0.0.1", port: self.port };
        let signature = hawk::header(target, who, jiff::Timestamp::now().as_second(), &nonce, &ext);
        let request = format!(
            "{method} {resource} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nauthorization: {signature}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).expect("sent");
        self.answer.clear();
        let mut buffer = [0; 16 * 1024];
        let (head, length) = loop {
            let n = self.stream.read(&mut buffer).expect("an answer");
            assert!(n > 0, "the connection ended");
            self.answer.extend_from_slice(&buffer[..n]);
            if let Some(end) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.answer[..end]).expect("text");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
                assert!(head.starts_with("HTTP/1.1 200"), "{method} {resource}: {}", String::from_utf8_lossy(&self.answer));
                break (end + 4, length.parse::<usize>().expect("a number"));
            }
        };
        while self.answer.len() < head + length {
            let n = self.stream.read(&mut buffer).expect("the rest");
            self.answer.extend_from_slice(&buffer[..n]);
        }
        &self.answer[head..]
    }

    fn create(&mut self) {
        let id = slugid(&SystemRandom);
        let body = definition();
        self.call("PUT", &format!("/api/queue/v1/task/{id}"), &body);
    }

    fn claim(&mut self) -> Vec<Claim> {
        let body = r#"{"workerGroup":"bench","workerId":"one","tasks":1}"#;
        let answer = self.call("POST", "/api/queue/v1/claim-work/benches%2Fqueue", body);
        serde_json::from_slice::<Claims>(answer).expect("claims").tasks
    }

    fn report(&mut self, claim: Claim) {
        let Claim { status, run_id, credentials } = claim;
        let who = Credentials {
            client_id: credentials.client_id,
            access_token: Secret::new(credentials.access_token),
            certificate: Some(Secret::new(credentials.certificate)),
        };
        self.call_as(&who, "POST", &format!("/api/queue/v1/task/{}/runs/{run_id}/completed", status.task_id), "");
    }
}

/// As small as definitions of real builds' smallest tasks.
fn definition() -> String {
    let now = jiff::Timestamp::now();
    let at = |hours: i64| format!("{:.3}", now + jiff::SignedDuration::from_hours(hours));
    json!({
        "taskQueueId": "benches/queue", "schedulerId": "bench", "created": at(0), "deadline": at(24), "expires": at(48),
        "scopes": ["queue:scheduler-id:bench"], "tags": { "kind": "noop", "label": "noop-task" },
        "payload": { "command": [["/bin/true"]], "maxRunTime": 600, "env": { "MOZ_BUILD_DATE": "20260101000000" } },
        "metadata": { "name": "noop", "description": "A task that does nothing", "owner": "nobody@example.com", "source": "https://example.com/" },
    })
    .to_string()
}

/// Lets every connection do this until the time is over; returns how often it was done in a second, and microseconds of the server's processor
/// for each.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn rate(server: &Server, seconds: f64, act: impl Fn(&mut Wire) + Sync) -> (f64, f64) {
    let (count, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let busy = server.busy_secs();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut wire = server.wire();
                while !over.load(Ordering::Relaxed) {
                    act(&mut wire);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_secs_f64(seconds));
        over.store(true, Ordering::Relaxed);
    });
    let count = count.load(Ordering::Relaxed) as f64;
    (count / began.elapsed().as_secs_f64(), (server.busy_secs() - busy) / count * 1e6)
}

fn calls_without_work(seconds: f64) {
    let server = Server::start(None);
    let (rate, busy) = rate(&server, seconds, |wire| {
        wire.call("GET", "/api/queue/v1/ping", "");
    });
    println!("| signed `ping`, {CONNECTIONS} connections (the floor) | {rate:.0}/s, {busy:.0} µs of the server each | |");
}

fn cycles(how: &str, data: Option<&Path>, seconds: f64, budget: &str) {
    let server = Server::start(data);
    let (rate, busy) = rate(&server, seconds, |wire| {
        wire.create();
        for claim in wire.claim() {
            wire.report(claim);
        }
    });
    println!(
        "| create + claim + report, {CONNECTIONS} connections, {how} | {rate:.0}/s, {busy:.0} µs of the server each | {budget} |"
    );
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

fn many(how: &str, data: Option<&Path>, sizes: &Sizes) {
    let server = Server::start(data);
    let left = AtomicUsize::new(sizes.tasks);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut wire = server.wire();
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    wire.create();
                }
            });
        }
    });
    memory(&server, &format!("{} tasks {how}", sizes.tasks));
    claims(&server, &format!("with {} tasks {how}", sizes.tasks), sizes.claims);
    let Some(data) = data else { return };
    server.kill();
    let server = Server::start(Some(data));
    started(&server, &format!("after kill -9, {} tasks", sizes.tasks));
    memory(&server, &format!("{} tasks after that", sizes.tasks));
    claims(&server, "after that", sizes.claims / 4);
    let pid = nix::unistd::Pid::from_raw(server.child.id().try_into().expect("a process id"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("asked to end");
    let mut server = server;
    server.child.wait().expect("it ends");
    let server = Server::start(Some(data));
    started(&server, &format!("after a clean end, {} tasks", sizes.tasks));
    let files = std::fs::metadata(data.join("ledger.redb")).map_or(0, |file| file.len());
    println!("| ledger on disk | {} MB | |", files >> 20);
}

fn started(server: &Server, when: &str) {
    println!("| start until `ping` is answered, {when} | {:.0} ms | ≤ 1000 ms |", server.started_in.as_secs_f64() * 1e3);
}

fn memory(server: &Server, when: &str) {
    let (resident, own) = (server.megabytes("VmRSS"), server.megabytes("RssAnon"));
    println!("| resident, {when} | {resident:.0} MB, {own:.0} of them its own | ≤ 200 MB |");
}

fn claims(server: &Server, when: &str, count: usize) {
    let mut wire = server.wire();
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(wire.claim().len(), 1, "a claim");
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("| claim, {when} | p50 {:.2} ms, p99 {:.2} ms | ≤ 5 ms |", percentile(&times, 50), percentile(&times, 99));
}
