use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tc_engine::{Engine, Exit, Fault, Owner};
use tc_engine_native::Containment;

use crate::support::{bench, benches, example, is_alive, sh, until};

/// Leaves its session and its parents, closes nothing, and writes its number.
pub const DAEMON: &str = "(setsid sh -c '(trap \"\" TERM HUP; echo $$ > pid; exec sleep 1000) & exit' &) ; \
                      while ! [ -s pid ]; do sleep 0.01; done";

#[tokio::test(flavor = "multi_thread")]
async fn daemons_are_dead_when_the_run_is_quiet() {
    for bench in benches() {
        let script = "for i in 1 2 3; do (setsid sh -c \"(trap '' TERM HUP; sh -c 'echo \\$PPID' > pid$i; while :; do sleep 0.05; done) & exit\" &); done; \
             for i in 1 2 3; do while ! [ -s pid$i ]; do sleep 0.01; done; done";
        let mut run = bench.start(vec![sh(script)]).await;
        assert_eq!(run.exit(0).await, Exit::Code(0));
        let mut pids = Vec::new();
        for file in ["pid1", "pid2", "pid3"] {
            pids.push(run.pid(file).await);
        }
        assert!(pids.iter().all(|pid| is_alive(*pid)), "the test's own daemons live");
        let quiet = run.quiet().await;
        // Not even as zombies, although this process is one that inherits orphans.
        let left: Vec<_> = pids.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
        assert!(left.is_empty(), "{}: {left:?}", bench.name());
        quiet.destroy(false).await.expect("gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_runs_live_on() {
    for bench in benches() {
        let mut one = bench.start(vec![sh(DAEMON)]).await;
        let mut two = bench.start(vec![sh(DAEMON)]).await;
        assert_eq!((one.exit(0).await, two.exit(0).await), (Exit::Code(0), Exit::Code(0)));
        let sleepers = |dir: &Path| living_in(dir);
        let (first, second) = (one.task_dir.clone(), two.task_dir.clone());
        assert!(!sleepers(&first).is_empty() && !sleepers(&second).is_empty());
        one.gone().await;
        assert!(sleepers(&first).is_empty(), "{}", bench.name());
        assert!(!sleepers(&second).is_empty(), "{}", bench.name());
        two.gone().await;
        assert!(sleepers(&second).is_empty(), "{}", bench.name());
    }
}

/// Processes whose working directory is this one.
pub fn living_in(dir: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("there is /proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        is_alive(*pid)
            && fs::read_link(format!("/proc/{pid}/cwd"))
                .is_ok_and(|cwd| cwd.to_string_lossy().starts_with(&*dir.to_string_lossy()))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_dropped_takes_its_processes_with_it() {
    for bench in benches() {
        let mut run = bench.start(vec![sh(DAEMON)]).await;
        assert_eq!(run.exit(0).await, Exit::Code(0));
        let dir = run.task_dir.clone();
        assert!(!living_in(&dir).is_empty());
        drop(run);
        until(|| living_in(&dir).is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_its_reaper_is_a_worker_fault_and_leaves_nothing() {
    let bench = bench(Containment::Reaper).expect("a reaper");
    let script = format!("{DAEMON}; kill -9 $PPID; sleep 1000");
    let mut run = bench.start(vec![sh(&script)]).await;
    let error = run.end(0).await.expect_err("nobody can tell how it ends");
    assert_eq!(error.fault, Fault::Worker);
    assert!(error.message.contains("reaper of the run is gone"), "{error}");
    let dir = run.task_dir.clone();
    assert!(!living_in(&dir).is_empty());
    let quiet = run.quiet().await;
    assert!(living_in(&dir).is_empty());
    quiet.destroy(false).await.expect("gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_signals_do_not_end_a_reaper() {
    let bench = bench(Containment::Reaper).expect("a reaper");
    let mut run =
        bench.start(vec![sh("for s in TERM INT HUP USR1 PIPE CHLD ALRM; do kill -$s $PPID; done; echo here; exit 4")]).await;
    assert_eq!(run.exit(0).await, Exit::Code(4));
    run.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reaper_does_not_bear_the_workers_name() {
    let bench = bench(Containment::Reaper).expect("a reaper");
    let mut run =
        bench.start(vec![sh("cat /proc/$PPID/comm; tr '\\0' ' ' < /proc/$PPID/cmdline; cat /proc/$PPID/environ")]).await;
    assert_eq!(run.exit(0).await, Exit::Code(0));
    assert_eq!(run.sink.text(), "task-reaper\ntask-reaper reaper ");
    run.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_group_there_is_no_reaper_and_groups_of_the_task_go_with_it() {
    let Ok(bench) = bench(Containment::Cgroup) else { return eprintln!("NOT RUN: no control group can be made") };
    // Nested groups need the right to make them, which a task has only where it is root or the hierarchy is its user's.
    let script = "own=$(sed -n 's/^0:://p' /proc/self/cgroup); mount=$(sed -n 's/.* \\(\\/[^ ]*\\) [^-]*- cgroup2 .*/\\1/p' /proc/self/mountinfo | head -1); \
                  group=$mount$own; echo $group > group; mkdir -p $group/a/b && echo 0 > $group/a/b/cgroup.procs; \
                  (setsid sleep 1000 &); echo $PPID > parent";
    let mut run = bench.start(vec![sh(script)]).await;
    assert_eq!(run.exit(0).await, Exit::Code(0));
    assert_eq!(run.pid("parent").await, std::process::id());
    let group = fs::read_to_string(run.task_dir.join("group")).expect("written").trim().to_owned();
    assert!(Path::new(&group).join("a/b").exists(), "{group}");
    let dir = run.task_dir.clone();
    assert!(!living_in(&dir).is_empty());
    run.gone().await;
    assert!(!Path::new(&group).exists());
    assert!(living_in(&dir).is_empty());
}

/// A control group of the first version that keeps a fork storm away from the rest of the machine.
struct Fence(PathBuf);

impl Fence {
    fn build(name: &str) -> Option<Self> {
        let path = Path::new("/sys/fs/cgroup/pids").join(format!("fence-{}-{name}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let fence = Self(path);
        fs::write(fence.0.join("pids.max"), "300").ok()?;
        Some(fence)
    }

    fn count(&self) -> u32 {
        let text = fs::read_to_string(self.0.join("pids.current")).expect("read");
        text.trim().parse().expect("a number")
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_storm_ends() {
    for bench in benches() {
        let Some(fence) = Fence::build(&bench.name()) else {
            return eprintln!("NOT RUN: no pids control group can be made");
        };
        let script = format!(
            "echo $$ > {fence}/cgroup.procs || exit\n{storm} &\nwhile read n < {fence}/pids.current && [ $n -lt 250 ]; do :; done",
            fence = fence.0.display(),
            storm = example("storm").display(),
        );
        let mut run = bench.start(vec![sh(&script)]).await;
        assert_eq!(run.exit(0).await, Exit::Code(0));
        assert!(fence.count() > 200, "it goes on");
        run.gone().await;
        until(|| fence.count() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeping_removes_what_dead_workers_left_and_nothing_else() {
    for bench in benches() {
        let tasks = bench.dir.path();
        for leftover in ["task_dead", "task_kept", "other"] {
            fs::create_dir_all(tasks.join(leftover).join("generic-worker")).expect("made");
            fs::write(tasks.join(leftover).join("file"), "x").expect("written");
        }
        fs::write(tasks.join("task_file"), "x").expect("written");
        std::os::unix::fs::symlink("other", tasks.join("task_link")).expect("linked");
        let mut run = bench.start(vec![sh(":")]).await;
        assert_eq!(run.exit(0).await, Exit::Code(0));
        let owner = Owner { worker: "group/id".into(), tasks_dir: tasks.to_owned() };
        let swept = bench.engine.sweep(&owner, Arc::new(|name: &str| name == "task_kept")).await;
        assert_eq!(swept.failed, [""; 0], "{}", bench.name());
        // There may be groups of earlier tests that were killed.
        assert!(swept.removed.contains(&"task_dead".to_owned()), "{:?}", swept.removed);
        for kept in ["task_kept/file", "other/file", "task_file", "task_link"] {
            assert!(tasks.join(kept).exists(), "{kept}");
        }
        assert!(run.task_dir.exists(), "the run is alive");
        run.gone().await;
    }
}
