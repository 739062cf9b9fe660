//! The suite's archives, loaded by us and by the engine.

use std::{fs::File, path::Path, process::Command};

use super::{
    engine::{Engine, FileStream, engine, images, not_run},
    trees::{assert_same, footprint, list, nothing_left},
};
use crate::containerd::{Limits, LoadError, LoadedImage, Names};

async fn load(engine: &Engine, path: &Path) -> Result<LoadedImage, LoadError> {
    let mut file = File::open(path).expect("an archive");
    let mut start = [0; 4];
    std::io::Read::read_exact(&mut file, &mut start).expect("read");
    std::io::Seek::rewind(&mut file).expect("rewound");
    if start != [0x28, 0xb5, 0x2f, 0xfd] {
        return engine.store.load(&mut FileStream::new(file, 10_000), Names::None, Limits::default()).await;
    }
    let mut child =
        Command::new("zstd").args(["-dqc"]).stdin(file).stdout(std::process::Stdio::piped()).spawn().expect("zstd runs");
    let mut stream = FileStream::new(child.stdout.take().expect("a pipe"), 256 * 1024);
    let limits = Limits { bytes: 2 << 30, ..Limits::default() };
    let loaded = engine.store.load(&mut stream, Names::None, limits).await;
    drop(stream);
    child.wait().expect("ended");
    loaded
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_in_every_form_are_what_the_engine_makes_of_them() {
    let name = "archives_in_every_form_are_what_the_engine_makes_of_them";
    let Some(engine) = engine(name).await else { return };
    let Some(dir) = images() else { return not_run(name, "no archives (TC_DOCKER_IMAGES)") };
    for form in [
        "busybox.tar",
        "legacy.tar",
        "kaniko.tar",
        "untagged.tar",
        "tagged.tar",
        "volume.tar",
        "absolute.tar",
        "debian.tar.zst",
    ] {
        let path = dir.join(form);
        if !path.exists() {
            not_run(&format!("{name} {form}"), "no such archive");
            continue;
        }
        // Others may have brought the same image, under other names.
        let before = engine.all_images();
        let ours = load(&engine, &path).await.unwrap_or_else(|error| panic!("{form}: {error}"));
        // Of an archive without an index the engine composes one, and takes compressed layers for it if its store happens
        // to have them. Then the identifier is another one.
        let listed = Command::new("tar").arg("-tf").arg(&path).output().expect("tar");
        let named = String::from_utf8_lossy(&listed.stdout).lines().any(|member| member.ends_with("index.json"));
        let identity = if named { "{{.Id}} {{.Size}} " } else { "" };
        let format = format!("{identity}{{{{json .Config}}}} {{{{json .RootFS}}}}");
        let show = |id: &str| engine.docker(&["image", "inspect", "--format", &format, id]);
        let shown = show(&ours.id);
        let run = ["run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", &ours.id, "-c", "echo it runs"];
        assert!(engine.docker(&run).contains("it runs"), "{form}");
        let our_files = list(&engine, &ours.id).await;
        engine.put_back(&ours.id, &before);

        let said = engine.docker(&["load", "-q", "-i", &path.display().to_string()]);
        assert!(!said.contains("rror"), "{said}");
        let theirs = said.trim().rsplit(": ").next().expect("a name").to_owned();
        let theirs = engine.docker(&["image", "inspect", "--format", "{{.Id}}", &theirs]).trim().to_owned();
        assert_eq!(shown, show(&theirs), "{form}");
        assert_same(&list(&engine, &theirs).await, &our_files);
        engine.put_back(&theirs, &before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_a_file_of_a_lower_layer() {
    let name = "a_link_to_a_file_of_a_lower_layer";
    let Some(engine) = engine(name).await else { return };
    let Some(dir) = images() else { return not_run(name, "no archives (TC_DOCKER_IMAGES)") };
    let before = engine.all_images();
    let loaded = load(&engine, &dir.join("dangling.tar")).await.expect("loaded");
    engine.docker(&["run", "--rm", "--network", "none", &loaded.id, "true"]);
    engine.put_back(&loaded.id, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_image_is_refused_or_left_to_the_engine() {
    let name = "what_is_no_image_is_refused_or_left_to_the_engine";
    let Some(engine) = engine(name).await else { return };
    let Some(dir) = images() else { return not_run(name, "no archives (TC_DOCKER_IMAGES)") };
    let before = footprint(&engine).await;
    for (form, refused) in
        [("lying.tar", true), ("bomb.tar.zst", true), ("empty.tar", false), ("notes.tar", false), ("text.tar", true)]
    {
        let result = load(&engine, &dir.join(form)).await;
        match result {
            Err(LoadError::Final(error)) => assert!(refused && error.fault == tc_engine::Fault::Task, "{form}: {error}"),
            Err(LoadError::Fallback(_)) => assert!(!refused, "{form}"),
            Ok(loaded) => panic!("{form}: {loaded:?}"),
        }
    }
    nothing_left(&engine, &before).await;
}
