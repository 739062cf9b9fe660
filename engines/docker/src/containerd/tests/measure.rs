//! How long an image takes by this road and by the engine's own, in one run.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::engine::{Engine, FileStream, engine};
use crate::containerd::{Limits, Names};

/// What the stream of a real download gives at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// `zstd -dc` of the archive that `TC_DOCKER_MEASURE` names, into both, by turns. Prints seconds.
#[tokio::test(flavor = "multi_thread")]
async fn both_roads_in_turns() {
    // Not a test of anything: it is run by hand, and takes minutes.
    let Ok(archive) = std::env::var("TC_DOCKER_MEASURE") else { return };
    let Some(engine) = engine("both_roads_in_turns").await else { return };
    let rounds = std::env::var("TC_DOCKER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    let daemon = crate::containerd::peer(engine.host.trim_start_matches("unix://")).await;
    let cpu = || [engine.store.pid, daemon].into_iter().flatten().chain([0]).map(cpu_secs).sum::<f64>();
    let mut used = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let before = cpu();
        let start = Instant::now();
        let command = format!("zstd -dc {archive} | docker -H {} load", engine.host);
        let done = Command::new("sh").args(["-c", &command]).output().expect("a shell");
        theirs.push(start.elapsed());
        used.0.push(cpu() - before);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let name = said.trim().rsplit(": ").next().expect("a name").to_owned();
        let id = engine.docker(&["image", "inspect", "--format", "{{.Id}}", &name]);
        settle(&engine, &name);

        let before = cpu();
        let start = Instant::now();
        let mut child = Command::new("zstd").args(["-dc", &archive]).stdout(Stdio::piped()).spawn().expect("zstd");
        let mut stream = FileStream::new(child.stdout.take().expect("a pipe"), CHUNK_BYTES);
        let loaded = engine.store.load(&mut stream, Names::None, Limits::default()).await.expect("loaded");
        ours.push(start.elapsed());
        child.wait().expect("ended");
        used.1.push(cpu() - before);
        assert_eq!(loaded.id, id);
        println!("{loaded:?} {}", engine.docker(&["run", "--rm", "--network", "none", &loaded.id, "true"]));

        let start = Instant::now();
        let mut child = Command::new("zstd").args(["-dc", &archive]).stdout(Stdio::piped()).spawn().expect("zstd");
        let mut stream = FileStream::new(child.stdout.take().expect("a pipe"), CHUNK_BYTES);
        let again = engine.store.load(&mut stream, Names::None, Limits::default()).await.expect("loaded");
        println!("again, all layers there: {:.2} s {again:?}", start.elapsed().as_secs_f64());
        child.wait().expect("ended");
        settle(&engine, &loaded.id);
    }
    let text = |times: &[Duration]| times.iter().map(|time| format!("{:.2}", time.as_secs_f64())).collect::<Vec<_>>().join(" ");
    println!("docker load: {} s; past the engine: {} s", text(&theirs), text(&ours));
    println!("of all processors, engine and containerd included: {:.2?} s; {:.2?} s", used.0, used.1);
}

/// Time on the processor of a process, or of this one and its children that have ended.
fn cpu_secs(pid: i32) -> f64 {
    let path = if pid == 0 { "/proc/self/stat".to_owned() } else { format!("/proc/{pid}/stat") };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time; for this process also those of its children. In hundredths of a second.
    let ticks: u32 = fields.skip(11).take(if pid == 0 { 4 } else { 2 }).filter_map(|field| field.parse::<u32>().ok()).sum();
    f64::from(ticks) / 100.0
}

/// Removes an image and lets the disk come to rest.
fn settle(engine: &Engine, image: &str) {
    engine.docker(&["rmi", "-f", image]);
    assert!(Command::new("sync").status().expect("sync").success());
}

/// Loads the archive that `TC_DOCKER_LOAD` names and leaves it there, for a look by hand.
#[tokio::test(flavor = "multi_thread")]
async fn one_image_by_hand() {
    let Ok(archive) = std::env::var("TC_DOCKER_LOAD") else { return };
    let Some(engine) = engine("one_image_by_hand").await else { return };
    let file = std::fs::File::open(archive).expect("an archive");
    let loaded = engine.store.load(&mut FileStream::new(file, CHUNK_BYTES), Names::Archive, Limits::default()).await;
    println!("{:?}", loaded.expect("loaded"));
}
