//! Artifacts of containers: read from the stopped container, whatever kind of thing is at the path.

use serde_json::{Value, json};
use tc_worker::local::StoredArtifact;

use super::bench::{Bench, Done, script, with};

/// A payload that publishes `public/NAME` for each path, by kind.
fn publishing(text: &str, artifacts: &[(&str, &str, &str)]) -> Value {
    let map: serde_json::Map<String, Value> =
        artifacts.iter().map(|(name, kind, path)| (format!("public/{name}"), json!({ "type": kind, "path": path }))).collect();
    with(script(text), "artifacts", map.into())
}

fn stored(bench: &Bench, done: &Done, name: &str) -> Option<StoredArtifact> {
    bench.queue.server.published(&done.task_id).into_iter().find(|artifact| artifact.name == format!("public/{name}"))
}

/// The content of an artifact as text; none if it is not there or an error.
fn text(bench: &Bench, done: &Done, name: &str) -> Option<String> {
    stored(bench, done, name).filter(|artifact| artifact.storage_type == "s3")?;
    bench.queue.artifact(&done.task_id, &format!("public/{name}")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

on_all!(files_directories_and_volumes_are_published);
async fn files_directories_and_volumes_are_published(bench: Bench) {
    let payload = publishing(
        "echo one > /tmp/file.txt; mkdir -p /builds/out/deep; echo two > /builds/out/two.json; echo three > /builds/out/deep/three; \
         echo four > /srv/volume/four.html; chmod 600 /srv/volume/four.html; echo relative > /relative.txt",
        &[
            ("file", "file", "/tmp/file.txt"),
            ("directory", "directory", "/builds/out"),
            ("volume", "volume", "/srv/volume"),
            ("relative", "file", "relative.txt"),
        ],
    );
    let done = bench.run(payload).await.expect("completed/completed");
    for (name, content, kind) in [
        ("file", "one\n", "text/plain"),
        ("directory/two.json", "two\n", "application/json"),
        ("directory/deep/three", "three\n", "application/octet-stream"),
        ("volume/four.html", "four\n", "text/html"),
        ("relative", "relative\n", "text/plain"),
    ] {
        assert_eq!(text(&bench, &done, name).as_deref(), Some(content), "{name}: {:?}", bench.queue.artifacts(&done.task_id));
        let found = stored(&bench, &done, name).expect("it is there").content_type;
        assert!(found.starts_with(kind), "{name}: {found}");
    }
    bench.close();
}

on_all!(a_missing_artifact_is_an_error_artifact_of_a_task_that_completes);
async fn a_missing_artifact_is_an_error_artifact_of_a_task_that_completes(bench: Bench) {
    let payload = publishing(
        "mkdir /tmp/dir; echo x > /tmp/file",
        &[
            ("missing", "file", "/tmp/missing.txt"),
            ("no-file", "file", "/tmp/dir"),
            ("no-directory", "directory", "/tmp/file"),
            ("file", "file", "/tmp/file"),
        ],
    );
    let done = bench.run(payload).await.expect("completed/completed");
    assert_eq!(text(&bench, &done, "file").as_deref(), Some("x\n"));
    for (name, reason) in [
        ("missing", "file-missing-on-worker"),
        ("no-file", "invalid-resource-on-worker"),
        ("no-directory", "invalid-resource-on-worker"),
    ] {
        let artifact = stored(&bench, &done, name).unwrap_or_else(|| panic!("no {name}\n{}", done.log));
        assert_eq!(artifact.error.map(|(reason, _)| reason).as_deref(), Some(reason), "{name}");
    }
    // Parsers of logs take lines with certain words for errors of the task.
    assert!(!done.log.contains("[taskcluster:error]") && !done.log.contains("TEST-UNEXPECTED"), "{}", done.log);
    assert!(done.log.contains("[taskcluster:warn") && done.log.contains("public/missing"), "{}", done.log);
    bench.close();
}

on_newest!(a_failed_task_publishes_what_is_there);
async fn a_failed_task_publishes_what_is_there(bench: Bench) {
    let payload = publishing("echo half > /tmp/report; exit 1", &[("report", "file", "/tmp/report")]);
    let done = bench.run(payload).await.expect("failed/failed");
    assert_eq!(text(&bench, &done, "report").as_deref(), Some("half\n"));
    bench.close();
}

on_all!(links_are_followed_inside_the_container);
async fn links_are_followed_inside_the_container(bench: Bench) {
    let payload = publishing(
        "echo target > /tmp/target; cd /tmp; ln -s target relative; ln -s /etc/passwd absolute; ln target hard; \
         mkdir -p a/b; ln -s ../../target a/b/up; ln -s ../../../../../../../../etc/passwd out; ln -s a/b middle; \
         ln -s round trip; ln -s trip round; mkdir d; echo x > d/one; ln d/one d/two; ln -s one d/three",
        &[
            ("relative", "file", "/tmp/relative"),
            ("absolute", "file", "/tmp/absolute"),
            ("hard", "file", "/tmp/hard"),
            ("up", "file", "/tmp/middle/up"),
            ("out", "file", "/tmp/out"),
            ("round", "file", "/tmp/round"),
            ("d", "directory", "/tmp/d"),
        ],
    );
    let done = bench.run(payload).await.expect("completed/completed");
    for name in ["relative", "hard", "up"] {
        assert_eq!(text(&bench, &done, name).as_deref(), Some("target\n"), "{name}");
    }
    for name in ["absolute", "out"] {
        // The container's file, which knows this user, and not the host's.
        let found = text(&bench, &done, name).unwrap_or_else(|| panic!("no {name}"));
        assert!(found.contains("/builds/worker"), "{name}: {found}");
    }
    for name in ["d/one", "d/two"] {
        assert_eq!(text(&bench, &done, name).as_deref(), Some("x\n"), "{name}");
    }
    assert_eq!(stored(&bench, &done, "round").map(|artifact| artifact.storage_type), Some("error"));
    bench.close();
}

on_all!(what_is_no_file_is_never_read);
async fn what_is_no_file_is_never_read(bench: Bench) {
    let payload = publishing(
        "cd /tmp; mkfifo fifo; mknod zero c 1 5; ln -s /etc/shadow shadow; ln -s /proc/1/environ environ; mkdir d; mkfifo d/fifo; \
         mknod d/disk b 8 0; echo fine > d/file; ln -s /etc/shadow d/shadow; ln -s /dev/zero endless",
        &[
            ("fifo", "file", "/tmp/fifo"),
            ("zero", "file", "/tmp/zero"),
            ("shadow", "file", "/tmp/shadow"),
            ("environ", "file", "/tmp/environ"),
            ("endless", "file", "/tmp/endless"),
            ("device", "file", "/dev/zero"),
            ("d", "directory", "/tmp/d"),
        ],
    );
    let done = bench.run(payload).await.expect("completed/completed");
    for name in ["fifo", "zero", "shadow", "environ", "endless", "device"] {
        let kind = stored(&bench, &done, name).map(|artifact| artifact.storage_type);
        assert_eq!(kind, Some("error"), "{name}");
    }
    assert_eq!(text(&bench, &done, "d/file").as_deref(), Some("fine\n"));
    for name in ["d/fifo", "d/disk", "d/shadow"] {
        assert_eq!(text(&bench, &done, name), None, "{name}");
    }
    bench.close();
}

on_newest!(long_names_and_sparse_files_come_whole);
async fn long_names_and_sparse_files_come_whole(bench: Bench) {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let payload = publishing(
        &format!(
            "mkdir -p /tmp/d/{}; echo long > /tmp/d/{long}; echo ü > /tmp/d/ü; \
             dd if=/dev/zero of=/tmp/sparse bs=1 count=1 seek=20000000 2>/dev/null; printf end >> /tmp/sparse",
            "d".repeat(150)
        ),
        &[("d", "directory", "/tmp/d"), ("sparse", "file", "/tmp/sparse")],
    );
    let done = bench.run(payload).await.expect("completed/completed");
    assert_eq!(text(&bench, &done, &format!("d/{long}")).as_deref(), Some("long\n"));
    assert_eq!(text(&bench, &done, "d/ü").as_deref(), Some("ü\n"));
    let sparse = bench.queue.artifact(&done.task_id, "public/sparse").expect("it is there");
    assert_eq!((sparse.len(), &sparse[sparse.len() - 3..]), (20_000_004, &b"end"[..]));
    bench.close();
}

on_newest!(a_file_with_a_name_that_no_artifact_has_costs_only_itself);
async fn a_file_with_a_name_that_no_artifact_has_costs_only_itself(bench: Bench) {
    // Names of artifacts have no control characters.
    let payload = publishing(
        "mkdir -p /tmp/d && cd /tmp/d && echo x > \"$(printf 'two\\nlines')\" && mkfifo \"$(printf 'bell\\a')\" && echo y > fine",
        &[("d", "directory", "/tmp/d")],
    );
    let done = bench.run(payload).await.expect("completed/completed");
    assert_eq!(text(&bench, &done, "d/fine").as_deref(), Some("y\n"));
    for name in ["\"public/d/two\\nlines\"", "\"public/d/bell\\u{7}\""] {
        let told = done.log.lines().any(|line| line.starts_with("[taskcluster:warn") && line.contains(name));
        assert!(told, "{name}:\n{}", done.log);
    }
    assert!(!done.log.contains("[taskcluster:error]"), "{}", done.log);
    bench.close();
}

on_newest!(without_the_feature_there_are_none);
async fn without_the_feature_there_are_none(bench: Bench) {
    let payload = publishing("echo x > /tmp/x", &[("x", "file", "/tmp/x")]);
    let done = bench.run(with(payload, "features", json!({ "artifacts": false }))).await.expect("completed/completed");
    assert!(bench.queue.artifacts(&done.task_id).is_empty(), "{:?}", bench.queue.artifacts(&done.task_id));
    bench.close();
}
