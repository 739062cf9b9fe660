//! What happens to a run when its worker is killed.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use tc_engine::{Engine, Owner};
use tc_engine_native::Containment;

use crate::{
    containment::{DAEMON, living_in},
    support::{Bench, bench, example, until},
};

fn worker(bench: &Bench, task_dir: &Path, script: &str) -> Command {
    let kind = match bench.engine.containment() {
        Containment::Cgroup => "cgroup",
        _ => "reaper",
    };
    let mut command = Command::new(example("worker"));
    command.arg(kind).arg(example("reaper")).arg(task_dir).arg(script).stdout(Stdio::piped());
    command
}

/// Starts a worker and waits until its script has ended.
fn after_script(command: Command) -> (Child, String) {
    after(command, &["Code(", "NotStarted("])
}

/// Starts a worker and waits until it has said one of these.
fn after(mut command: Command, signs: &[&str]) -> (Child, String) {
    let mut child = command.spawn().expect("started");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut text = String::new();
    while !signs.iter().any(|sign| text.contains(sign)) {
        assert!(output.read_line(&mut text).expect("read") > 0, "it ended: {text}");
    }
    (child, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reaper_ends_the_run_of_a_worker_that_was_killed() {
    let bench = bench(Containment::Reaper).expect("a reaper");
    let task_dir = bench.dir.path().join("task_x");
    let (mut child, _) = after_script(worker(&bench, &task_dir, DAEMON));
    assert!(!living_in(&task_dir).is_empty());
    child.kill().expect("killed");
    child.wait().expect("waited for");
    until(|| living_in(&task_dir).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_worker_ends_what_was_left_in_groups() {
    let Ok(bench) = bench(Containment::Cgroup) else { return eprintln!("NOT RUN: no control group can be made") };
    let task_dir = bench.dir.path().join("task_x");
    let (mut child, _) = after_script(worker(&bench, &task_dir, DAEMON));
    child.kill().expect("killed");
    child.wait().expect("waited for");
    assert!(!living_in(&task_dir).is_empty(), "the test's own daemon lives");
    let owner = Owner { worker: "group/id".into(), tasks_dir: bench.dir.path().to_owned() };
    let swept = bench.engine.sweep(&owner, Arc::new(|_: &str| false)).await;
    assert!(swept.removed.contains(&"task_x".into()) && swept.failed.is_empty(), "{swept:?}");
    assert!(living_in(&task_dir).is_empty());
    assert!(!task_dir.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_the_kernel_spares_does_not_pass_that_on() {
    for containment in [Containment::Reaper, Containment::Cgroup] {
        let Ok(bench) = bench(containment) else { continue };
        let task_dir = bench.dir.path().join("task_x");
        // Raising the value needs no privilege; lowering it, as services do, needs one and is the same to a child.
        let script = "echo $(cat /proc/self/oom_score_adj) $(cat /proc/$PPID/oom_score_adj)";
        let inner = worker(&bench, &task_dir, script);
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg("echo 500 > /proc/self/oom_score_adj; exec \"$0\" \"$@\"");
        command.arg(inner.get_program()).args(inner.get_args()).stdout(Stdio::piped());
        let (mut child, text) = after_script(command);
        child.kill().expect("killed");
        child.wait().expect("waited for");
        let parent = if containment == Containment::Reaper { 0 } else { 500 };
        assert_eq!(text, format!("0 {parent}\nCode(0)\n"));
        if containment == Containment::Cgroup {
            let owner = Owner { worker: "group/id".into(), tasks_dir: bench.dir.path().to_owned() };
            bench.engine.sweep(&owner, Arc::new(|_: &str| false)).await;
        }
    }
}

/// A control group that belongs to an ordinary user, and programs that this user can read.
struct Delegated {
    group: PathBuf,
    dir: tempfile::TempDir,
}

const NOBODY: u32 = 65534;

impl Delegated {
    fn make() -> Option<Self> {
        // Where this process can make groups itself, its own is the parent of the engine's.
        bench(Containment::Cgroup).ok()?;
        let status = fs::read_to_string("/proc/self/status").ok()?;
        status.lines().find(|line| line.starts_with("Uid:\t0\t"))?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
        let group = Path::new(mount).join(own).join(format!("delegated-{}", std::process::id()));
        fs::create_dir(&group).ok()?;
        for name in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            chown(group.join(name), Some(NOBODY), Some(NOBODY)).ok()?;
        }
        let dir = tempfile::tempdir().ok()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).ok()?;
        let delegated = Self { group, dir };
        for name in ["worker", "reaper"] {
            fs::copy(example(name), delegated.dir.path().join(name)).ok()?;
        }
        let tasks = delegated.dir.path().join("tasks");
        fs::create_dir(&tasks).ok()?;
        chown(&tasks, Some(NOBODY), Some(NOBODY)).ok()?;
        Some(delegated)
    }

    fn worker(&self, containment: &str, script: &str) -> Command {
        let enter = "echo $$ > \"$0/cgroup.procs\"; echo 500 > /proc/self/oom_score_adj; \
                     exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all \"$@\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", enter]).arg(&self.group);
        command.arg(self.dir.path().join("worker")).arg(containment).arg(self.dir.path().join("reaper"));
        command.arg(self.dir.path().join("tasks").join(format!("task_{containment}"))).arg(script);
        command.stdout(Stdio::piped());
        command
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        drop(fs::write(self.group.join("cgroup.kill"), "1"));
        while fs::read_to_string(self.group.join("cgroup.events")).is_ok_and(|text| text.contains("populated 1")) {
            std::thread::yield_now();
        }
        let Ok(workers) = fs::read_dir(&self.group) else { return };
        for worker in workers.filter_map(Result::ok).filter(|entry| entry.path().is_dir()) {
            for run in fs::read_dir(worker.path()).into_iter().flatten().filter_map(Result::ok) {
                drop(fs::remove_dir(run.path()));
            }
            drop(fs::remove_dir(worker.path()));
        }
        drop(fs::remove_dir(&self.group));
    }
}

#[test]
fn an_undumpable_worker_of_an_ordinary_user_does_not_pass_its_oom_score_on() {
    let Some(delegated) = Delegated::make() else { return eprintln!("NOT RUN: needs root and control groups") };
    let script = "echo $(cat /proc/self/oom_score_adj) $(id -u); readlink /proc/self/fd/0; \
                  ls /proc/self/fd | tr '\\n' ' '; grep SigIgn /proc/self/status; cat /proc/$PPID/environ && echo readable";
    for containment in ["cgroup", "reaper"] {
        let (mut child, text) = after_script(delegated.worker(containment, script));
        child.kill().expect("killed");
        child.wait().expect("waited for");
        let start = "0 65534\n/dev/null\n0 1 2 3 SigIgn:\t0000000000000000\n";
        assert!(text.starts_with(start), "{containment}: {text}");
        // The worker's environment cannot be read, and a reaper's is empty.
        let readable = text.ends_with("readable\nCode(0)\n");
        assert_eq!(readable, containment == "reaper", "{text}");
    }
    drop(fs::remove_dir_all(delegated.dir.path().join("tasks/task_cgroup")));
    for (command, failure) in [("no-such-program", "executable file not found"), ("/nowhere", "fork/exec /nowhere: no such")] {
        let mut worker = delegated.worker("cgroup", "unused");
        worker.env("WORKER_ARGV0", command);
        let (mut child, text) = after_script(worker);
        child.kill().expect("killed");
        child.wait().expect("waited for");
        assert!(text.contains(failure), "{text}");
        drop(fs::remove_dir_all(delegated.dir.path().join("tasks/task_cgroup")));
    }
}

#[test]
fn an_undumpable_worker_of_an_ordinary_user_removes_what_is_locked_and_moved() {
    let Some(delegated) = Delegated::make() else { return eprintln!("NOT RUN: needs root and control groups") };
    let script =
        "mkdir -p locked/in; touch locked/in/file; chmod 0 locked/in locked; mv \"$PWD\" \"$PWD.moved\"; (setsid sleep 1000 &)";
    for containment in ["cgroup", "reaper"] {
        let mut worker = delegated.worker(containment, script);
        worker.env("WORKER_DESTROYS", "1");
        let (mut child, text) = after(worker, &["Ok(", "Err("]);
        child.kill().expect("killed");
        child.wait().expect("waited for");
        assert!(text.ends_with("Code(0)\nOk(Gone(()))\n"), "{containment}: {text}");
        assert_eq!(fs::read_dir(delegated.dir.path().join("tasks")).expect("listed").count(), 0);
    }
}
