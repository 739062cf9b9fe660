//! What the image says by itself: entry point, command, working directory, user.

use serde_json::json;

use super::bench::Bench;

on_all!(entry_point_command_directory_and_user_are_the_images);
async fn entry_point_command_directory_and_user_are_the_images(bench: Bench) {
    let publisher = bench.publish(&["entrypoint.tar", "user.tar"]).await;
    let tasks = [
        bench.create_in(&publisher, "entrypoint.tar", &[]).await,
        bench.create_in(&publisher, "entrypoint.tar", &["echo", "mine"]).await,
        bench.create_in(&publisher, "user.tar", &["sh", "-c", "echo $(id -u):$(id -g) in $PWD at $HOME"]).await,
    ];
    let [given, mine, user] = <[_; 3]>::try_from(bench.work(&tasks, &json!({})).await).ok().expect("three");
    given.expect("completed/completed").says("\nentry: 3 arguments: echo from CMD\r\nfrom CMD\r\n");
    mine.expect("completed/completed").says("\nentry: 2 arguments: echo mine\r\nmine\r\n");
    user.expect("completed/completed").says("\n1000:1000 in /builds/worker at /builds/worker\r\n");
    bench.close();
}

on_newest!(a_health_check_of_the_image_changes_nothing);
async fn a_health_check_of_the_image_changes_nothing(bench: Bench) {
    let publisher = bench.publish(&["health.tar"]).await;
    // It fails after a second; a worker that looked at it would give up on the container.
    let task = bench.create_in(&publisher, "health.tar", &["sh", "-c", "sleep 3; echo alive"]).await;
    bench.work(&[task], &json!({})).await.remove(0).expect("completed/completed").says("\nalive\r\n");
    bench.close();
}
