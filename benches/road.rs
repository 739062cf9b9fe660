//! What the main road costs, as multiples of a floor that is measured in the same run.
//!
//! `cargo bench --profile ci --bench road` prints the table; it makes many small files, so `TMPDIR` should be on a fresh file
//! system. Rows: claim answered → first instruction (without and with 20 ms of network latency), no-op tasks a second at
//! capacity 8, memory of an idle worker after a claim over https.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    Deployment, millis, now_ns, percentile,
    relay::Relay,
    wait_for,
    worker::{BINARY, start_worker, worker},
};

#[expect(dead_code, reason = "each bench needs some of it")]
mod support;

/// Tasks a row: enough for a 99th percentile, or with `--smoke` just enough to see that it works.
struct Sizes {
    latency: usize,
    noop: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, path] = &arguments[..]
        && flag == "--stamp"
    {
        // The "first instruction" of a task: this program, started by the worker, notes the time.
        std::fs::write(path, now_ns().to_string()).expect("the stamp is written");
        return;
    }
    let smoke = arguments.iter().any(|argument| argument == "--smoke");
    let sizes = if smoke { Sizes { latency: 5, noop: 50 } } else { Sizes { latency: 100, noop: 2000 } };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        println!("| row | measured | floor in the same run | ratio or difference |");
        println!("|---|---|---|---|");
        first_instruction(Duration::ZERO, sizes.latency).await;
        first_instruction(Duration::from_millis(20), sizes.latency).await;
        noop_rate(sizes.noop).await;
        idle_memory();
    });
}

async fn first_instruction(latency: Duration, tasks: usize) {
    let bench = Deployment::start().await;
    let me = std::env::current_exe().expect("this program has a path");
    let relay = Relay::start(&bench, latency);
    let stamp = |i: usize| bench.dir.path().join(format!("stamp-{i}"));
    // The floor: the same program, started by this one.
    let mut floor = Vec::new();
    for _ in 0..tasks {
        let path = stamp(0);
        let began = now_ns();
        Command::new(&me).arg("--stamp").arg(&path).status().expect("started");
        floor.push(millis(read_stamp(&path) - i128::try_from(began).expect("small")));
    }
    let mut worker = worker(&bench, &relay.root_url(), &json!({ "numberOfTasksToRun": tasks }));
    let mut measured = Vec::new();
    for i in 0..tasks {
        // One at a time, so that each claim answer belongs to one task.
        let payload = json!({ "command": [[me, "--stamp", stamp(i)]], "maxRunTime": 60 });
        let task = bench.create(payload).await;
        bench.completed(&task).await;
        let answered = relay.passed().answered.clone();
        assert_eq!(answered.len(), i + 1, "one claim a task");
        measured.push(millis(read_stamp(&stamp(i)) - i128::try_from(answered[i]).expect("small")));
    }
    worker.wait().expect("the worker ends");
    floor.sort_by(f64::total_cmp);
    measured.sort_by(f64::total_cmp);
    let name = if latency.is_zero() { String::new() } else { format!(", {} ms network latency", latency.as_millis()) };
    for (label, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (m, f) = (percentile(&measured, share), percentile(&floor, share));
        println!("| claim answered → first instruction {label}{name} | {m:.2} ms | spawn {f:.2} ms | + {:.2} ms |", m - f);
    }
}

fn read_stamp(path: &Path) -> i128 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(stamp) = std::fs::read_to_string(path).ok().and_then(|text| text.parse().ok()) {
            return stamp;
        }
        assert!(Instant::now() < deadline, "no stamp at {}", path.display());
        std::thread::yield_now();
    }
}

async fn noop_rate(tasks: usize) {
    let bench = Deployment::start().await;
    let spawns = 500;
    let began = Instant::now();
    for _ in 0..spawns {
        Command::new("/bin/true").status().expect("started");
    }
    let floor = f64::from(spawns) / began.elapsed().as_secs_f64();
    let payload = json!({ "command": [["/bin/true"]], "maxRunTime": 60 });
    for _ in 0..tasks {
        bench.create(payload.clone()).await;
    }
    let began = Instant::now();
    let mut worker = worker(&bench, &bench.server.root_url(), &json!({ "numberOfTasksToRun": tasks, "capacity": 8 }));
    let status = tokio::task::spawn_blocking(move || worker.wait()).await.expect("joined").expect("the worker ends");
    assert!(status.success(), "{status}");
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let rate = tasks as f64 / began.elapsed().as_secs_f64();
    println!(
        "| no-op native tasks, capacity 8, queue in the same machine | {rate:.0} tasks/s | {floor:.0} spawns/s | {:.2} × |",
        rate / floor
    );
}

/// Memory of a worker that has claimed over https and waits. Certificates are the system's plus the test's own.
fn idle_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("| idle worker after a claim over https | not measured: openssl is needed to make a certificate | | |");
        return;
    }
    let env_file = dir.path().join("env");
    let mut queue = Command::new(BINARY)
        .args(["queue", "--port", "0", "--tls-cert"])
        .arg(&cert)
        .arg("--tls-key")
        .arg(&key)
        .arg("--env-file")
        .arg(&env_file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the queue starts");
    let exported = wait_for(|| std::fs::read_to_string(&env_file).ok().filter(|text| text.contains("ACCESS_TOKEN=")));
    let value = |name: &str| {
        let line = exported.lines().find_map(|line| line.split_once(&format!("{name}="))).expect("exported").1;
        line.trim_matches(['\'', '"']).to_owned()
    };
    let root_url = value("TASKCLUSTER_ROOT_URL");
    let overrides =
        json!({ "clientId": value("TASKCLUSTER_CLIENT_ID"), "tcWorker": { "caFile": cert }, "numberOfTasksToRun": 0 });
    let mut worker = start_worker(dir.path(), &root_url, &value("TASKCLUSTER_ACCESS_TOKEN"), &overrides);
    let log: PathBuf = dir.path().join("worker/log");
    wait_for(|| std::fs::read_to_string(&log).ok().filter(|text| text.contains("workerReady")));
    // The call is open when its connection is; then nothing more happens until a task comes.
    let pid = worker.id();
    let memory = wait_for(|| {
        let connected = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .ok()?
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|link| link.to_string_lossy().starts_with("socket:")));
        if !connected {
            return None;
        }
        std::thread::sleep(Duration::from_secs(3));
        std::fs::read_to_string(format!("/proc/{pid}/status")).ok()
    });
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(!said.contains("Could not claim work"), "the claim did not get through:\n{said}");
    let kib = |name: &str| -> f64 {
        let line = memory.lines().find(|line| line.starts_with(name)).unwrap_or("0 0");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0)
    };
    println!(
        "| idle worker with an open claim over https | {:.1} MB anonymous, {:.1} MB resident | | budget 4 MB, 13 MB |",
        kib("RssAnon:") / 1024.0,
        kib("VmRSS:") / 1024.0
    );
    for child in [&mut worker, &mut queue] {
        drop(child.kill());
        drop(child.wait());
    }
}
