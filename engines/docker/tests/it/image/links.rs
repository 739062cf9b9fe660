//! Layers that engines refuse: hard links whose targets they do not find, compression that they do not know.

use std::sync::Arc;

use tc_engine::{Fault, ImageWant};
use tc_engine_docker::image::{Images, ImagesOptions};

use super::{
    archives::{Built, Tar, busybox, gzip, hex},
    support::{Archive, Bench, CleanUp, Counter, Lines, bring, engines, not_run, own_name},
};

/// An image with links of all kinds: to a file before and behind the link, of a layer below, to nothing.
fn linked(test: &str) -> Built {
    let below = Tar::default().file("below", b"of the layer below").end();
    let long = format!("{}/far", "long".repeat(20));
    let links = Tar::default()
        .file("which", b"of this layer")
        .hard_link("absolute", "/which")
        .hard_link("relative", "which")
        .hard_link("early", "late")
        .file("late", b"behind the link")
        .hard_link("up", "/below")
        .hard_link("again", "up")
        .hard_link("nowhere", "not/there")
        .hard_link("host", "/etc/shadow")
        .file(&long, b"far away")
        .hard_link("long", &format!("/{long}"))
        .end();
    Built::new(vec![busybox(test), below, links], &["busybox:latest"])
}

fn check(engine: &Bench, id: &str, what: &str) {
    for (path, content) in [
        ("absolute", "of this layer"),
        ("relative", "of this layer"),
        ("early", "behind the link"),
        ("up", "of the layer below"),
        ("again", "of the layer below"),
        ("long", "far away"),
        ("bin/cat", ""),
    ] {
        let read = engine.read(id, &format!("/{path}"));
        assert!(content.is_empty() || read == content, "{what} on {engine:?}: {path}: {read}");
    }
    let tools = ["run", "--rm", "--network", "none", "--pull", "never", id, "/bin/busybox"];
    let stat = |path: &str| engine.docker(&[&tools[..], &["stat", "-c", "%h", path]].concat()).unwrap();
    assert_eq!(stat("/which"), "3", "{what} on {engine:?}: hard links to what is there before them stay");
    for path in ["/nowhere", "/host"] {
        let error = engine.docker(&[&tools[..], &["cat", path]].concat()).unwrap_err();
        assert!(error.contains("No such file"), "{what} on {engine:?}: {path}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_engines_refuse_run_all_the_same() {
    for engine in engines("links_that_engines_refuse_run_all_the_same") {
        let state = tempfile::tempdir().unwrap();
        let through = Images::new(engine.options(state.path()).await);
        let built = linked("links_that_e");
        for (format, archive) in
            [("saved", built.saved(true)), ("oci", built.saved(false)), ("legacy", built.legacy()), ("kaniko", built.kaniko())]
        {
            let archive = Archive::new(archive);
            let key = format!("test:links {format}");
            let lines = Arc::new(Lines::default());
            let want = ImageWant::Artifact { key: key.clone(), shown: key.clone() };
            let image = through.image(&want, Some(archive.clone()), lines.clone()).await;
            let image = image.unwrap_or_else(|error| panic!("{format} on {engine:?}: {error}"));
            let _clean = CleanUp(&engine, vec![image.id.clone()]);
            check(&engine, &image.id, format);
            assert_eq!(image.artifact_sha256, Some(archive.sha256()));
            assert_eq!(engine.names(&image.id), [own_name(&key)], "{format} on {engine:?}");
            assert_eq!(archive.opened(), 2, "{format} on {engine:?}: once refused, once mended");
            let said = lines.0.lock().unwrap().join("\n");
            assert!(said.contains("4 hard links") && said.contains("early"), "{format} on {engine:?}: {said}");
            assert!(bring(&through, &key, &archive).await.unwrap().was_there, "{format} on {engine:?}");
        }
        // Where this process may write into the store, one pass is enough, and the files are what they are meant to be.
        let elsewhere = tempfile::tempdir().unwrap();
        let options = engine.options(elsewhere.path()).await;
        let past = Images::new(ImagesOptions { past_the_engine: true, ..options });
        let archive = Archive::new(built.kaniko());
        let lines = Arc::new(Lines::default());
        let want = ImageWant::Artifact { key: "test:links past".to_owned(), shown: "of a test".to_owned() };
        let image = past.image(&want, Some(archive.clone()), lines.clone()).await.unwrap();
        let _clean = CleanUp(&engine, vec![image.id.clone()]);
        check(&engine, &image.id, "past");
        if engine.containerd {
            assert_eq!(archive.opened(), 1);
            let said = lines.0.lock().unwrap().join("\n");
            assert!(said.contains("image of a test: 2 hard links") && said.contains("\"nowhere\" to \"not/there\""), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_s_archives_run_on_every_road() {
    let test = "the_suite_s_archives_run_on_every_road";
    let Some(directory) = std::env::var_os("TC_DOCKER_IMAGES") else { return not_run(test, "needs TC_DOCKER_IMAGES") };
    for engine in engines(test) {
        for past_the_engine in [false, true] {
            let state = tempfile::tempdir().unwrap();
            let options = engine.options(state.path()).await;
            let images = Images::new(ImagesOptions { past_the_engine, ..options });
            for (name, path, content) in [
                ("kaniko", "/srv/notes.txt", "of the second layer"),
                ("absolute", "/opt/two", "one file, two names"),
                ("dangling", "/srv/again.txt", "of the second layer"),
            ] {
                let bytes = std::fs::read(std::path::Path::new(&directory).join(format!("{name}.tar"))).unwrap();
                let archive = Archive::new(bytes);
                let image = bring(&images, &format!("test:suite {name} {past_the_engine}"), &archive).await;
                let image = image.unwrap_or_else(|error| panic!("{name} on {engine:?}: {error}"));
                let _clean = CleanUp(&engine, vec![image.id.clone()]);
                assert_eq!(engine.read(&image.id, path), content, "{name} on {engine:?}");
                let refused = name == "dangling" && !(past_the_engine && engine.containerd);
                assert_eq!(archive.opened(), if refused { 2 } else { 1 }, "{name} on {engine:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_no_file_says_takes_a_third_pass() {
    for engine in engines("a_size_that_no_file_says_takes_a_third_pass") {
        let state = tempfile::tempdir().unwrap();
        let images = Images::new(engine.options(state.path()).await);
        let built = linked("a_size_that_");
        // Of a file in two parts the last bytes tell the size of the second.
        let in_two = |layer: &[u8]| [gzip(&layer[..1024]), gzip(&layer[1024..])].concat();
        let archive = Archive::new(built.packed(in_two));
        let image = bring(&images, "test:two parts", &archive).await.unwrap();
        let _clean = CleanUp(&engine, vec![image.id.clone()]);
        check(&engine, &image.id, "two parts");
        assert_eq!(archive.opened(), 3, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_in_zstd_run_on_every_engine() {
    for engine in engines("layers_in_zstd_run_on_every_engine") {
        let state = tempfile::tempdir().unwrap();
        let images = Images::new(engine.options(state.path()).await);
        let which = Tar::default().file("which", b"packed").end();
        let built = Built::new(vec![busybox("layers_in_zs"), which], &[]);
        let archive = Archive::new(built.packed(|layer| zstd::encode_all(layer, 1).unwrap()));
        let image = bring(&images, "test:zstd", &archive).await.unwrap_or_else(|error| panic!("{engine:?}: {error}"));
        let _clean = CleanUp(&engine, vec![image.id.clone()]);
        assert_eq!(engine.read(&image.id, "/which"), "packed");
        if !engine.containerd {
            assert_eq!(image.id, format!("sha256:{}", hex(&built.config())), "{engine:?}: the image is the same");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_mended_is_refused_and_leaves_nothing() {
    for engine in engines("what_cannot_be_mended_is_refused_and_leaves_nothing") {
        let state = tempfile::tempdir().unwrap();
        let counter = Counter::before(&engine, state.path());
        let options =
            ImagesOptions::new(tc_engine_docker::Connection::open(&counter.host).await.unwrap(), state.path().to_owned());
        let images = Images::new(ImagesOptions { past_the_engine: false, ..options });
        // The links could be mended, but a layer is not what the configuration says.
        let mut built = linked("what_cannot_");
        let config = built.config();
        built.layers[1] = Tar::default().file("below", b"of another layer!!").end();
        let mut archive = Tar::default().file("c.json", &config);
        let names: Vec<String> = (0..3).map(|at| format!("{at}.tar")).collect();
        for (name, layer) in names.iter().zip(&built.layers) {
            archive = archive.file(name, layer);
        }
        let manifest = serde_json::json!([{ "Config": "c.json", "RepoTags": null, "Layers": names }]).to_string();
        let archive = Archive::new(archive.file("manifest.json", manifest.as_bytes()).end());
        let error = bring(&images, "test:unmendable", &archive).await.unwrap_err();
        assert_eq!(error.fault, Fault::Task, "{engine:?}: {error}");
        assert_eq!(engine.id(&own_name("test:unmendable")), None, "{engine:?}");
        let left = engine.docker(&["image", "ls", "-q", "--filter", "dangling=true"]).unwrap();
        let left: Vec<&str> = left
            .lines()
            .filter(|id| engine.docker(&["image", "inspect", id]).is_ok_and(|text| text.contains("what_cannot_")))
            .collect();
        assert!(left.is_empty(), "{engine:?}: {left:?}");
    }
}
