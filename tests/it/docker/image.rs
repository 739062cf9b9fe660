//! Images that are artifacts of tasks, in all the forms that builders write, and things that are no images.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bench::{Bench, script, with};

const NOTES: &[&str] = &["cat", "/srv/notes.txt"];

/// Runs a task in each of these archives.
async fn run_in(bench: &Bench, archives: &[&str], command: &[&str], says: &str) {
    let publisher = bench.publish(archives).await;
    let mut tasks = Vec::new();
    for archive in archives {
        tasks.push(bench.create_in(&publisher, archive, command).await);
    }
    for (done, archive) in bench.work(&tasks, &json!({})).await.into_iter().zip(archives) {
        assert_eq!(done.resolution, "completed/completed", "{archive}:\n{}", done.log);
        assert!(done.log.contains(says), "{archive}:\n{}", done.log);
    }
}

on_all!(every_form_of_archive_is_an_image);
async fn every_form_of_archive_is_an_image(bench: Bench) {
    run_in(
        &bench,
        &["busybox.tar.zst", "legacy.tar", "kaniko.tar", "untagged.tar", "tagged.tar"],
        NOTES,
        "of the second layer",
    )
    .await;
    bench.close();
}

on_newest!(every_compression_is_understood);
async fn every_compression_is_understood(bench: Bench) {
    let archives = ["busybox.tar", "busybox.tar.gz", "busybox.tar.xz", "busybox.tar.bz2", "busybox.tar.lz4", "busybox.tar.zst"];
    run_in(&bench, &archives, NOTES, "of the second layer").await;
    bench.close();
}

on_all!(layers_that_are_there_do_not_get_in_the_way);
async fn layers_that_are_there_do_not_get_in_the_way(bench: Bench) {
    // The second has all layers of the first, and one more.
    run_in(&bench, &["busybox.tar"], NOTES, "of the second layer").await;
    run_in(&bench, &["stacked.tar"], &["cat", "/srv/notes.txt", "/srv/top.txt"], "of the third layer").await;
    bench.close();
}

on_all!(links_in_layers_may_be_absolute_or_lead_nowhere);
async fn links_in_layers_may_be_absolute_or_lead_nowhere(bench: Bench) {
    run_in(&bench, &["absolute.tar"], &["sh", "-c", "cat /opt/two; ls -l /opt/nowhere"], "one file, two names").await;
    bench.close();
}

on_newest!(many_tasks_that_wait_for_one_image_load_it_once);
async fn many_tasks_that_wait_for_one_image_load_it_once(bench: Bench) {
    let publisher = bench.publish(&["stacked.tar"]).await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(bench.create_in(&publisher, "stacked.tar", &["true"]).await);
    }
    let events = std::process::Command::new("docker")
        .args(["--host", &bench.engine.host, "events", "--filter", "type=image", "--format", "{{.Action}}"])
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut events = events.expect("the docker command");
    for done in bench.work(&tasks, &json!({ "capacity": 4 })).await {
        done.expect("completed/completed");
    }
    events.kill().expect("it is ours");
    let said = events.wait_with_output().expect("it ended").stdout;
    let loads = String::from_utf8_lossy(&said).lines().filter(|line| *line == "load").count();
    assert!(loads <= 1, "loaded {loads} times");
    bench.close();
}

on_all!(what_is_no_image_fails_the_task);
async fn what_is_no_image_fails_the_task(bench: Bench) {
    let archives = ["truncated.tar.zst", "empty.tar", "notes.tar", "text.tar", "lying.tar"];
    let publisher = bench.publish(&archives).await;
    let mut tasks = Vec::new();
    for archive in archives {
        tasks.push(bench.create_in(&publisher, archive, NOTES).await);
    }
    tasks.push(bench.create_in(&publisher, "never-published.tar", NOTES).await);
    for (done, archive) in
        bench.work(&tasks, &json!({})).await.into_iter().zip([&archives[..], &["never-published.tar"]].concat())
    {
        assert_eq!(done.resolution, "failed/failed", "{archive}:\n{}", done.log);
        let last = done.log.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("[taskcluster:error] ") && (last.contains("image") || last.contains(archive)),
            "{archive}: {last}"
        );
    }
    bench.close();
}

on_all!(a_hard_link_into_a_layer_below_runs_and_is_told_where_it_is_mended);
async fn a_hard_link_into_a_layer_below_runs_and_is_told_where_it_is_mended(bench: Bench) {
    let publisher = bench.publish(&["dangling.tar"]).await;
    let task = bench.create_in(&publisher, "dangling.tar", NOTES).await;
    let done = bench.work(&[task], &json!({})).await.remove(0);
    assert_eq!(done.resolution, "completed/completed", "{}", done.log);
    // No engine makes the link; where layers are unpacked past it, the worker does.
    let past = std::env::var("TC_DOCKER_CONTAINERD").is_ok_and(|host| host == bench.engine.host);
    let told = done.log.contains("they became symbolic links");
    assert_eq!(told, !past, "{}", done.log);
    bench.close();
}

