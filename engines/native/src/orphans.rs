//! Children that this process has not started: processes of a task whose own parents are dead.
//!
//! There are two ways to get them. A worker that is process 1 of a container, or a subreaper, inherits whatever a run leaves
//! behind; these are dead when the run is quiet and only have to be waited for. And where reapers are used, a task can kill
//! its reaper; the worker is a subreaper then, so that the reaper's tree comes to it and can be killed here.
//!
//! Children that other parts of the worker have started are never touched: who is waited for is decided process by process.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tc_sys::{
    launch::{NotStarted, Started},
    process,
};

use crate::{
    cgroup::Group,
    processes::{self, Seen},
};

/// How long killing what a dead reaper left may take.
const KILL_BOUND: Duration = Duration::from_secs(25);

/// The reapers that were started by this process and not yet waited for.
static REAPERS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn reapers() -> MutexGuard<'static, BTreeSet<u32>> {
    REAPERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a process is a reaper and no orphan.
#[derive(Debug)]
pub(crate) struct Registration(u32);

impl Drop for Registration {
    fn drop(&mut self) {
        reapers().remove(&self.0);
    }
}

/// Starts a reaper. It is registered before anybody can take it for an orphan.
pub(crate) fn register(launch: impl FnOnce() -> Result<Started, NotStarted>) -> Result<(Started, Registration), NotStarted> {
    let mut reapers = reapers();
    let started = launch()?;
    reapers.insert(started.pid);
    let registration = Registration(started.pid);
    Ok((started, registration))
}

/// The children of this process.
fn children() -> Vec<Seen> {
    let me = std::process::id();
    let listed = fs::read_dir("/proc/self/task").ok().and_then(|threads| {
        let mut pids = Vec::new();
        for thread in threads {
            let list = fs::read_to_string(thread.ok()?.path().join("children"));
            match list {
                Ok(list) => pids.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
                // The thread has ended; its children went to another one, which may have been listed already.
                Err(_) => return None,
            }
        }
        Some(pids)
    });
    match listed {
        Some(pids) => pids.into_iter().filter_map(Seen::look).collect(),
        None => processes::all().into_iter().filter(|seen| seen.parent == me).collect(),
    }
}

/// Waits for dead members of a group that have become children of this process. A no-op unless this process adopts orphans.
pub(crate) fn reap_members(group: &Group) {
    if !process::adopts_orphans() {
        return;
    }
    for seen in children() {
        if seen.is_zombie && group.has_had(&seen) {
            drop(process::try_wait_pid(seen.pid));
        }
    }
}

/// Kills and waits for everything that a dead reaper has left to this process. Blocks. Returns whether nothing is left.
pub(crate) fn kill_strays() -> bool {
    let deadline = Instant::now() + KILL_BOUND;
    let Some(me) = Seen::look(std::process::id()) else { return false };
    let own_group = me.cgroup();
    let mut wait = Duration::from_micros(500);
    loop {
        // Held while looking: a reaper that is being started is in its own session before it is registered.
        let registered = reapers();
        let strays: Vec<Seen> = children()
            .into_iter()
            .filter(|seen| seen.session != me.session && !registered.contains(&seen.pid))
            // In a group of its own it belongs to a run that has one, and is not ours to end.
            .filter(|seen| seen.is_zombie || seen.cgroup() == own_group)
            .collect();
        drop(registered);
        if strays.is_empty() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        for seen in processes::below(&processes::all(), strays.iter().map(|stray| stray.pid)) {
            seen.signal(process::KILL);
        }
        for stray in &strays {
            stray.signal(process::KILL);
            drop(process::try_wait_pid(stray.pid));
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_children_are_children_and_no_strays() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("started");
        assert!(children().iter().any(|seen| seen.pid == child.id()));
        assert!(kill_strays());
        assert_eq!(child.try_wait().expect("asked"), None, "it still runs");
        child.kill().expect("killed");
        child.wait().expect("waited for");
    }
}
