//! Uploads to a queue and a store over real sockets that have a bad day, and on a paused clock to services that have a long one.

mod objects;
mod patience;
mod store;
mod streams;

use std::{
    io::{Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::{Fate, Files, Store};
use tc_payload::native::ArtifactSpec;
use tempfile::TempDir;

use super::{Collected, Ending, Row, Surroundings, UploadError, collect};

/// A directory with a task's files, and one for the worker's own.
struct Place {
    dir: TempDir,
    spool: TempDir,
}

impl Place {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let place = Self { dir: tempfile::tempdir().expect("a directory"), spool: tempfile::tempdir().expect("a directory") };
        for (name, content) in files {
            let path = place.dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            std::fs::write(path, content).expect("written");
        }
        place
    }

    fn shown(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    async fn collect(&self, store: &Store, specs: Value) -> Vec<Row> {
        self.collect_into(store, specs, self.spool.path()).await
    }

    async fn collect_into(&self, store: &Store, specs: Value, spool: &Path) -> Vec<Row> {
        let specs: Vec<ArtifactSpec> = serde_json::from_value(specs).expect("artifacts");
        let surroundings = Surroundings {
            target: &store.target,
            expires: date("2030-01-01T00:00:00Z"),
            spool_dir: spool.to_owned(),
            is_taken: &|name| name == "public/logs/live.log",
        };
        let Collected { rows } = collect(&Files(self.dir.path().to_owned()), &specs, &surroundings).await;
        assert_eq!(std::fs::read_dir(self.spool.path()).expect("readable").count(), 0, "something is left in the spool");
        rows
    }

    /// What becomes of one file.
    async fn one(&self, store: &Store, name: &str) -> Ending {
        let specs = json!([{ "type": "file", "path": name }]);
        self.collect(store, specs).await.pop().expect("a row").ending
    }
}

fn date(text: &str) -> Timestamp {
    text.parse().expect("a date")
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// Bytes that do not compress.
fn noise(size: usize) -> Vec<u8> {
    let mut content = vec![0; size];
    crate::seam::Random::fill(&crate::seam::SeededRandom::new(5), &mut content);
    content
}

fn plain(stored: &store::Stored) -> Vec<u8> {
    assert_eq!(stored.length, stored.bytes.len().to_string());
    if stored.encoding == "identity" {
        return stored.bytes.clone();
    }
    assert_eq!(stored.encoding, "gzip");
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&stored.bytes[..]).read_to_end(&mut plain).expect("gzip");
    plain
}

#[tokio::test]
async fn everything_arrives_as_it_was() {
    let (text, big) = (b"text\n".repeat(100_000), noise(2_000_000));
    let files: [(&str, &[u8]); 6] = [
        ("one.txt", b"1"),
        ("out/a.log", &text),
        ("out/b/c.tar.gz", &big),
        ("out/b/empty.zip", b""),
        ("out/z", &big),
        ("lone.jsonl", b""),
    ];
    let place = Place::new(&files);
    let store = Store::start(|_, _| Fate::Store).await;
    let specs = json!([
        { "type": "file", "path": "one.txt", "name": "public/one", "expires": "2029-01-01T00:00:00Z", "contentType": "a/b" },
        { "type": "directory", "path": "out", "name": "public/out/" },
        { "type": "file", "path": "lone.jsonl", "contentEncoding": "identity" },
    ]);
    let rows = place.collect(&store, specs).await;
    let expected = [
        ("public/one", "one.txt", "a/b", "gzip", "2029-01-01T00:00:00.000Z"),
        ("public/out/a.log", "out/a.log", "text/plain", "gzip", "2030-01-01T00:00:00.000Z"),
        ("public/out/b/c.tar.gz", "out/b/c.tar.gz", "application/gzip", "identity", "2030-01-01T00:00:00.000Z"),
        ("public/out/b/empty.zip", "out/b/empty.zip", "application/zip", "identity", "2030-01-01T00:00:00.000Z"),
        ("public/out/z", "out/z", "application/octet-stream", "gzip", "2030-01-01T00:00:00.000Z"),
        ("lone.jsonl", "lone.jsonl", "application/jsonl", "identity", "2030-01-01T00:00:00.000Z"),
    ];
    assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), expected.map(|e| e.0));
    let (created, stored) = (store.created(), store.stored());
    assert_eq!((created.len(), stored.len()), (6, 6));
    for (row, (name, path, content_type, encoding, expires)) in rows.iter().zip(expected) {
        let (_, content) = files.iter().find(|(file, _)| *file == path).expect("a file");
        let (_, body) = created.iter().find(|(created, _)| created == name).expect("created");
        let wanted =
            json!({ "storageType": "s3", "contentType": content_type, "contentLength": content.len(), "expires": expires });
        assert_eq!(*body, wanted, "{name}");
        let (_, upload) = stored.iter().find(|(stored, _)| stored == name).expect("stored");
        assert_eq!((upload.content_type.as_str(), upload.encoding.as_str()), (content_type, encoding), "{name}");
        assert!(plain(upload) == *content, "{name}");
        assert!(matches!(&row.ending, Ending::Uploaded { sha256: sum } if sum[..] == sha256(content)), "{name}");
    }
}