on_newest!(a_bomb_is_defused);
async fn a_bomb_is_defused(bench: Bench) {
    let publisher = bench.publish(&["bomb.tar.zst"]).await;
    let task = bench.create_in(&publisher, "bomb.tar.zst", NOTES).await;
    let began = Instant::now();
    let room =
        || nix::sys::statvfs::statvfs("/").map(|s| s.blocks_available() * s.fragment_size()).expect("the root file system");
    let before = room();
    let done = bench.work(&[task], &json!({})).await.remove(0);
    // Which of the two it is depends on what is smaller, the limit or the disk.
    assert!(["failed/failed", "exception/resource-unavailable"].contains(&done.resolution.as_str()), "{}", done.log);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(before.saturating_sub(room()) < 2 << 30, "two gigabytes are gone");
    bench.close();
}

on_newest!(an_image_of_a_task_needs_a_dependency_on_it);
async fn an_image_of_a_task_needs_a_dependency_on_it(bench: Bench) {
    let publisher = bench.publish(&["busybox.tar"]).await;
    let image = json!({ "type": "task-image", "taskId": publisher, "path": "public/busybox.tar" });
    let done = bench.run(with(script("true"), "image", image)).await.expect("exception/malformed-payload");
    assert!(done.log.contains(&publisher) && done.log.contains("dependencies"), "{}", done.log);
    bench.close();
}

on_newest!(names_that_are_none_are_malformed);
async fn names_that_are_none_are_malformed(bench: Bench) {
    let named = |name: &str| with(script("true"), "image", Value::from(name));
    let wrong = ["--privileged", "lower/UPPER", "a b", "image:", "image@sha256:short", "../up", "-v", "a//b"];
    let done = bench.run_all(wrong.iter().map(|name| named(name)).collect(), &json!({ "capacity": 4 })).await;
    for (done, name) in done.into_iter().zip(wrong) {
        assert_eq!(done.resolution, "exception/malformed-payload", "{name}:\n{}", done.log);
        assert!(done.log.contains(name), "{name}:\n{}", done.log);
    }
    bench.close();
}

on_all!(an_indexed_image_is_the_one_that_has_the_name_when_the_task_runs);
async fn an_indexed_image_is_the_one_that_has_the_name_when_the_task_runs(bench: Bench) {
    let routes = || json!({ "routes": ["index.images.of-tests.latest"] });
    let indexed = |namespace: &str, path: &str, command: &[&str]| {
        let image = json!({ "type": "indexed-image", "namespace": namespace, "path": path });
        json!({ "image": image, "command": command, "maxRunTime": 60 })
    };
    let (name, nowhere) = ("images.of-tests.latest", "images.of-tests.none");
    bench.publish_as("public", &["busybox.tar.zst"], routes()).await;
    let done = bench.run(indexed(name, "public/busybox.tar.zst", NOTES)).await;
    done.expect("completed/completed").says("of the second layer");
    // Another task takes the name over; what it has not published is not there, whatever the first one has.
    bench.publish_as("public", &["stacked.tar"], routes()).await;
    let tasks = vec![
        indexed(name, "public/stacked.tar", &["cat", "/srv/top.txt"]),
        indexed(name, "public/busybox.tar.zst", NOTES),
        indexed(nowhere, "public/stacked.tar", NOTES),
    ];
    let [new, old, none] = <[_; 3]>::try_from(bench.run_all(tasks, &json!({})).await).ok().expect("three");
    new.expect("completed/completed").says("of the third layer");
    old.expect("failed/failed").says("public/busybox.tar.zst");
    none.expect("failed/failed").says(nowhere);
    bench.close();
}

on_newest!(a_private_image_needs_the_scope_although_another_task_has_brought_it);
async fn a_private_image_needs_the_scope_although_another_task_has_brought_it(bench: Bench) {
    let routes = json!({ "routes": ["index.images.of-tests.private"] });
    let publisher = bench.publish_as("private", &["busybox.tar"], routes).await;
    let path = "private/busybox.tar";
    let of_task = json!({ "type": "task-image", "taskId": publisher, "path": path });
    let indexed = json!({ "type": "indexed-image", "namespace": "images.of-tests.private", "path": path });
    let mut tasks = Vec::new();
    for (image, scopes) in [(&of_task, json!(["queue:get-artifact:private/*"])), (&of_task, json!([])), (&indexed, json!([]))] {
        let payload = json!({ "image": image, "command": NOTES, "maxRunTime": 60 });
        tasks.push(bench.create(payload, json!({ "dependencies": [publisher], "scopes": scopes })).await);
    }
    let [may, may_not, by_name] = <[_; 3]>::try_from(bench.work(&tasks, &json!({})).await).ok().expect("three");
    may.expect("completed/completed").says("of the second layer");
    for done in [may_not, by_name] {
        let done = done.expect("failed/failed").says("queue:get-artifact:private/busybox.tar");
        assert!(!done.log.contains("of the second layer"), "{}", done.log);
    }
    bench.close();
}
