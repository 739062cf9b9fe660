//! Layers in forms that are rare: one that stands in two places, compressed in each way, files with holes.

use std::io::Write as _;

use super::{
    archives::{Item, Made, Tar, base, digested_image, image, item, packed_image},
    engine::{Engine, FileStream, engine, not_run},
    trees::{assert_same, footprint, list, nothing_left},
};
use crate::containerd::{Limits, LoadedImage, Names};

async fn load(engine: &Engine, made: &Made) -> LoadedImage {
    engine
        .store
        .load(&mut FileStream::of(&made.archive), Names::Archive, Limits::default())
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", made.name))
}

/// Loads an image past the engine and through it, and compares all that can be seen of both. Returns what `show` prints in it.
async fn compare(engine: &Engine, made: &Made, show: &str) -> String {
    let before = footprint(engine).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &made.archive).expect("written");
    let said = engine.docker(&["load", "-i", &file.path().display().to_string()]);
    assert!(!said.contains("rror"), "{said}");
    let inspect = || engine.docker(&["image", "inspect", "--format", "{{.Id}} {{json .RootFS}} {{json .Config}}", &made.name]);
    let theirs = (inspect(), list(engine, &made.name).await);
    engine.docker(&["rmi", &made.name]);
    nothing_left(engine, &before).await;

    let loaded = load(engine, made).await;
    assert_eq!(inspect(), theirs.0, "{}", made.name);
    assert!(theirs.0.contains(&loaded.id));
    assert_same(&theirs.1, &list(engine, &made.name).await);
    let said = engine.docker(&["run", "--rm", "--network", "none", &loaded.id, "sh", "-c", show]);
    // What is saved of it is whole.
    engine.docker(&["save", "-o", &file.path().display().to_string(), &made.name]);
    engine.docker(&["rmi", &made.name]);
    nothing_left(engine, &before).await;
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_stands_in_several_places() {
    let name = "a_layer_that_stands_in_several_places";
    let Some(engine) = engine(name).await else { return };
    let Some(base) = base() else { return not_run(name, "no /bin/busybox") };
    let base = base.directory("d", 0o750).file("d/below", b"").end();
    let twice = Tar::default()
        .put(&Item { owner: (7, 8), mode: 0o640, data: b"twice", ..item("d/f") })
        .hard_link("d/g", "d/f")
        .file("d/.wh.below", b"")
        .end();
    let between = Tar::default().file("d/f", b"between").file("d/.wh.g", b"").end();
    for packing in ["", "gzip", "zstd"] {
        let layers = [base.clone(), twice.clone(), between.clone(), twice.clone(), twice.clone()];
        let packed: Vec<_> = layers.iter().map(|layer| pack(layer, packing)).collect();
        let made = packed_image(&format!("{name}-{packing}"), &layers, &packed);
        let said = compare(&engine, &made, "cat /d/f; stat -c ' %h %u:%g' /d/g; ls /d").await;
        assert_eq!(said, "twice 2 0:0\nf\ng", "{packing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_the_store_has_in_another_place() {
    let name = "a_layer_that_the_store_has_in_another_place";
    let Some(engine) = engine(name).await else { return };
    let Some(base) = base() else { return not_run(name, "no /bin/busybox") };
    let before = footprint(&engine).await;
    let base = base.end();
    let [one, two] = [1, 2].map(|n| Tar::default().file(&format!("f{n}"), name.as_bytes()).end());
    // Under names that say what they are, so that what is there is not unpacked while it passes by.
    let first = digested_image(&format!("{name}-1"), &[base.clone(), one.clone(), two.clone()]);
    let second = digested_image(&format!("{name}-2"), &[base, two, one]);
    load(&engine, &first).await;
    let turned = load(&engine, &second).await;
    assert_eq!(turned.layers.0, 3);
    engine.docker(&["rmi", &first.name]);
    let said = engine.docker(&["run", "--rm", "--network", "none", &turned.id, "cat", "/f1", "/f2"]);
    assert_eq!(said, format!("{name}{name}"));
    engine.docker(&["rmi", &second.name]);
    nothing_left(&engine, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_compressed_in_either_way() {
    let name = "layers_are_compressed_in_either_way";
    let Some(engine) = engine(name).await else { return };
    let Some(base) = base() else { return not_run(name, "no /bin/busybox") };
    let layers = [base.end(), Tar::default().file("f", b"of the second layer").end(), Tar::default().file("g", b"3").end()];
    let packed = [pack(&layers[0], "zstd"), pack(&layers[1], "gzip"), layers[2].clone()];
    let said = compare(&engine, &packed_image(name, &layers, &packed), "cat /f /g").await;
    assert_eq!(said, "of the second layer3");
    // In several frames, one of them to be passed over, as some programs write them.
    let (start, rest) = layers[0].split_at(100_000);
    let padding = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
    let frames = [pack(start, "zstd"), padding, pack(rest, "zstd")].concat();
    let said = compare(&engine, &packed_image(name, &layers, &[frames, packed[1].clone(), packed[2].clone()]), "cat /f").await;
    assert_eq!(said, "of the second layer");
}

/// Compresses a layer.
fn pack(layer: &[u8], how: &str) -> Vec<u8> {
    match how {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(layer).expect("into memory");
            encoder.finish().expect("into memory")
        }
        "zstd" => zstd::encode_all(layer, 1).expect("into memory"),
        _ => layer.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_holes_in_every_format() {
    let name = "files_with_holes_in_every_format";
    let Some(engine) = engine(name).await else { return };
    let Some(base) = base() else { return not_run(name, "no /bin/busybox") };
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: u64, pieces: &[(u64, &[u8])]| {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::File::create(dir.path().join(name)).expect("made");
        file.set_len(bytes).expect("grown");
        for (at, piece) in pieces {
            file.write_all_at(piece, *at).expect("written");
        }
    };
    write("a-hole", 1 << 20, &[]);
    write("begins-and-ends-with-one", 3 << 20, &[(1 << 20, b"in the middle")]);
    let many: Vec<(u64, &[u8])> = (0..80).map(|at| (at << 16, &b"again"[..])).collect();
    write("many", 80 << 16, &many);
    write("plain", 5, &[(0, b"plain")]);
    let formats = [&["--format=gnu"][..], &["--sparse-version=0.0"], &["--sparse-version=0.1"], &["--sparse-version=1.0"]];
    for (at, format) in formats.into_iter().enumerate() {
        let mut tar = std::process::Command::new("tar");
        tar.args(["-c", "--sparse", "--sort=name", "--mtime=@1700000000", "--owner=0", "--group=0"]);
        tar.args(format).args((at > 0).then_some("--format=posix")).arg("-C").arg(dir.path()).arg(".");
        let layer = tar.output().expect("tar runs").stdout;
        assert!(layer.len() < 1 << 20, "{format:?}: tar has found the holes");
        let layers = [base.clone().end(), layer];
        let made = image(&format!("{name}-{at}"), &layers);
        // containerd itself refuses files with holes in the oldest of the formats.
        if at > 0 {
            compare(&engine, &made, "true").await;
        }
        let loaded = load(&engine, &made).await;
        let show = "cat /plain; stat -c %s /begins-and-ends-with-one /a-hole /many";
        let said = engine.docker(&["run", "--rm", "--network", "none", &loaded.id, "sh", "-c", show]);
        assert_eq!(said, "plain3145728\n1048576\n5242880", "{format:?}");
        let top = &super::trees::directories(&engine, &loaded.id).await[0];
        for file in ["a-hole", "begins-and-ends-with-one", "many"] {
            let read = |dir: &std::path::Path| std::fs::read(dir.join(file)).expect("read");
            assert!(read(top) == read(dir.path()), "{format:?}: {file}");
            let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(top.join(file)).expect("a status"));
            assert!(blocks * 512 < 1 << 20, "{format:?}: {file} has {blocks} blocks");
        }
        engine.docker(&["rmi", &made.name]);
    }
}
