//! Exit codes: the container's own, and those by which authors know that it never started.

use serde_json::{Value, json};

use super::bench::{Bench, script, with};

on_all!(exit_codes_are_the_containers);
async fn exit_codes_are_the_containers(bench: Bench) {
    let command = |words: &[&str]| with(script(""), "command", json!(words));
    // A directory cannot be mounted over a file. What that gives is said by the command that authors know the codes from.
    let refused = bench.engine.command(&["run", "--rm", "--volume", "/tmp:/etc/passwd", &super::bench::busybox(), "true"]);
    assert_eq!(refused.status.code(), Some(125));
    let cases: [(Value, i64); 6] = [
        (script("exit 3"), 3),
        (script("exit 255"), 255),
        (script("sh -c 'kill -KILL $$'; exit $?"), 137),
        (command(&["no-such-program"]), 127),
        (command(&["/etc/passwd"]), 126),
        (with(script("true"), "cache", json!({ "a-cache": "/etc/passwd" })), 125),
    ];
    let done = bench.run_all(cases.iter().map(|(payload, _)| payload.clone()).collect(), &json!({})).await;
    for (done, (payload, code)) in done.into_iter().zip(cases) {
        assert_eq!(done.resolution, "failed/failed", "{payload}\n{}", done.log);
        assert!(done.log.contains(&format!("exit status {code}\n")), "{payload} gives no {code}:\n{}", done.log);
    }
    bench.close();
}

on_newest!(codes_to_retry_are_intermittent);
async fn codes_to_retry_are_intermittent(bench: Bench) {
    let retry = |text: &str, code: i64| with(script(text), "onExitStatus", json!({ "retry": [code] }));
    let unstarted = with(retry("", 127), "command", json!(["no-such-program"]));
    let done = bench.run_all(vec![retry("exit 75", 75), unstarted, retry("exit 75", 76)], &json!({})).await;
    let resolutions: Vec<&str> = done.iter().map(|done| done.resolution.as_str()).collect();
    assert_eq!(resolutions, ["exception/intermittent-task", "exception/intermittent-task", "failed/failed"]);
    bench.close();
}
