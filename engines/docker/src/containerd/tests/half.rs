//! Images of which the store has lost a part, as the worker finds them when it is asked for them again.

use std::sync::Arc;

use async_trait::async_trait;
use tc_engine::{EngineError, Image, ImageBytes, ImageStream, ImageWant, Progress};

use super::{
    archives::{Tar, base, digested_image},
    engine::{Engine, FileStream, engine, not_run},
};
use crate::{
    Connection,
    container::birth::ATTEMPTS,
    containerd::{client::SNAPSHOTTER, digests::chain},
    image::{Images, ImagesOptions},
};

struct Archive(Vec<u8>);

#[async_trait]
impl ImageBytes for Archive {
    async fn open(&self) -> Result<Box<dyn ImageStream>, EngineError> {
        Ok(Box::new(FileStream::of(&self.0)))
    }
}

struct Unheard;

impl Progress for Unheard {
    fn line(&self, _text: &str) {}
}

/// What the store loses.
#[derive(Debug, Clone, Copy)]
enum Lost {
    Manifest,
    Configuration,
    Layer,
    Snapshots,
    LayerAndSnapshots,
}

async fn lose(engine: &Engine, id: &str, diffs: &[String], lost: Lost) {
    let client = &engine.store.client;
    let infos = client.contents().await.expect("the content");
    let manifest: serde_json::Value =
        serde_json::from_slice(&client.read(id).await.expect("the manifest")).expect("a manifest");
    let config = manifest["config"]["digest"].as_str().expect("a configuration");
    let layer = manifest["layers"][1]["digest"].as_str().expect("two layers");
    if matches!(lost, Lost::Snapshots | Lost::LayerAndSnapshots) {
        let label = format!("containerd.io/gc.ref.snapshot.{SNAPSHOTTER}");
        let top = infos.iter().find(|info| info.digest == config).and_then(|info| info.labels.get(&label)).cloned();
        assert_eq!(top.as_ref(), chain(diffs).last(), "the configuration holds the snapshots");
        client.remove_snapshot(&top.expect("a snapshot")).await.expect("removed");
    }
    match lost {
        Lost::Manifest => client.lose(id).await.expect("lost"),
        Lost::Configuration => client.lose(config).await.expect("lost"),
        Lost::Layer | Lost::LayerAndSnapshots => client.lose(layer).await.expect("lost"),
        Lost::Snapshots => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_half_there_is_brought_again() {
    let name = "an_image_that_is_half_there_is_brought_again";
    let Some(engine) = engine(name).await else { return };
    let Some(base) = base() else { return not_run(name, "no /bin/busybox") };
    for past_the_engine in [true, false] {
        for lost in [Lost::Manifest, Lost::Configuration, Lost::Layer, Lost::Snapshots, Lost::LayerAndSnapshots] {
            // Each with a snapshot that nothing else is built on.
            let text = format!("{lost:?} {past_the_engine} {} of the top", std::process::id());
            let layers = [base.clone().end(), Tar::default().file("top", text.as_bytes()).end()];
            let made = digested_image(&format!("{name}-{past_the_engine}-{lost:?}").to_lowercase(), &layers);
            let archive = Arc::new(Archive(made.archive));
            let state = tempfile::tempdir().expect("a directory");
            let connection = Connection::open(&engine.host).await.expect("the engine answers");
            let options = ImagesOptions { past_the_engine, ..ImagesOptions::new(connection, state.path().to_owned()) };
            let images = Images::new(options);
            let want = ImageWant::Artifact { key: made.name.clone(), shown: "of a test".to_owned() };
            let bring = async || -> Image {
                let brought = images.image(&want, Some(archive.clone()), Arc::new(Unheard)).await;
                brought.unwrap_or_else(|error| panic!("{lost:?}, past the engine {past_the_engine}: {error}"))
            };
            let whole = bring().await;
            let diffs = engine.docker(&["image", "inspect", "--format", "{{join .RootFS.Layers \" \"}}", &whole.id]);
            let diffs: Vec<String> = diffs.split(' ').map(str::to_owned).collect();
            lose(&engine, &whole.id, &diffs, lost).await;
            let again = bring().await;
            assert_eq!(again.id, whole.id, "{lost:?}");
            let run = ["run", "--rm", "--network", "none", &again.id, "cat", "/top"];
            // A collection may take what is below while the engine unpacks it anew. A worker tries again, too.
            let tries = (0..ATTEMPTS).map(|_| engine.try_docker(&run).1).find(|said| said.ends_with(&text));
            assert!(tries.is_some(), "{lost:?}, past the engine {past_the_engine}");
            engine.forget(&again.name.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
