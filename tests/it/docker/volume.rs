//! Volumes of the image: there, empty for each task, gone with the container.

use serde_json::json;

use super::bench::Bench;

on_all!(a_volume_of_the_image_is_new_for_each_task);
async fn a_volume_of_the_image_is_new_for_each_task(bench: Bench) {
    let publisher = bench.publish(&["volume.tar"]).await;
    let text = "ls -A /builds/worker/checkouts | wc -l; chown 1000:1000 /builds/worker/checkouts && \
                touch /builds/worker/checkouts/of-an-earlier-task && grep -c /builds/worker/checkouts /proc/mounts";
    let tasks = [
        bench.create_in(&publisher, "volume.tar", &["sh", "-c", text]).await,
        bench.create_in(&publisher, "volume.tar", &["sh", "-c", text]).await,
    ];
    for done in bench.work(&tasks, &json!({})).await {
        done.expect("completed/completed").says("\n0\r\n1\r\n");
    }
    // That it is gone is seen here.
    bench.close();
}
