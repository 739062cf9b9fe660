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
    for _ in 0..rounds {
        let start = Instant::now();
        let command = format!("zstd -dc {archive} | docker -H {} load", engine.host);
        let done = Command::new("sh").args(["-c", &command]).output().expect("a shell");
        theirs.push(start.elapsed());
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let name = said.trim().rsplit(": ").next().expect("a name").to_owned();
        let id = engine.docker(&["image", "inspect", "--format", "{{.Id}}", &name]);
        settle(&engine, &name);

        let start = Instant::now();
        let mut child = Command::new("zstd").args(["-dc", &archive]).stdout(Stdio::piped()).spawn().expect("zstd");
        let mut stream = FileStream::new(child.stdout.take().expect("a pipe"), CHUNK_BYTES);
        let loaded = engine.store.load(&mut stream, Names::None, Limits::default()).await.expect("loaded");
        ours.push(start.elapsed());
        child.wait().expect("ended");
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
}

/// Removes an image and lets the disk come to rest.
fn settle(engine: &Engine, image: &str) {
    engine.docker(&["rmi", "-f", image]);
    assert!(Command::new("sync").status().expect("sync").success());
}
