//! How long a check of a large graph takes, and how much memory: 20,000 tasks with payloads as long as those of a browser's
//! repository, about 60 MB of JSON, once without a problem and once with one in each task.
//!
//!     cargo bench --profile ci --bench check
//!
//! With `--smoke` it is a small graph, just enough to see that it works.

use std::time::Instant;

use serde_json::{Map, Value, json};
use tc_worker::check::{self, Input, Options};

const TASKS: usize = 20_000;
/// Tasks that one task waits for.
const DEPENDENCIES: usize = 5;

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let tasks = if std::env::args().any(|argument| argument == "--smoke") { 200 } else { TASKS };
    println!("{tasks} tasks, {threads} threads");
    for (name, wrong, lines) in
        [("clean", false, true), ("a problem in each task", true, true), ("the same in one line", true, false)]
    {
        let bytes = graph(tasks, wrong, lines);
        let megabytes = bytes.len() / 1_000_000;
        let options = Options { now: jiff::Timestamp::now(), kind: None, worker: None, threads, render: None };
        let before = resident_megabytes("VmRSS");
        let begin = Instant::now();
        let reports = check::check(vec![Input { name: "task-graph.json".to_owned(), bytes: Ok(bytes) }], &options);
        let took = begin.elapsed();
        println!(
            "{name}: {megabytes} MB in {:.2} s, {} errors, {} warnings, {} shown; resident {before} MB before, {} MB at most",
            took.as_secs_f64(),
            reports[0].errors,
            reports[0].warnings,
            reports[0].diagnostics.len(),
            resident_megabytes("VmHWM"),
        );
    }
}

/// Written task by task, so that what the bench itself needs is not taken for what the check needs.
fn graph(tasks: usize, wrong: bool, lines: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(100 << 20);
    for number in 0..tasks {
        text.push(if number == 0 { b'{' } else { b',' });
        text.extend(format!("{:?}: ", label(number)).bytes());
        let node = node(number, wrong);
        let written =
            if lines { serde_json::to_writer_pretty(&mut text, &node) } else { serde_json::to_writer(&mut text, &node) };
        written.unwrap_or_else(|error| panic!("into memory: {error}"));
    }
    text.push(b'}');
    text.shrink_to_fit();
    text
}

fn node(number: usize, wrong: bool) -> Value {
    let dependencies: Map<String, Value> = (1..=DEPENDENCIES)
        .filter_map(|back| Some((format!("dep{back}"), json!(label(number.checked_sub(back * 7)?)))))
        .collect();
    let mut env: Map<String, Value> =
        (0..12).map(|n| (format!("VARIABLE_NUMBER_{n}"), json!("a value of usual length"))).collect();
    for name in dependencies.keys() {
        env.insert(format!("FETCH_{name}"), json!({ "artifact-reference": format!("<{name}/public/build/target.tar.zst>") }));
    }
    let task = json!({
        "provisionerId": "proj", "workerType": "b-linux-gcp", "schedulerId": "gecko-level-1", "priority": "low", "retries": 5,
        "created": { "relative-datestamp": "0 seconds" }, "deadline": { "relative-datestamp": "1 day" },
        "expires": { "relative-datestamp": "28 days" }, "routes": [format!("index.gecko.v2.try.revision.{number}")],
        "scopes": ["docker-worker:cache:checkouts", "docker-worker:cache:tooltool", "secrets:get:project/x"],
        "metadata": { "name": label(number), "description": "A task with the description that it has.", "owner": "o@example.com",
            "source": "https://example.com/source" },
        "tags": { "kind": "build", "label": label(number), "os": "linux", "worker-implementation": "docker-worker" },
        "extra": { "treeherder": { "symbol": "B", "groupSymbol": "G", "tier": 1, "jobKind": "build" }, "index": { "rank": 0 } },
        "payload": {
            "image": "example/builder:1", "maxRunTime": if wrong { json!("3600") } else { json!(3600) }, "env": env,
            "command": ["/usr/local/bin/run-task", "--checkout=/builds/worker/checkouts", "--", "bash", "-cx",
                "cd $CHECKOUT && ./mach build --verbose && ./mach package ".repeat(6)],
            "cache": { "checkouts": "/builds/worker/checkouts", "tooltool": "/builds/worker/tooltool" },
            "artifacts": { "public/build": { "type": "directory", "path": "/builds/worker/artifacts" },
                "public/logs": { "type": "directory", "path": "/builds/worker/logs" } },
            "features": { "allowPtrace": false },
        },
    });
    json!({ "label": label(number), "kind": "build", "dependencies": dependencies, "description": "A task",
        "attributes": { "run_on_projects": ["all"], "build_platform": "linux64", "build_type": "opt" }, "optimization": null,
        "task": task })
}

fn label(number: usize) -> String {
    format!("build-linux64-{number}/opt")
}

/// One of this process's figures about memory.
fn resident_megabytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() / 1000
}
