//! Payloads and containers that mean no good.

use serde_json::{Value, json};

use super::{
    bench::{Bench, script, with},
    spare::Spare,
};

on_newest!(payloads_that_play_with_the_command_line_are_refused_or_harmless);
async fn payloads_that_play_with_the_command_line_are_refused_or_harmless(bench: Bench) {
    let cache = |path: &str| with(script("true"), "cache", json!({ "it-cache": path }));
    let env = |name: &str| with(script("true"), "env", json!({ name: "x" }));
    let malformed =
        [cache(".."), cache("/a/../../etc"), cache("relative"), cache("/"), cache(""), env("A=B"), env(""), env("A\u{0}B")];
    let done = bench.run_all(malformed.to_vec(), &json!({ "capacity": 4 })).await;
    for (done, payload) in done.into_iter().zip(malformed) {
        assert_eq!(done.resolution, "exception/malformed-payload", "{payload}\n{}", done.log);
    }
    // To the `docker` command these are options of a mount.
    let done = bench.run(cache("/cache:ro,z")).await;
    assert_ne!(done.resolution, "exception/internal-error", "{}", done.log);
    // So is this, and `--` keeps the first word of a command from being one.
    let done = bench.run(with(script(""), "command", json!(["--help"]))).await.expect("failed/failed");
    assert!(done.log.contains("exit status 127\n"), "{}", done.log);
    bench.close();
}

on_newest!(what_is_too_big_for_a_process_is_malformed);
async fn what_is_too_big_for_a_process_is_malformed(bench: Bench) {
    // A string of 128 KiB is more than Linux hands to a program, and so are two megabytes in all.
    let big = "x".repeat(1_000_000);
    let value = with(script("true"), "env", json!({ "BIG": big }));
    let many: serde_json::Map<String, Value> = (0..30).map(|n| (format!("V{n}"), Value::from("x".repeat(100_000)))).collect();
    let total = with(script("true"), "env", many.into());
    let command = script(&format!(": {big}"));
    let done = bench.run_all(vec![value, total, command, script("echo fine")], &json!({})).await;
    for (done, named) in done[..3].iter().zip(["env.BIG", "env", "command"]) {
        assert_eq!(done.resolution, "exception/malformed-payload", "{named}\n{}", done.log);
        assert!(done.log.contains(named) && !done.log.contains("xxxxxxxxxxxxxxxxxxxxxxxx".repeat(100).as_str()), "{named}");
    }
    assert_eq!(done[3].resolution, "completed/completed");
    bench.close();
}

on_all!(processes_that_detach_end_with_the_container);
async fn processes_that_detach_end_with_the_container(bench: Bench) {
    let mark = format!("3{:05}", std::process::id());
    let text = format!("trap '' HUP TERM; (setsid sleep {mark} > /dev/null 2>&1 &) ; nohup sleep {mark} & echo done");
    bench.run(script(&text)).await.expect("completed/completed").says("\ndone\r\n");
    let alive = std::process::Command::new("pgrep").args(["-f", &format!("sleep {mark}")]).output().expect("pgrep").stdout;
    assert!(alive.is_empty(), "{}", String::from_utf8_lossy(&alive));
    bench.close();
}

on_newest!(a_flood_of_files_and_processes_is_cleared_away);
async fn a_flood_of_files_and_processes_is_cleared_away(bench: Bench) {
    let text = "mkdir -p /tmp/d && cd /tmp/d && for n in $(seq 1 2000); do : > $n; done; \
                deep=/tmp/e; for n in $(seq 1 200); do deep=$deep/d; done; mkdir -p $deep; \
                for n in $(seq 1 200); do sleep 1000 & done; chmod 0 /tmp/d /tmp/e; exit 4";
    let payload = with(script(text), "artifacts", json!({ "public/e": { "type": "directory", "path": "/tmp/e" } }));
    bench.run(payload).await.expect("failed/failed");
    bench.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_the_tasks_own_trouble_first() {
    let Some(spare) = Spare::with_disk("containerd", 300) else { return };
    let bench = Bench::alone(spare.engine.clone()).await;
    let full = script("dd if=/dev/zero of=/full bs=1M; echo dd: $?; exit 7");
    let mut payloads = vec![full, script("echo fine > /file && cat /file")];
    for payload in &mut payloads {
        payload["image"] = Value::from("tc-test/busybox:latest");
    }
    let done = bench.run_all(payloads, &json!({})).await;
    assert_eq!(done[0].resolution, "failed/failed", "{}", done[0].log);
    assert!(done[0].log.contains("\ndd: 1\r\n"), "{}", done[0].log);
    // What filled it is gone with the container.
    assert_eq!(done[1].resolution, "completed/completed", "{}", done[1].log);
    bench.close();
}
