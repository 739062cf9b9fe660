//! Caches: kept between tasks with their owners, purged when they have to be, never shared at once.

use serde_json::{Value, json};

use super::bench::{Bench, script, with};

fn cached(text: &str) -> Value {
    with(script(text), "cache", json!({ "it-first": "/builds/cache", "it-second": "/deep/er/cache" }))
}

on_all!(a_cache_is_kept_with_its_owners);
async fn a_cache_is_kept_with_its_owners(bench: Bench) {
    let write = "mkdir /builds/cache/d && echo kept > /builds/cache/d/f && ln -s f /builds/cache/d/l && \
                 chown 1234:4321 /builds/cache/d/f && chmod 640 /builds/cache/d/f && touch /deep/er/cache/other";
    let read = "stat -c '%u:%g %a' /builds/cache/d/f; cat /builds/cache/d/l; ls /deep/er/cache";
    let done = bench.run_all(vec![cached(write), cached(read)], &json!({})).await;
    let [first, second] = <[_; 2]>::try_from(done).ok().expect("two");
    first.expect("completed/completed");
    second.expect("completed/completed").says("\n1234:4321 640\r\nkept\r\nother\r\n");
    bench.close();
}

on_newest!(a_new_cache_is_empty_and_any_user_may_be_given_it);
async fn a_new_cache_is_empty_and_any_user_may_be_given_it(bench: Bench) {
    let text = "ls -A /builds/cache | wc -l; chown 1000:1000 /builds/cache && su worker -c 'touch /builds/cache/mine' && \
                stat -c %u /builds/cache/mine";
    bench.run(cached(text)).await.expect("completed/completed").says("\n0\r\n1000\r\n");
    bench.close();
}

on_newest!(a_failed_task_keeps_it_and_listed_codes_purge_it);
async fn a_failed_task_keeps_it_and_listed_codes_purge_it(bench: Bench) {
    let purging = |text: &str| with(cached(text), "onExitStatus", json!({ "purgeCaches": [72], "retry": [72] }));
    let look = "test -e /builds/cache/x && echo there || echo gone";
    let done = bench
        .run_all(
            vec![
                purging("touch /builds/cache/x; exit 1"),
                cached(look),
                purging("test -e /builds/cache/x || exit 1; exit 72"),
                cached(look),
            ],
            &json!({}),
        )
        .await;
    let [failed, kept, purged, after] = <[_; 4]>::try_from(done).ok().expect("four");
    failed.expect("failed/failed");
    kept.expect("completed/completed").says("\nthere\r\n");
    purged.expect("exception/intermittent-task");
    after.expect("completed/completed").says("\ngone\r\n");
    bench.close();
}

on_newest!(a_task_that_was_ended_loses_it);
async fn a_task_that_was_ended_loses_it(bench: Bench) {
    let endless = with(cached("touch /builds/cache/half-written; sleep 300"), "maxRunTime", json!(2));
    let look = cached("ls -A /builds/cache | wc -l");
    let done = bench.run_all(vec![endless, look], &json!({})).await;
    assert_eq!(done[0].resolution, "failed/failed");
    assert!(done[1].log.contains("\n0\r\n"), "{}", done[1].log);
    bench.close();
}

on_newest!(two_tasks_at_once_never_share_it);
async fn two_tasks_at_once_never_share_it(bench: Bench) {
    let text = "mkdir /builds/cache/lock && sleep 2 && rmdir /builds/cache/lock";
    let done = bench.run_all(vec![cached(text), cached(text), cached(text)], &json!({ "capacity": 3 })).await;
    for done in done {
        done.expect("completed/completed");
    }
    bench.close();
}

on_newest!(it_outlives_the_worker);
async fn it_outlives_the_worker(bench: Bench) {
    let write = bench.create(cached("echo kept > /builds/cache/f"), json!({})).await;
    let mut worker = bench.worker(&json!({}));
    assert_eq!(worker.code().await, Some(0));
    let read = bench.create(cached("cat /builds/cache/f"), json!({})).await;
    let mut second = worker.again();
    assert_eq!(second.code().await, Some(0));
    bench.done(&write).await.expect("completed/completed");
    bench.done(&read).await.expect("completed/completed").says("\nkept\r\n");
    bench.close();
}

on_newest!(a_cache_needs_its_scope);
async fn a_cache_needs_its_scope(bench: Bench) {
    let scopes = json!({ "scopes": ["docker-worker:cache:it-first"] });
    let task = bench.create(cached("true"), scopes).await;
    let done = bench.work(&[task], &json!({})).await.remove(0).expect("exception/malformed-payload");
    assert!(done.log.contains(":cache:it-second"), "{}", done.log);
    bench.close();
}
