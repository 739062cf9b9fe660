//! Archives that are made to be difficult.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tc_engine::{EngineError, Fault, ImageStream};

use super::{
    archives::{Item, Made, SECS, Tar, base, image, item, lying_image},
    engine::{Engine, FileStream, engine, not_run},
    trees::{assert_same, footprint, list, nothing_left},
};
use crate::containerd::{Limits, LoadError, LoadedImage, LostLinks, Names, digests::digest_of};

async fn load(engine: &Engine, made: &Made) -> Result<LoadedImage, LoadError> {
    engine.store.load(&mut FileStream::of(&made.archive), Names::Archive, Limits::default()).await
}

/// What containerd's own applier is asked to load, too.
fn difficult() -> Vec<Vec<u8>> {
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = format!("d/{}/{}", "x".repeat(90), "y".repeat(120));
    let lowest = Tar::default()
        .directory("./", 0o700)
        .directory("d", 0o2750)
        .put(&Item { flag: b'5', owner: (1000, 1001), mode: 0o1777, ..item("tmp") })
        .put(&Item { mode: 0o4755, owner: (0, 5), data: b"set-id", ..item("d/suid") })
        .put(&Item {
            data: b"cap",
            mode: 0o755,
            records: vec![("SCHILY.xattr.security.capability", capability)],
            ..item("d/cap")
        })
        .put(&Item {
            data: b"attr",
            records: vec![("SCHILY.xattr.user.x", b"\x00\xff="), ("mtime", b"1700000000.123456789")],
            ..item("d/attr")
        })
        .put(&Item { records: vec![("SCHILY.xattr.trusted.overlay.opaque", b"y")], ..item("d/trusted") })
        .put(&Item { records: vec![("path", long.as_bytes()), ("uid", b"70000"), ("gid", b"3000000000")], ..item("short") })
        .put(&Item { flag: b'2', link: "/etc/passwd", mode: 0o777, owner: (7, 8), ..item("d/absolute") })
        .hard_link("d/same", "d/cap")
        .put(&Item { flag: b'1', link: "d/absolute", mode: 0o777, owner: (7, 8), ..item("d/link-to-link") })
        .put(&Item { flag: b'3', device: (1, 3), mode: 0o666, ..item("d/null") })
        .put(&Item { flag: b'4', device: (7, 200), mode: 0o660, owner: (0, 6), ..item("d/loop") })
        .put(&Item { flag: b'6', mode: 0o620, ..item("d/pipe") })
        .directory("usr/lib", 0o711)
        .symlink("lib", "usr/lib")
        .symlink("out", "/../../../../outside")
        .file("lib/through", b"through a link")
        .file("out/in", b"still inside")
        .file("twice", b"first")
        .put(&Item { mode: 0o600, data: b"second", ..item("twice") })
        .directory("becomes", 0o755)
        .file("becomes/gone", b"")
        .file("becomes", b"a file")
        .file(".wh.nothing", b"")
        .file("../../escape", b"inside as well")
        .file("/absolute", b"and this")
        .directory("full", 0o755)
        .file("full/a", b"a")
        .directory("full/deep", 0o750)
        .file("full/deep/b", b"b")
        .directory("cleared", 0o755)
        .file("cleared/old", b"old")
        .put(&Item {
            flag: b'5',
            owner: (33, 34),
            mode: 0o1770,
            records: vec![("SCHILY.xattr.user.dir", b"1")],
            ..item("implied")
        })
        .directory("implied/more", 0o700)
        .file("implied/more/below", b"1");
    let upper = Tar::default()
        .file("full/.wh.a", b"")
        .put(&Item { owner: (9, 9), ..item("full/.wh.deep") })
        .directory("cleared", 0o700)
        .file("cleared/new", b"new")
        .file("cleared/.wh..wh..opq", b"")
        .file("implied/more/above", b"2")
        .file("twice", b"third")
        .hard_link("thrice", "twice");
    let nothing = Tar::default();
    vec![lowest.end(), upper.end(), nothing.clone().end(), nothing.end()]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_files_as_the_engine_makes_of_it() {
    let name = "the_same_files_as_the_engine_makes_of_it";
    let Some(engine) = engine(name).await else { return };
    let made = image(name, &difficult());
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &made.archive).expect("written");
    let before = footprint(&engine).await;
    engine.docker(&["load", "-i", &file.path().display().to_string()]);
    let theirs = (list(&engine, &made.name).await, engine.docker(&["image", "inspect", "--format", INSPECT, &made.name]));
    engine.docker(&["rmi", &made.name]);
    nothing_left(&engine, &before).await;

    let loaded = load(&engine, &made).await.expect("loaded");
    assert_eq!(loaded.layers, (4, 0));
    let ours = (list(&engine, &made.name).await, engine.docker(&["image", "inspect", "--format", INSPECT, &made.name]));
    assert_same(&theirs.0, &ours.0);
    assert_eq!(theirs.1, ours.1);
    assert!(ours.1.contains(&loaded.id));
    engine.docker(&["rmi", &made.name]);
    nothing_left(&engine, &before).await;
}

