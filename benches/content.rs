//! What bringing an image costs up to the engine: download, digest and decompression of an archive that the embedded queue
//! serves, against `curl | zstd -dc` from the same server in the same run.
//!
//! `cargo bench --bench content -- ARCHIVE.tar.zst` prints the table; without an archive a small one is made up. The server is in
//! this process, for both.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tc_worker::{
    api::{Body, Credentials, CredentialsCell, HttpTransport, NewArtifact, Queue, Request, Resolution, Secret, Services},
    content::{Artifact, Packing, open},
    local::{Options, Server},
    seam::{SystemClock, SystemRandom, slugid},
};

/// How often each is measured; the best counts.
const ROUNDS: usize = 3;
const NAME: &str = "public/image.tar.zst";

fn main() {
    let archive = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let made_up = tempfile::NamedTempFile::new().expect("a file");
    let archive = archive.map_or_else(
        || {
            std::fs::write(made_up.path(), zstd::encode_all(&*words(), 3).expect("into memory")).expect("written");
            made_up.path().to_owned()
        },
        PathBuf::from,
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(measure(&archive));
}

/// 32 MB that compress about as well as programs do.
fn words() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let dictionary: Vec<[u8; 8]> = (0..4000).map(|_| next().to_le_bytes()).collect();
    (0..4 << 20).flat_map(|_| dictionary[usize::try_from(next() % 4000).unwrap_or_default()]).collect()
}

async fn measure(archive: &Path) {
    let dir = tempfile::tempdir().expect("a directory");
    let random = Arc::new(SystemRandom);
    let server =
        Server::start(Options { any_queue: true, ..Options::new(dir.path().to_owned(), ("bench".into(), "hush".into())) })
            .await
            .expect("a queue");
    let transport = Arc::new(HttpTransport::new(None, true).expect("a transport"));
    let services = Services::new(&server.root_url(), transport, Arc::new(SystemClock), random).expect("services");
    let credentials = Credentials { client_id: "bench".into(), access_token: Secret::new("hush"), certificate: None };
    let queue = services.queue(CredentialsCell::new(credentials));
    let task_id = publish(&queue, archive).await;
    let bytes = std::fs::metadata(archive).expect("an archive").len();
    let url = format!("{}/api/queue/v1/task/{task_id}/artifacts/{NAME}", server.root_url());
    let artifact = Artifact { queue, task_id, run_id: 0, name: NAME.to_owned() };
    let (mut ours, mut floor, mut unpacked) = (Duration::MAX, Duration::MAX, 0);
    for _ in 0..ROUNDS {
        let pipe = format!("curl -sfL '{url}' | zstd -dc --long=27 > /dev/null");
        let began = Instant::now();
        let status = tokio::task::spawn_blocking(move || {
            Command::new("bash").args(["-o", "pipefail", "-c", &pipe]).stdin(Stdio::null()).status().expect("bash")
        });
        assert!(status.await.expect("no panic").success());
        floor = floor.min(began.elapsed());
        let began = Instant::now();
        let mut stream = open(Arc::new(artifact.clone()), Packing::Unpack);
        unpacked = 0;
        while let Some(piece) = stream.next().await.expect("bytes") {
            unpacked += piece.len() as u64;
        }
        ours = ours.min(began.elapsed());
        assert!(stream.sha256().is_some() && stream.fetched().0 == bytes);
    }
    let speed = |time: Duration| {
        let per_second = u128::from(unpacked) / time.as_micros().max(1);
        format!("{:.2} s, {per_second} MB/s", time.as_secs_f64())
    };
    println!("| archive | fetched, hashed, unpacked | curl \\| zstd -dc | ratio | resident at most |");
    println!("|---|---|---|---|---|");
    println!(
        "| {} MB, {} MB unpacked | {} | {} | {:.2} | {} |",
        bytes / 1_000_000,
        unpacked / 1_000_000,
        speed(ours),
        speed(floor),
        ours.as_secs_f64() / floor.as_secs_f64(),
        resident()
    );
    server.shutdown().await;
}

/// A completed task that has the archive as its artifact.
async fn publish(queue: &Queue, archive: &Path) -> String {
    let now = jiff::Timestamp::now();
    let at = |hours| format!("{:.3}", now + jiff::SignedDuration::from_hours(hours));
    let definition = json!({
        "taskQueueId": "a/b", "created": at(0), "deadline": at(1), "expires": at(2), "payload": {},
        "metadata": { "name": "n", "description": "d", "owner": "o", "source": "https://example.com" },
    });
    let task_id = slugid(&SystemRandom);
    queue.create_task(&task_id, &definition).await.expect("created");
    let claim = queue.claim_work("a/b", "g", "w", 1).await.expect("an answer").pop().expect("a claim");
    let run = queue.services().queue(CredentialsCell::new(claim.credentials.clone()));
    let length = std::fs::metadata(archive).expect("an archive").len();
    let (content_type, expires) = ("application/zstd".to_owned(), claim.task.expires);
    let artifact = NewArtifact::S3 { content_type, content_length: length, expires };
    let answer = run.create_artifact(&task_id, 0, NAME, &artifact).await.expect("created");
    let file = tokio::fs::File::open(archive).await.expect("an archive");
    let stream = Box::pin(tokio_util::io::ReaderStream::with_capacity(file, 256 << 10));
    let request = Request {
        method: http::Method::PUT,
        url: answer.put_url.expect("a URL").expose().to_owned(),
        headers: [(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/zstd"))].into_iter().collect(),
        body: Body::Stream { stream, length },
        timeout: Duration::from_secs(600),
        answer_bytes: 1000,
    };
    assert_eq!(queue.services().transport().send(request).await.expect("an answer").status, 200);
    run.report(&task_id, 0, Resolution::Completed).await.expect("resolved");
    task_id
}

/// Peak memory of this process, server included.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim().to_owned()
}