#[tokio::test]
async fn what_has_no_bytes_is_explained_in_its_place() {
    let place = Place::new(&[("dir/file", b"x")]);
    let path = |name: &str| place.dir.path().join(name);
    std::os::unix::fs::symlink("/nowhere", path("dir/dangling")).expect("a link");
    nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let store = Store::start(|_, _| Fate::Store).await;
    let specs = json!([
        { "type": "file", "path": "missing", "name": "a" },
        { "type": "directory", "path": "missing", "name": "b", "optional": true },
        { "type": "file", "path": "dir", "name": "c" },
        { "type": "directory", "path": "dir/file", "name": "d" },
        { "type": "directory", "path": "dir", "name": "e" },
        { "type": "file", "path": "fifo", "name": "f" },
    ]);
    let rows = place.collect(&store, specs).await;
    let (shown_missing, shown_dir) = (place.shown("missing"), place.shown("dir"));
    let expected = [
        ("a", "file-missing-on-worker", format!("Could not read file '{shown_missing}'")),
        ("b", "file-missing-on-worker", format!("Could not read directory '{shown_missing}'")),
        (
            "c",
            "invalid-resource-on-worker",
            format!("File artifact '{shown_dir}' exists as a directory, not a file, on the worker"),
        ),
        (
            "d",
            "invalid-resource-on-worker",
            format!("Directory artifact '{shown_dir}/file' exists as a file, not a directory, on the worker"),
        ),
        ("e/dangling", "file-missing-on-worker", format!("Could not read file '{shown_dir}/dangling'")),
        (
            "f",
            "invalid-resource-on-worker",
            format!("Could not read file '{}': it is a FIFO, which has no content to upload", place.shown("fifo")),
        ),
    ];
    let created = store.created();
    for (name, reason, message) in expected {
        let row = rows.iter().find(|row| row.name == name).expect("a row");
        assert_eq!(row.optional, name == "b");
        assert!(matches!(&row.ending, Ending::Missing { failure: None, .. }), "{name}");
        let (_, body) = created.iter().find(|(created, _)| created == name).expect("created");
        let wanted =
            json!({ "storageType": "error", "reason": reason, "message": message, "expires": "2030-01-01T00:00:00.000Z" });
        assert_eq!(*body, wanted, "{name}");
    }
    assert!(matches!(rows.iter().find(|row| row.name == "e/file").expect("a row").ending, Ending::Uploaded { .. }));
    assert_eq!(store.stored().len(), 1);
}

