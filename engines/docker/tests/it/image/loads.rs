//! Archives into engines.

use std::sync::Arc;

use tc_engine::{Fault, ImageWant};
use tc_engine_docker::{
    Connection,
    image::{Bounds, Images, ImagesOptions},
};

use super::{
    archives::{Built, Tar, busybox, hex, layer},
    support::{Archive, Bench, CleanUp, Counter, Lines, bring, engines, own_name},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_format_is_loaded_and_runs_and_is_not_loaded_again() {
    for engine in engines("every_format_is_loaded_and_runs_and_is_not_loaded_again") {
        every_format(&engine, false).await;
        // Where that cannot be, it is the same way once more.
        every_format(&engine, true).await;
    }
}

async fn every_format(engine: &Bench, past_the_engine: bool) {
    {
        let state = tempfile::tempdir().unwrap();
        let images = Images::new(ImagesOptions { past_the_engine, ..engine.options(state.path()).await });
        // One of them is there twice.
        let layers = |content: &str| {
            let twice = layer("which", content);
            vec![busybox("every_format"), twice.clone(), layer("more", content), twice]
        };
        for (format, archive) in [
            ("saved", Built::new(layers("saved"), &["busybox:latest"]).saved(true)),
            ("untagged", Built::new(layers("untagged"), &[]).saved(true)),
            ("oci", Built::new(layers("oci"), &[]).saved(false)),
            ("legacy", Built::new(layers("legacy"), &["a:b", "busybox:latest", "busybox:2"]).legacy()),
            ("kaniko", Built::new(layers("kaniko"), &["busybox:latest"]).kaniko()),
            ("kaniko untagged", Built::new(layers("kaniko untagged"), &[]).kaniko()),
        ] {
            let before = engine.id("busybox:latest");
            let archive = Archive::new(archive);
            let key = format!("test:{}/{format}", state.path().display());
            let image = bring(&images, &key, &archive).await.unwrap_or_else(|error| panic!("{format} on {engine:?}: {error}"));
            let _clean = CleanUp(engine, vec![image.id.clone()]);
            assert!(image.id.starts_with("sha256:") && !image.was_there, "{image:?}");
            assert_eq!(image.artifact_sha256, Some(archive.sha256()));
            assert_eq!(engine.read(&image.id, "/which"), format, "{engine:?}");
            assert_eq!(engine.id("busybox:latest"), before, "{format} on {engine:?}");
            assert_eq!(
                engine.names(&image.id),
                [own_name(&key)],
                "{format} on {engine:?}: an archive gives no names of its own"
            );

            let again = bring(&images, &key, &archive).await.unwrap();
            assert!(again.was_there && again.id == image.id && again.artifact_sha256 == image.artifact_sha256);
            let anew = Images::new(engine.options(state.path()).await);
            assert!(bring(&anew, &key, &archive).await.unwrap().was_there, "after a restart");
            assert_eq!(archive.opened(), 1, "{format} on {engine:?}");

            engine.docker(&["image", "rm", "-f", &image.id]).unwrap();
            let back = bring(&images, &key, &archive).await.unwrap();
            assert_eq!((back.id, back.was_there, archive.opened()), (image.id, false, 2), "removed behind our back");
        }
    }
}

async fn counted(engine: &Bench, state: &std::path::Path) -> (Counter, Images) {
    let counter = Counter::before(engine, state);
    let connection = Connection::open(&counter.host).await.unwrap();
    (counter, Images::new(ImagesOptions { past_the_engine: false, ..ImagesOptions::new(connection, state.to_owned()) }))
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_the_engine_has_are_not_sent() {
    type Format = fn(&Built) -> Vec<u8>;
    let formats: [(&str, Format); 3] =
        [("saved", |built| built.saved(true)), ("legacy", Built::legacy), ("kaniko", Built::kaniko)];
    for engine in engines("layers_that_the_engine_has_are_not_sent") {
        for (name, format) in formats {
            let state = tempfile::tempdir().unwrap();
            let (counter, images) = counted(&engine, state.path()).await;
            let what = format!("{name} on {engine:?}");
            let base = Built::new(vec![busybox(name), layer("base", name)], &["busybox:latest"]);
            let mut next = base.clone();
            next.layers.push(layer("which", &format!("{name} 2")));

            let (first, second) = (Archive::new(format(&base)), Archive::new(format(&next)));
            let one = bring(&images, &format!("test:{what}1"), &first).await.unwrap();
            let mut clean = CleanUp(&engine, vec![one.id.clone()]);
            let whole = counter.sent();
            assert!(whole >= first.bytes.len() as u64 - 20_000, "{what}: {whole}");

            let two = bring(&images, &format!("test:{what}2"), &second).await.unwrap();
            clean.1.push(two.id.clone());
            let rest = counter.sent();
            assert!(rest < 400_000, "{what}: {rest} bytes sent for a layer of 300 kB");
            assert_eq!(second.opened(), 1, "{what}");
            assert_eq!(engine.read(&two.id, "/which"), format!("{name} 2"));
            assert_eq!(engine.read(&two.id, "/base"), name);

            // Without the image below, the new one still runs, also after it was loaded in part.
            engine.docker(&["image", "rm", "-f", &one.id]).unwrap();
            assert_eq!(engine.read(&two.id, "/base"), name, "{what}");

            // And an identifier is what an engine that gets the whole archive calls it.
            engine.docker(&["image", "rm", "-f", &two.id]).unwrap();
            let elsewhere = tempfile::tempdir().unwrap();
            let full = Images::new(engine.options(elsewhere.path()).await);
            let loaded = bring(&full, &format!("test:{what}2"), &second).await.unwrap();
            assert_eq!(loaded.id, two.id, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_guess_costs_a_second_pass_and_nothing_else() {
    for engine in engines("a_wrong_guess_costs_a_second_pass_and_nothing_else") {
        let state = tempfile::tempdir().unwrap();
        let (counter, images) = counted(&engine, state.path()).await;
        let first = Built::new(vec![busybox("a_wrong_gues"), layer("a", "guess a"), layer("b", "guess b")], &[]);
        let one = bring(&images, "test:guess1", &Archive::new(first.saved(true))).await.unwrap();
        let mut clean = CleanUp(&engine, vec![one.id]);
        counter.sent();
        // The same layers in another order.
        let mut turned = first.clone();
        turned.layers.swap(1, 2);
        let archive = Archive::new(turned.saved(true));
        let two = bring(&images, "test:guess2", &archive).await.unwrap();
        clean.1.push(two.id.clone());
        assert_eq!(engine.read(&two.id, "/a"), "guess a");
        assert_eq!(engine.read(&two.id, "/b"), "guess b");
        // With containerd's store the blobs are there, wherever they stand.
        assert_eq!(archive.opened(), if engine.containerd { 1 } else { 2 }, "{engine:?}");
        assert!(counter.sent() < 1_500_000, "{engine:?}: busybox was not sent again");

        // A table that promises too much: the layer below is gone, with the image.
        let table = state.path().join("docker-images.json");
        let kept = std::fs::read(&table).unwrap();
        for id in &clean.1 {
            engine.docker(&["image", "rm", "-f", id]).unwrap();
        }
        std::fs::write(&table, &kept).unwrap();
        let images = Images::new(engine.options(state.path()).await);
        assert_eq!(bring(&images, "test:guess2", &archive).await.unwrap().id, two.id);
        assert_eq!(engine.read(&two.id, "/a"), "guess a");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_do_not_change_an_image() {
    for engine in engines("lies_do_not_change_an_image") {
        let state = tempfile::tempdir().unwrap();
        let images = Images::new(engine.options(state.path()).await);
        let honest = Built::new(vec![busybox("lies_do_not_"), layer("which", "honest")], &[]);
        let one = bring(&images, "test:honest", &Archive::new(honest.kaniko())).await.unwrap();
        let _clean = CleanUp(&engine, vec![one.id.clone()]);
        // Members under the names of layers that are there, of the same size, with another content that the configuration names.
        let other = Built::new(vec![busybox("lies_do_not_"), layer("which", "hidden")], &[]);
        let name = |built: &Built| format!("{}.tar.gz", hex(&super::archives::gzip(&built.layers[1])));
        let mut archive = other.kaniko();
        replace(&mut archive, &name(&other), &name(&honest));
        let archive = Archive::new(archive);
        let two = bring(&images, "test:lie", &archive).await.unwrap();
        let _clean = CleanUp(&engine, vec![two.id.clone()]);
        assert_eq!(engine.read(&two.id, "/which"), "hidden", "{engine:?}");
        assert_eq!(engine.read(&one.id, "/which"), "honest", "{engine:?}");
        // A layer that is not what the configuration says is refused, and leaves nothing.
        let wrong = Built::new(vec![busybox("lies_do_not_"), layer("which", "as it should be")], &[]);
        let mut archive = wrong.saved(true);
        let at = archive.windows(15).position(|window| window == b"as it should be").unwrap();
        archive[at..at + 5].copy_from_slice(b"is it");
        let error = bring(&images, "test:wrong", &Archive::new(archive)).await.unwrap_err();
        assert_eq!(error.fault, Fault::Task, "{engine:?}: {error}");
        assert_eq!(engine.id(&own_name("test:wrong")), None, "{engine:?}");
    }
}

/// Replaces a name in an archive, in headers and documents, by one of the same length.
fn replace(archive: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut at = 0;
    while let Some(found) = archive[at..].windows(from.len()).position(|window| window == from.as_bytes()) {
        at += found;
        archive[at..at + to.len()].copy_from_slice(to.as_bytes());
        let block = at / 512 * 512;
        if at == block {
            let header = &mut archive[block..block + 512];
            header[148..156].copy_from_slice(b"        ");
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
        at += to.len();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kaniko_s_hard_links_inside_of_layers_are_the_engine_s_business() {
    for engine in engines("kaniko_s_hard_links_inside_of_layers_are_the_engine_s_business") {
        let state = tempfile::tempdir().unwrap();
        let images = Images::new(engine.options(state.path()).await);
        let linked = Tar::default().file("which", b"linked").hard_link("also", "/which").end();
        let built = Built::new(vec![busybox("kaniko_s_har"), linked], &["busybox:latest"]);
        let image = bring(&images, "test:links", &Archive::new(built.kaniko())).await.unwrap();
        let _clean = CleanUp(&engine, vec![image.id.clone()]);
        assert_eq!(engine.read(&image.id, "/also"), "linked", "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_image_is_the_task_s_fault_and_leaves_nothing() {
    for engine in engines("what_is_no_image_is_the_task_s_fault_and_leaves_nothing") {
        let state = tempfile::tempdir().unwrap();
        let mut options = engine.options(state.path()).await;
        options.bounds = Bounds { bytes: 8 << 20, members: 100 };
        let images = Images::new(options);
        let good = Built::new(vec![busybox("what_is_no_i"), layer("which", "cut")], &[]).saved(true);
        let empty = Tar::default().end();
        let missing = Built::new(vec![layer("a", "missing")], &[]);
        let manifest = format!(r#"[{{"Config":"{0}.json","RepoTags":null,"Layers":["{0}/layer.tar"]}}]"#, hex(b"x"));
        let dangling = Tar::default()
            .file(&format!("{}.json", hex(b"x")), &missing.config())
            .file("manifest.json", manifest.as_bytes())
            .end();
        for (what, archive, said) in [
            ("nothing", Vec::new(), "empty"),
            ("noise", vec![b'x'; 3 << 20], "no tar archive"),
            ("cut", good[..good.len() / 2].to_vec(), "truncated"),
            ("empty", empty, "neither manifest.json nor index.json"),
            ("dangling", dangling, ""),
            ("large", Tar::default().file("zeros", &vec![0; 20 << 20]).end(), "larger than 8388608 bytes"),
        ] {
            let error = bring(&images, &format!("test:{what}"), &Archive::new(archive)).await.unwrap_err();
            assert_eq!(error.fault, Fault::Task, "{what} on {engine:?}: {error}");
            assert!(error.message.contains(said) && error.message.contains(&format!("test:{what}")), "{error}");
            assert_eq!(engine.id(&own_name(&format!("test:{what}"))), None, "{what} on {engine:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_gone_is_not_the_task_s_fault() {
    for engine in engines("an_engine_that_is_gone_is_not_the_task_s_fault") {
        let state = tempfile::tempdir().unwrap();
        let (counter, images) = counted(&engine, state.path()).await;
        drop(counter);
        std::fs::remove_file(state.path().join("counted.sock")).unwrap();
        let archive = Archive::new(Built::new(vec![busybox("an_engine_th")], &[]).saved(true));
        let error = bring(&images, "test:gone", &archive).await.unwrap_err();
        assert_eq!(error.fault, Fault::Lost, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_load_an_image_once() {
    for engine in engines("many_tasks_load_an_image_once") {
        let state = tempfile::tempdir().unwrap();
        let images = Images::new(engine.options(state.path()).await);
        let archive = Archive::new(Built::new(vec![busybox("many_tasks_l"), layer("which", "many")], &[]).kaniko());
        let want = ImageWant::Artifact { key: "test:many".to_owned(), shown: "many".to_owned() };
        let waits = (0..8).map(|_| images.image(&want, Some(archive.clone()), Arc::new(Lines::default())));
        let found = futures_util::future::join_all(waits).await;
        let ids: Vec<String> = found.into_iter().map(|image| image.unwrap().id).collect();
        let _clean = CleanUp(&engine, vec![ids[0].clone()]);
        assert!(ids.iter().all(|id| *id == ids[0]));
        assert_eq!(archive.opened(), 1);
    }
}
