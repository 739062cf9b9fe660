//! Images that a registry has, pulled by name.

use serde_json::{Value, json};

use super::bench::{Bench, busybox, script, with};

fn named(name: &str) -> Value {
    with(script("cat /srv/notes.txt"), "image", Value::from(name))
}

on_all!(an_image_that_is_not_there_is_pulled);
async fn an_image_that_is_not_there_is_pulled(bench: Bench) {
    let name = busybox().replace("busybox:latest", "pulled:once");
    bench.engine.docker(&["tag", &busybox(), &name]);
    bench.engine.docker(&["push", &name]);
    let digests = bench.engine.docker(&["image", "inspect", "--format", "{{range .RepoDigests}}{{.}}\n{{end}}", &name]);
    let digest = digests.lines().find_map(|line| line.split_once("/pulled@")).expect("a digest").1.to_owned();
    let pinned = name.replace(":once", &format!("@{digest}"));
    bench.engine.docker(&["rmi", &name]);
    let done = bench.run_all(vec![named(&name), named(&pinned), named(&name)], &json!({})).await;
    for done in done {
        done.expect("completed/completed").says("of the second layer");
    }
    bench.close();
}

on_all!(a_name_that_the_registry_does_not_know_fails_the_task);
async fn a_name_that_the_registry_does_not_know_fails_the_task(bench: Bench) {
    let unknown = busybox().replace("busybox:latest", "nowhere:latest");
    let done = bench.run(named(&unknown)).await.expect("failed/failed");
    assert!(done.log.lines().last().is_some_and(|line| line.contains("nowhere")), "{}", done.log);
    bench.close();
}

on_newest!(a_registry_that_is_gone_does_not_matter_when_the_image_is_there);
async fn a_registry_that_is_gone_does_not_matter_when_the_image_is_there(bench: Bench) {
    // Nothing listens on this port.
    let name = "127.0.0.1:1/tc-test/orphan:latest";
    bench.engine.docker(&["tag", &busybox(), name]);
    let done = bench.run(named(name)).await.expect("completed/completed").says("of the second layer");
    assert!(done.log.contains("cannot be asked"), "{}", done.log);
    bench.close();
}