#[tokio::test]
async fn a_bad_attempt_is_followed_by_a_good_one_with_all_bytes() {
    let content = noise(1_000_000);
    let fates = [
        Fate::Refuse(500),
        Fate::Refuse(503),
        Fate::Refuse(429),
        Fate::Refuse(400),
        Fate::CutAfter(1),
        Fate::CutAfter(500_000),
        Fate::CutAfter(1_000_000),
    ];
    let tries = fates.map(|fate| {
        let content = &content;
        async move {
            let place = Place::new(&[("as-it-is.zip", content), ("compressed", content)]);
            let store = Store::start(move |_, attempt| if attempt < 1 { fate } else { Fate::Store }).await;
            for row in place.collect(&store, json!([{ "type": "directory", "path": ".", "name": "x" }])).await {
                let as_it_was = matches!(&row.ending, Ending::Uploaded { sha256: sum } if sum[..] == sha256(content));
                assert!(as_it_was, "{fate:?}: {}", row.name);
                assert_eq!(store.attempts(&row.name), 2, "{fate:?}: {}", row.name);
            }
            let stored = store.stored();
            assert_eq!(stored.len(), 2, "{fate:?}");
            assert!(stored.iter().all(|(_, upload)| plain(upload) == *content), "{fate:?}");
            assert_eq!(store.created().len(), 2, "the URL was good: {fate:?}");
        }
    });
    futures_util::future::join_all(tries).await;
}

#[tokio::test]
async fn a_store_that_is_content_too_early_is_not_believed() {
    // More than the buffers of a connection hold.
    let content = noise(16 << 20);
    let place = Place::new(&[("a.zip", &content)]);
    let store = Store::start(|_, attempt| if attempt == 0 { Fate::Hasty } else { Fate::Store }).await;
    assert!(matches!(place.one(&store, "a.zip").await, Ending::Uploaded { .. }));
    assert_eq!(store.attempts("a.zip"), 2);
    assert!(store.stored()[0].1.bytes == content);
}

#[tokio::test]
async fn an_expired_url_is_replaced_and_a_store_that_refuses_for_good_is_believed() {
    let place = Place::new(&[("a.zip", b"123")]);
    let store = Store::start(|_, attempt| if attempt == 0 { Fate::Refuse(403) } else { Fate::Store }).await;
    assert!(matches!(place.one(&store, "a.zip").await, Ending::Uploaded { .. }));
    let created = store.created();
    assert_eq!((created.len(), &created[0]), (2, &created[1]), "the same request gives a new URL");
    assert!(store.stored()[0].1.url.contains("/store/2/"));

    for status in [401, 403] {
        let store = Store::start(move |_, _| Fate::Refuse(status)).await;
        let ending = place.one(&store, "a.zip").await;
        assert!(matches!(&ending, Ending::Failed(UploadError::Service(why)) if why.contains(&status.to_string())));
        assert_eq!(store.attempts("a.zip"), 3);
    }
    let store = Store::start(|_, _| Fate::Refuse(413)).await;
    assert!(matches!(place.one(&store, "a.zip").await, Ending::Failed(UploadError::Service(_))));
    assert_eq!(store.attempts("a.zip"), 1);
}

#[tokio::test]
async fn a_store_may_send_an_upload_elsewhere_but_not_in_circles() {
    let place = Place::new(&[("a.zip", b"123")]);
    let store = Store::start(|_, attempt| if attempt == 0 { Fate::Elsewhere } else { Fate::Store }).await;
    assert!(matches!(place.one(&store, "a.zip").await, Ending::Uploaded { .. }));
    assert!(store.stored()[0].1.url.contains("/store/other/"));
    let store = Store::start(|_, _| Fate::Elsewhere).await;
    assert!(matches!(place.one(&store, "a.zip").await, Ending::Failed(UploadError::Service(_))));
}

#[tokio::test]
async fn refusals_of_the_queue_are_told_apart() {
    let place = Place::new(&[("a", b"123")]);
    for status in [400, 401, 403, 404, 409] {
        let store = Store::with_queue(|_, _| Fate::Store, move |_, _| Some(status)).await;
        for name in ["a", "missing"] {
            let (Ending::Failed(error) | Ending::Missing { failure: Some(error), .. }) = place.one(&store, name).await else {
                panic!("{status}: {name} was published")
            };
            let as_expected = match status {
                409 => matches!(error, UploadError::Conflict(_)),
                400 => matches!(error, UploadError::Refused(_)),
                _ => matches!(error, UploadError::Service(_)),
            };
            assert!(as_expected, "{status}: {error:?}");
        }
    }
}

