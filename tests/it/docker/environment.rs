//! Variables: those of the image, over them those of the worker, over them those of the payload.

use serde_json::json;

use super::bench::{Bench, script, with};

on_newest!(later_layers_of_variables_win);
async fn later_layers_of_variables_win(bench: Bench) {
    let publisher = bench.publish(&["user.tar"]).await;
    // The image says FROM_IMAGE and TASK_ID.
    let image = json!({ "type": "task-image", "taskId": publisher, "path": "public/user.tar" });
    let show =
        with(script("echo $FROM_IMAGE,$TASK_ID,$RUN_ID,$TASK_GROUP_ID,$TASKCLUSTER_ROOT_URL,${USER-none}"), "image", image);
    let dependencies = json!({ "dependencies": [publisher] });
    let plain = bench.create(show.clone(), dependencies.clone()).await;
    let own = bench.create(with(show, "env", json!({ "TASK_ID": "mine", "FROM_IMAGE": "" })), dependencies).await;
    let done = bench.work(&[plain.clone(), own.clone()], &json!({})).await;
    let root = bench.queue.server.root_url();
    let root = root.trim_end_matches('/');
    let group = |task: &str| task.to_owned();
    for (done, image, id) in [(&done[0], "yes", plain.as_str()), (&done[1], "", "mine")] {
        let wanted = format!("\n{image},{id},0,{},{root},none\r\n", group(&done.task_id));
        assert!(done.log.contains(&wanted), "{wanted:?} is not in\n{}", done.log);
    }
    bench.close();
}

on_all!(values_may_be_long_and_have_several_lines);
async fn values_may_be_long_and_have_several_lines(bench: Bench) {
    let payload = with(
        script("echo \"$LINES_OF_TEXT\" | wc -l; printf %s \"$LONG\" | wc -c; echo \"=$EQUALS=$EMPTY=\""),
        "env",
        json!({ "LINES_OF_TEXT": "one\ntwo\nthree", "LONG": "x".repeat(100_000), "EQUALS": "a=b", "EMPTY": "" }),
    );
    bench.run(payload).await.expect("completed/completed").says("\n3\r\n100000\r\n=a=b==\r\n");
    bench.close();
}

on_newest!(the_workers_own_variables_stay_outside);
async fn the_workers_own_variables_stay_outside(bench: Bench) {
    let done = bench.run(script("env")).await.expect("completed/completed");
    let names: Vec<&str> = done.log.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    for name in ["TASKCLUSTER_ACCESS_TOKEN", "TASKCLUSTER_CLIENT_ID", "DOCKER_HOST", "TASK_WORKDIR", "CARGO", "USER"] {
        assert!(!names.contains(&name), "{name}:\n{}", done.log);
    }
    assert!(names.contains(&"HOSTNAME") && names.contains(&"PATH"), "{}", done.log);
    bench.close();
}
