//! The suite's archives, loaded by us.

use std::fs::File;

use super::engine::{FileStream, engine, images, not_run};
use crate::containerd::{Limits, Names};

#[tokio::test(flavor = "multi_thread")]
async fn archives_in_every_form_run() {
    let name = "archives_in_every_form_run";
    let Some(engine) = engine(name).await else { return };
    let Some(dir) = images() else { return not_run(name, "no archives (TC_DOCKER_IMAGES)") };
    for form in ["busybox", "legacy", "kaniko", "untagged", "tagged", "stacked", "absolute", "dangling"] {
        let file = File::open(dir.join(format!("{form}.tar"))).expect("an archive");
        let loaded = engine.store.load(&mut FileStream::new(file, 10_000), Names::None, Limits::default()).await;
        let loaded = loaded.unwrap_or_else(|error| panic!("{form}: {error}"));
        println!("{form}: {loaded:?}");
        let said = engine.docker(&["run", "--rm", &loaded.id, "cat", "/srv/notes.txt"]);
        println!("{said}");
        println!("{}", engine.docker(&["inspect", &loaded.id]));
        engine.docker(&["rmi", &loaded.id]);
    }
}