#[tokio::test]
async fn a_file_that_does_not_stay_what_it_was_is_never_published() {
    type Change = fn(&std::fs::File);
    let changes: [(&str, Change); 3] = [
        ("shrinks", |file| file.set_len(1_000_000).expect("shrunk")),
        ("grows", |mut file| file.write_all(b"more").expect("grown")),
        ("is written to", |file| file.write_all_at(b"other", 10).expect("written")),
    ];
    for (what, change) in changes {
        let place = Place::new(&[("a.zip", &noise(3_000_000))]);
        let path = place.dir.path().join("a.zip");
        // While the first attempt is on its way. Whether that one fails by itself does not matter.
        let store = Store::start(move |_, attempt| {
            if attempt == 0 {
                change(&std::fs::OpenOptions::new().append(what == "grows").write(true).open(&path).expect("open"));
            }
            if attempt == 0 { Fate::Refuse(500) } else { Fate::Store }
        })
        .await;
        let ending = place.one(&store, "a.zip").await;
        assert!(matches!(ending, Ending::Failed(UploadError::Changed(_))), "a file that {what}");
        assert!(store.stored().is_empty(), "a file that {what}");
    }
}

#[tokio::test]
async fn a_spool_that_takes_nothing_is_not_the_tasks_fault_and_hurts_only_what_needs_it() {
    let content = noise(1_000_000);
    let place = Place::new(&[("big", &content), ("big.zip", &content), ("small", b"1")]);
    let store = Store::start(|_, _| Fate::Store).await;
    let specs = json!([{ "type": "directory", "path": "." , "name": "public" }]);
    // Nobody can make a file there, not even root.
    let rows = place.collect_into(&store, specs, Path::new("/proc/self")).await;
    let names: Vec<String> = store.stored().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(rows.len(), 3);
    assert!(matches!(&rows[0].ending, Ending::Failed(UploadError::Service(why)) if why.contains("store the compressed bytes")));
}

#[tokio::test]
async fn many_files_go_several_at_a_time_but_not_all_at_once() {
    let files: Vec<(String, Vec<u8>)> = (0..64).map(|i| (format!("out/{i:02}.zip"), noise(50_000 + i))).collect();
    let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    let place = Place::new(&borrowed);
    let store = Store::start(|_, attempt| if attempt == 0 { Fate::Refuse(500) } else { Fate::Store }).await;
    let rows = place.collect(&store, json!([{ "type": "directory", "path": "out" }])).await;
    assert!(rows.iter().zip(&files).all(|(row, (name, content))| {
        row.name == *name && matches!(&row.ending, Ending::Uploaded { sha256: sum } if sum[..] == sha256(content))
    }));
    assert_eq!((rows.len(), store.stored().len()), (64, 64));
    assert!((4..=16).contains(&store.most_at_a_time()), "{}", store.most_at_a_time());
}

#[tokio::test]
async fn names_that_meet_keep_the_payloads_order() {
    let place = Place::new(&[("out/a", b"first"), ("other", b"second"), ("logs/live.log", b"x")]);
    // As the queue does: the same again is fine, another content type is not.
    let kept = std::sync::Mutex::new(None);
    let store = Store::with_queue(
        |_, _| Fate::Store,
        move |name, body| {
            let mut kept = kept.lock().expect("whole");
            let before = if name == "out/a" { kept.replace(body["contentType"].clone()) } else { None };
            before.is_some_and(|before| before != body["contentType"]).then_some(409)
        },
    )
    .await;
    let specs = json!([
        { "type": "file", "path": "out/a" },
        { "type": "directory", "path": "out" },
        { "type": "directory", "path": "logs", "name": "public/logs" },
        { "type": "file", "path": "other", "name": "out/a", "contentType": "x/y" },
    ]);
    let rows = place.collect(&store, specs).await;
    assert_eq!(rows.len(), 2, "the same file twice is one artifact, and a name of somebody else's is none");
    assert!(matches!(rows[0].ending, Ending::Uploaded { .. }));
    assert!(matches!(rows[1].ending, Ending::Failed(UploadError::Conflict(_))));
    let stored = store.stored();
    assert_eq!((stored.len(), plain(&stored[0].1)), (1, b"first".to_vec()));
}
