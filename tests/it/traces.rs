//! Nothing of a task survives its run, and a task sees nothing that is not its own.

use serde_json::json;

use crate::support::{Deployment, script, until};

/// Both ways to keep a task's processes together; where no control group can be made, the first is the second.
const CONTAINMENTS: [&str; 2] = ["detect", "reaper"];

/// Whether a process is alive; a zombie that waits for its parent is not.
fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_sessions_and_background_jobs_are_gone_before_artifacts_are_read() {
    for containment in CONTAINMENTS {
        daemons_are_gone(containment).await;
    }
}

async fn daemons_are_gone(containment: &str) {
    let queue = Deployment::start().await;
    // Each of them would change the artifact after a while if it lived on.
    let text = "
        write() { echo $BASHPID >> pids; while :; do echo x >> grows; sleep 0.01; done; }
        (write &) ; write & setsid bash -c \"$(declare -f write); write\" & \
        (setsid bash -c \"$(declare -f write); write & exit\" &)
        until [ \"$(wc -l < pids)\" = 4 ]; do sleep 0.01; done";
    let mut payload = script(text);
    payload["artifacts"] = json!([
        { "type": "file", "path": "grows", "name": "public/grows" }, { "type": "file", "path": "pids", "name": "public/pids" }
    ]);
    let task = queue.create(payload).await;
    let mut worker = queue.worker(json!({ "cleanUpTaskDirs": false, "tcWorker": { "containment": containment } }));
    worker.wait().await;
    assert_eq!(queue.resolution(&task).await, "completed/completed", "{}", queue.log(&task));
    let pids = String::from_utf8(queue.artifact(&task, "public/pids").expect("published")).expect("digits");
    assert_eq!(pids.lines().count(), 4);
    for pid in pids.lines() {
        assert!(!alive(pid), "process {pid} is alive");
    }
    // What was uploaded is what the file is: nobody wrote to it afterwards.
    let tasks = std::fs::read_dir(worker.home().join("tasks")).expect("kept").flatten().next().expect("one task").path();
    let kept = std::fs::read(tasks.join("grows")).expect("kept");
    assert!(kept == queue.artifact(&task, "public/grows").expect("published"), "the file changed after it was read");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_a_task_and_no_control_group_is_left() {
    let queue = Deployment::start().await;
    let task = queue.create(script("mkdir -p a/b; chmod 0 a/b; echo x > c; chmod 0 a; cat /proc/self/cgroup")).await;
    let mut worker = queue.worker(json!({}));
    worker.wait().await;
    assert_eq!(queue.resolution(&task).await, "completed/completed");
    let left = |name: &str| std::fs::read_dir(worker.home().join(name)).map_or(0, Iterator::count);
    assert_eq!(left("tasks"), 0, "task directories");
    assert_eq!(left("state/spool"), 0, "logs and compressed artifacts");
    let log = queue.log(&task);
    if let Some(group) = log.lines().find_map(|line| line.strip_prefix("0::")).filter(|group| group.contains("tc-worker")) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let directory = format!("{}{group}", mount.expect("a cgroup2 mount"));
        assert!(!std::path::Path::new(&directory).exists(), "{directory} is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_does_not_see_the_workers_credentials() {
    let queue = Deployment::start().await;
    let task = queue.create(script("env; cat /proc/$PPID/environ /proc/$PPID/maps | head -c 100; true")).await;
    let home = tempfile::tempdir_in(queue.dir.path()).expect("a directory");
    let config = queue.config(home.path(), &queue.server.root_url(), &json!({}));
    let path = home.path().join("worker.json");
    std::fs::write(&path, config.to_string()).expect("the configuration");
    let secrets = [
        ("TASKCLUSTER_ACCESS_TOKEN", "secret-token"),
        ("TASKCLUSTER_CLIENT_ID", "secret-client"),
        ("TASKCLUSTER_CERTIFICATE", "secret-certificate"),
        ("DISPLAY", ":77"),
    ];
    let mut worker = crate::support::Worker::start(home, &["run", "--config", path.to_str().expect("UTF-8")], &secrets);
    worker.wait().await;
    assert_eq!(queue.resolution(&task).await, "completed/completed");
    let log = queue.log(&task);
    assert!(log.contains("\nDISPLAY=:77\n"), "the rest of the environment is inherited\n{log}");
    assert!(!log.contains("secret-"), "{log}");
    assert!(log.contains(&format!("\nTASKCLUSTER_ROOT_URL={}\n", queue.server.root_url())));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_lead_out_and_things_that_are_no_files_neither_leak_nor_hang() {
    let queue = Deployment::start().await;
    let secret = queue.dir.path().join("secret");
    std::fs::write(&secret, "the secret").expect("written");
    let text = format!(
        "mkdir out; cd out; ln -s {0} link; ln -s ../../../../../../..{0} dots; ln -s {1} up; mkfifo fifo; ln -s nowhere dangling; \
         ln -s /dev/zero zero; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")' || true; echo fine > file; \
         ln -s file inside",
        secret.display(),
        queue.dir.path().display()
    );
    let mut payload = script(&text);
    payload["artifacts"] = json!([{ "type": "directory", "path": "out", "name": "public/out", "optional": true }]);
    let task = queue.create(payload).await;
    let mut worker = queue.worker(json!({}));
    worker.wait().await;
    assert_eq!(queue.resolution(&task).await, "completed/completed", "{}", queue.log(&task));
    let kinds = queue.artifacts(&task);
    for name in ["link", "dots", "up", "fifo", "dangling", "zero"] {
        assert_eq!(kinds.get(&format!("public/out/{name}")).map(String::as_str), Some("error"), "{name}: {kinds:?}");
    }
    assert_eq!(queue.artifact(&task, "public/out/file").expect("published"), b"fine\n");
    assert_eq!(queue.artifact(&task, "public/out/inside").expect("published"), b"fine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processes_of_a_killed_task_are_gone() {
    for containment in CONTAINMENTS {
        killed_processes_are_gone(containment).await;
    }
}

async fn killed_processes_are_gone(containment: &str) {
    let queue = Deployment::start().await;
    let pids = queue.dir.path().join("pids");
    let text =
        format!("(setsid sleep 300 & echo $! >> {0}); sleep 300 & echo $! >> {0}; echo $$ >> {0}; sleep 300", pids.display());
    let mut payload = script(&text);
    payload["maxRunTime"] = json!(2);
    let task = queue.create(payload).await;
    queue.worker(json!({ "tcWorker": { "containment": containment } })).wait().await;
    assert_eq!(queue.resolution(&task).await, "failed/failed");
    let pids = std::fs::read_to_string(pids).expect("written");
    assert_eq!(pids.lines().count(), 3);
    until("all are gone", async || !pids.lines().any(alive)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reaper_exists_only_where_it_is_needed_and_dies_with_its_worker() {
    let queue = Deployment::with_claim_timeout(std::time::Duration::from_secs(60)).await;
    let pids = queue.dir.path().join("pids");
    queue.create(script(&format!("(setsid sleep 300 & echo $! >> {0}); echo $$ >> {0}; sleep 300", pids.display()))).await;
    let mut worker = queue.worker(json!({ "tcWorker": { "containment": "reaper" } }));
    until("the task runs", async || std::fs::read_to_string(&pids).is_ok_and(|text| text.lines().count() == 2)).await;
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", worker.pid())).unwrap_or_default();
    let names: Vec<String> = std::fs::read_dir(format!("/proc/{}/task", worker.pid()))
        .expect("threads")
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .collect();
    assert_eq!(names, ["task-reaper\n"], "{children}");
    // What must not be left when the worker is killed without warning.
    worker.signal(nix::sys::signal::Signal::SIGKILL);
    worker.wait().await;
    let pids = std::fs::read_to_string(pids).expect("written");
    until("all are gone", async || !pids.lines().any(alive)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_its_reaper_is_an_internal_error_and_nothing_of_it_is_left() {
    let queue = Deployment::start().await;
    let pids = queue.dir.path().join("pids");
    let text = format!("(setsid sleep 300 & echo $! >> {0}); echo $$ >> {0}; kill -9 $PPID; sleep 300", pids.display());
    let task = queue.create_with(script(&text), json!({ "retries": 0 })).await;
    let mut worker = queue.worker(json!({ "tcWorker": { "containment": "reaper" } }));
    assert_eq!(worker.code().await, Some(0));
    assert_eq!(queue.resolution(&task).await, "exception/internal-error");
    let pids = std::fs::read_to_string(pids).expect("written");
    until("all are gone", async || !pids.lines().any(alive)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_left_is_gone_before_the_next_one_claims() {
    for containment in CONTAINMENTS {
        let queue = Deployment::with_claim_timeout(std::time::Duration::from_secs(60)).await;
        let pids = queue.dir.path().join("pids");
        let text = format!("(setsid sleep 300 & echo $! >> {0}); echo $$ >> {0}; touch left; sleep 300", pids.display());
        queue.create_with(script(&text), json!({ "retries": 0 })).await;
        let mut worker = queue.worker(json!({ "tcWorker": { "containment": containment } }));
        until("the task runs", async || std::fs::read_to_string(&pids).is_ok_and(|text| text.lines().count() == 2)).await;
        worker.signal(nix::sys::signal::Signal::SIGKILL);
        worker.wait().await;
        let next = queue.create(script("ls ..")).await;
        assert_eq!(worker.again().code().await, Some(0));
        let log = queue.log(&next);
        assert_eq!(log.lines().filter(|line| line.starts_with("task_")).count(), 1, "{containment}: {log}");
        let pids = std::fs::read_to_string(&pids).expect("written");
        until("all are gone", async || !pids.lines().any(alive)).await;
        assert_eq!(std::fs::read_dir(worker.home().join("state/spool")).map_or(0, Iterator::count), 0, "{containment}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_do_not_share_a_state_directory() {
    let queue = Deployment::start().await;
    queue.create(script("sleep 300")).await;
    let worker = queue.worker(json!({ "numberOfTasksToRun": 0 }));
    worker.says("Executing command 0").await;
    // The second one writes to the same files for its output; what counts is its code, and that the first goes on.
    assert_eq!(worker.again().code().await, Some(69));
    let children = std::fs::read_dir(worker.home().join("tasks")).expect("listed").count();
    assert_eq!(children, 1, "the second worker swept the first one's task away");
}