const INSPECT: &str = "{{.Id}} {{.RepoTags}} {{.RepoDigests}} {{.Size}} {{.Architecture}} {{json .Config}} {{json .RootFS}}";

#[tokio::test(flavor = "multi_thread")]
async fn links_that_the_engine_refuses() {
    let name = "links_that_the_engine_refuses";
    let Some(engine) = engine(name).await else { return };
    let Some(base) = base() else { return not_run(name, "no /bin/busybox") };
    let shell = base.clone().end();
    let lower = base
        .directory("a", 0o755)
        .put(&Item { mode: 0o751, owner: (5, 6), data: b"of the lower layer\n", ..item("a/file") })
        .symlink("a/link", "file");
    let upper = Tar::default()
        .hard_link("absolute", "/here")
        .file("here", b"of this layer\n")
        .hard_link("one", "/a/file")
        .hard_link("two", "a/file")
        .hard_link("three", "two")
        .hard_link("link", "a/link")
        .directory("gone", 0o755)
        .file(".wh.new", b"")
        .directory("new", 0o755);
    let made = image(name, &[lower.end(), upper.end()]);
    let loaded = load(&engine, &made).await.expect("loaded");
    let show = "cat /absolute /one; stat -c '%a %u:%g %h' /one /a/file; stat -c %h /two /here; ls -l /link";
    let said = engine.docker(&["run", "--rm", "--network", "none", &loaded.id, "sh", "-c", show]);
    assert!(said.contains("of this layer\nof the lower layer\n751 5:6 3\n751 5:6 1\n3\n2\n"), "{said}");
    assert!(said.contains("/link -> file"), "{said}");
    engine.docker(&["rmi", &made.name]);

    for (case, target) in [("nowhere", "not/there"), ("host", "/etc/passwd")] {
        let upper = Tar::default().file("y", b"beside it").hard_link("x", target).hard_link("z", "x");
        let made = image(&format!("{name}-{case}"), &[shell.clone(), upper.end()]);
        let loaded = load(&engine, &made).await.expect("loaded");
        let example = Some(("x".to_owned(), target.trim_start_matches('/').to_owned()));
        assert_eq!(loaded.lost_links, LostLinks { count: 2, example }, "{case}");
        let show = "cat /y; ls /x /z";
        let (_, said) = engine.try_docker(&["run", "--rm", "--network", "none", &loaded.id, "sh", "-c", show]);
        assert!(said.contains("beside it") && said.matches("No such file").count() == 2, "{case}: {said}");
        engine.docker(&["rmi", &made.name]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_hides_what_lies_further_below_from_links() {
    let name = "a_deletion_hides_what_lies_further_below_from_links";
    let Some(engine) = engine(name).await else { return };
    let lowest = Tar::default().directory("d", 0o755).file("d/f", b"old").end();
    let deleting = Tar::default().file("d/.wh.f", b"").end();
    let clearing = Tar::default().directory("d", 0o755).file("d/.wh..wh..opq", b"").end();
    let linking = Tar::default().hard_link("x", "d/f").end();
    for middle in [deleting, clearing] {
        let made = image(name, &[lowest.clone(), middle, linking.clone()]);
        assert_eq!(load(&engine, &made).await.expect("loaded").lost_links.count, 1);
        engine.docker(&["rmi", &made.name]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_nothing() {
    let name = "what_is_refused_leaves_nothing";
    let Some(engine) = engine(name).await else { return };
    let layer = Tar::default().directory("d", 0o755).file("d/f", &vec![b'x'; 300_000]).end();
    let good = image(name, &[layer.clone(), Tar::default().file("g", b"").end()]);
    let before = footprint(&engine).await;
    let fault = |result: Result<LoadedImage, LoadError>| match result {
        Err(LoadError::Final(error)) => Some(error.fault),
        Err(LoadError::Fallback(_)) => None,
        Ok(loaded) => panic!("{loaded:?}"),
    };
    let other = digest_of(b"other");
    let lying = lying_image(name, std::slice::from_ref(&layer), std::slice::from_ref(&other));
    assert_eq!(fault(load(&engine, &lying).await), Some(Fault::Task), "a lie");
    let short = lying_image(name, std::slice::from_ref(&layer), &[digest_of(&layer), other]);
    assert_eq!(fault(load(&engine, &short).await), Some(Fault::Task), "another number of layers");
    for length in [100, 1000, 200_000, 301_000] {
        let cut = Made { archive: good.archive[..length].to_vec(), name: String::new() };
        assert_eq!(fault(load(&engine, &cut).await), Some(Fault::Task), "cut after {length} bytes");
    }
    let bytes = Limits { bytes: 200_000, ..Limits::default() };
    let entries = Limits { entries: 2, ..Limits::default() };
    let full = Limits { keep_free_bytes: u64::MAX, ..Limits::default() };
    for (limits, expected) in [(bytes, Fault::Task), (entries, Fault::Task), (full, Fault::Resource)] {
        let result = engine.store.load(&mut FileStream::of(&good.archive), Names::None, limits).await;
        assert_eq!(fault(result), Some(expected), "{limits:?}");
    }
    let mut breaking = FileStream::of(&good.archive);
    breaking.breaks_at = Some(130_000);
    assert_eq!(fault(engine.store.load(&mut breaking, Names::None, Limits::default()).await), Some(Fault::Resource));
    let nothing = Made { archive: Tar::default().file("notes.txt", b"no image").end(), name: String::new() };
    assert_eq!(fault(load(&engine, &nothing).await), None, "no image");
    let path = "d/".repeat(200);
    let deep = image(name, &[Tar::default().put(&Item { records: vec![("path", path.as_bytes())], ..item("d") }).end()]);
    assert_eq!(fault(load(&engine, &deep).await), None, "too deep");
    nothing_left(&engine, &before).await;
    assert_eq!(engine.store.sweep().await.expect("swept"), 0, "no lease is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_there_are_not_made_again() {
    let name = "layers_that_are_there_are_not_made_again";
    let Some(engine) = engine(name).await else { return };
    let Some(base) = base() else { return not_run(name, "no /bin/busybox") };
    let base = base.end();
    let middle = Tar::default().file("middle", SECS.to_string().as_bytes()).end();
    let first = image(&format!("{name}-1"), &[base.clone(), middle.clone()]);
    let second = image(&format!("{name}-2"), &[base.clone(), middle, Tar::default().file("top", b"of the top\n").end()]);
    let before = footprint(&engine).await;
    let (one, two) = tokio::join!(load(&engine, &first), load(&engine, &second));
    let (one, two) = (one.expect("the first"), two.expect("the second, at the same time"));
    let again = load(&engine, &second).await.expect("once more");
    assert_eq!((&again.id, again.layers.0), (&two.id, 3));
    // A name is no proof that it is the layer that is there.
    let path = digest_of(&base).replace("sha256:", "blobs/sha256/");
    let false_name = Tar::default().file(&path, &Tar::default().file("other", b"").end()).end();
    let refused = engine.store.load(&mut FileStream::of(&false_name), Names::None, Limits::default()).await;
    assert!(matches!(refused, Err(LoadError::Final(error)) if error.fault == Fault::Task));
    engine.docker(&["rmi", &first.name]);
    let said = engine.docker(&["run", "--rm", "--network", "none", &two.id, "cat", "/top"]);
    assert!(said.contains("of the top"), "{said}");

    // What the engine makes of our image, and of what is built on it, is whole.
    let saved = tempfile::NamedTempFile::new().expect("a file");
    let path = saved.path().display().to_string();
    engine.docker(&["save", "-o", &path, &second.name]);
    engine.docker(&["rmi", &second.name]);
    nothing_left(&engine, &before).await;
    let said = engine.docker(&["load", "-i", &path]);
    assert!(said.contains(&second.name), "{said}");
    let id = engine.docker(&["image", "inspect", "--format", "{{.Id}}", &second.name]);
    assert_eq!(id, two.id);
    let here = load(&engine, &second).await.expect("what the engine loaded is ours, too");
    assert_eq!(here.id, two.id);
    engine.docker(&["rmi", &second.name]);
    assert_ne!(one.id, two.id);
    nothing_left(&engine, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_moves_as_the_engine_moves_it() {
    let name = "a_name_moves_as_the_engine_moves_it";
    let Some(engine) = engine(name).await else { return };
    let first = image(name, &[Tar::default().file("a", b"1").end()]);
    let second = image(name, &[Tar::default().file("a", b"2").end()]);
    let one = load(&engine, &first).await.expect("loaded");
    let two = load(&engine, &second).await.expect("loaded");
    let tags = |id: &str| engine.docker(&["image", "inspect", "--format", "{{.RepoTags}}", id]);
    assert_eq!(tags(&one.id), "[]");
    assert_eq!(tags(&two.id), format!("[{}]", first.name));
    let unnamed =
        engine.store.load(&mut FileStream::of(&second.archive), Names::None, Limits::default()).await.expect("loaded");
    assert_eq!(tags(&unnamed.id), format!("[{}]", first.name), "a name stays");
    engine.forget(&[&one.id, &two.id]);
}

/// Gives a part of an archive and then nothing any more.
struct Stuck(Option<Bytes>);

#[async_trait]
impl ImageStream for Stuck {
    async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        match self.0.take() {
            Some(bytes) => Ok(Some(bytes)),
            None => std::future::pending().await,
        }
    }

    fn sha256(&self) -> Option<[u8; 32]> {
        None
    }

    fn downloaded(&self) -> (u64, Option<u64>) {
        (0, None)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_given_up_leaves_nothing() {
    let name = "a_load_that_is_given_up_leaves_nothing";
    let Some(engine) = engine(name).await else { return };
    let made = image(name, &[Tar::default().file("f", &vec![b'x'; 100_000]).end()]);
    let before = footprint(&engine).await;
    let mut stream = Stuck(Some(Bytes::copy_from_slice(&made.archive[..50_000])));
    let load = engine.store.load(&mut stream, Names::None, Limits::default());
    assert!(tokio::time::timeout(Duration::from_millis(300), load).await.is_err(), "it waits for more");
    let leases = || async { engine.store.client.leases(super::super::OWNER_LABEL, &engine.store.owner).await.expect("leases") };
    for _ in 0..500 {
        if leases().await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(leases().await.is_empty(), "the lease has ended");
    nothing_left(&engine, &before).await;

    // A worker that was killed does not even end its lease.
    let lease = engine.store.lease().await.expect("a lease");
    lease.client.prepare(&lease.id, "").await.expect("a snapshot");
    std::mem::forget(lease);
    assert_eq!(engine.store.sweep().await.expect("swept"), 1);
    nothing_left(&engine, &before).await;
}
