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

use support::{Deployment, resident};
use tc_worker::content::{Artifact, Packing, open};

#[expect(dead_code, reason = "each bench needs some of it")]
mod support;

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
    let deployment = Deployment::start().await;
    let task_id = deployment.publish(archive, NAME).await;
    let bytes = std::fs::metadata(archive).expect("an archive").len();
    let url = deployment.url(&task_id, NAME);
    let queue = deployment.queue.clone();
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
    deployment.server.shutdown().await;
}
