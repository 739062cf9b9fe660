//! What a container may do and have: no limits by default, the engine's own profile and capabilities, and what a payload can
//! ask for.

use serde_json::{Value, json};

use super::bench::{Bench, script, with};
use crate::support::until;

/// Prints the limits of the container's control group, whichever version that has.
const LIMITS: &str = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null | sed 's/^/pids=/'; \
    cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null | sed 's/^/memory=/'; \
    cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes /sys/fs/cgroup/memory.swap.max 2>/dev/null | sed 's/^/swap=/'; \
    df -k /dev/shm | awk 'END { print \"shm=\" $2 }'";
const STATUS: &str = "sed -n 's/^CapEff:\\t/caps=/p; s/^Seccomp:\\t/seccomp=/p' /proc/self/status";

on_all!(there_are_no_limits_by_default);
async fn there_are_no_limits_by_default(bench: Bench) {
    let done = bench.run(script(LIMITS)).await.expect("completed/completed");
    let value = |name: &str| {
        let found = done.log.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {name} in\n{}", done.log)).to_owned()
    };
    let unlimited = |text: &str| text == "max" || text.parse::<u64>().is_ok_and(|number| number > 1 << 60);
    assert_eq!(value("pids"), "max");
    assert!(unlimited(&value("memory")), "{}", done.log);
    // A machine need not count swap.
    assert!(!done.log.contains("\nswap=") || unlimited(&value("swap")), "{}", done.log);
    assert_eq!(value("shm"), "65536");
    bench.close();
}

on_newest!(capabilities_are_those_of_the_payload);
async fn capabilities_are_those_of_the_payload(bench: Bench) {
    let ask = |key: &str, value: Value| with(script(STATUS), key, value);
    let done = bench
        .run_all(
            vec![
                script(STATUS),
                ask("features", json!({ "allowPtrace": true })),
                ask("capabilities", json!({ "disableSeccomp": true })),
                ask("capabilities", json!({ "privileged": true })),
            ],
            &json!({}),
        )
        .await;
    let usual = bench.engine.docker(&["run", "--rm", "--tty", &super::bench::busybox(), "sh", "-c", STATUS]);
    let bits = |text: &str| {
        let hex =
            text.lines().find_map(|line| line.trim_end().strip_prefix("caps=")).unwrap_or_else(|| panic!("no caps in\n{text}"));
        u64::from_str_radix(hex, 16).expect("hexadecimal")
    };
    let [plain, ptrace, unconfined, privileged] = <[_; 4]>::try_from(done).ok().expect("four");
    assert_eq!(bits(&plain.log), bits(&usual));
    // CAP_SYS_PTRACE is number 19.
    assert_eq!(bits(&ptrace.log), bits(&usual) | 1 << 19);
    assert_eq!(bits(&unconfined.log), bits(&usual));
    assert!(bits(&privileged.log) > bits(&usual), "{}", privileged.log);
    for (done, mode) in [(plain, 2), (ptrace, 2), (unconfined, 0), (privileged, 0)] {
        done.expect("completed/completed").says(&format!("seccomp={mode}\r\n"));
    }
    bench.close();
}

on_newest!(host_shared_memory_is_the_hosts);
async fn host_shared_memory_is_the_hosts(bench: Bench) {
    let there = tempfile::Builder::new().prefix("tc-worker-it-").tempfile_in("/dev/shm").expect("a file");
    let name = there.path().display();
    let payload = script(&format!("ls {name}"));
    let shared = with(payload.clone(), "capabilities", json!({ "devices": { "hostSharedMemory": true } }));
    let done = bench.run_all(vec![payload, shared], &json!({})).await;
    assert_eq!([done[0].resolution.as_str(), done[1].resolution.as_str()], ["failed/failed", "completed/completed"]);
    bench.close();
}

on_newest!(capabilities_need_their_scopes);
async fn capabilities_need_their_scopes(bench: Bench) {
    let payload = with(
        with(script("true"), "capabilities", json!({ "privileged": true, "devices": { "kvm": true } })),
        "features",
        json!({ "allowPtrace": true }),
    );
    let task = bench.create(payload, json!({ "scopes": [] })).await;
    let done = bench.work(&[task], &json!({})).await.remove(0).expect("exception/malformed-payload");
    // All at once.
    for scope in ["capability:privileged", "capability:device:kvm", "feature:allowPtrace"] {
        assert!(done.log.contains(&format!("docker-worker:{scope}")), "{scope}:\n{}", done.log);
    }
    bench.close();
}

/// Runs a script that is given little memory once it waits for `/go`. The task's id.
async fn starved(bench: &Bench, text: &str) -> String {
    let task = bench.create(script(text), json!({})).await;
    let before = bench.engine.running();
    let mut worker = bench.worker(&json!({}));
    let new = || bench.engine.running().difference(&before).next().cloned();
    until("the container runs", async || new().is_some()).await;
    let id = new().expect("it runs");
    bench.engine.docker(&["update", "--memory", "32m", "--memory-swap", "32m", &id]);
    bench.engine.docker(&["exec", &id, "touch", "/go"]);
    worker.code().await;
    task
}

on_all!(a_death_for_want_of_memory_is_named);
async fn a_death_for_want_of_memory_is_named(bench: Bench) {
    let task = starved(&bench, "until [ -e /go ]; do usleep 10000; done; tail /dev/zero").await;
    let done = bench.done(&task).await.expect("failed/failed").says("Unsuccessful task run with exit code: 137");
    assert!(done.log.to_lowercase().contains("memory"), "{}", done.log);
    bench.close();
}

on_all!(a_child_that_dies_for_want_of_memory_is_told_from_the_command);
async fn a_child_that_dies_for_want_of_memory_is_told_from_the_command(bench: Bench) {
    let task = starved(&bench, "until [ -e /go ]; do usleep 10000; done; tail /dev/zero; exit 3").await;
    let done = bench.done(&task).await.expect("failed/failed").says("exit status 3\n").says("Memory ran out in the container");
    assert!(!done.log.contains("exit code: 137"), "{}", done.log);
    bench.close();
}
