//! Control groups of version 2: one for each run. They need no controller, only a place where one may be made.
//!
//! ```text
//! <mount>/<the worker's own group>/tc-worker-<pid>-<start time>/<run>
//! ```
//!
//! The middle directory names the worker that made it, and is locked for as long as that worker lives. So remains of dead
//! workers are told from those of living ones, also of workers that are not visible from here, in other containers.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tc_engine::Swept;
use tokio::time::{Instant, sleep};

/// Beginning of the names of directories that workers make.
const PREFIX: &str = "tc-worker-";
/// Longest wait between a kill and the death of everything. A process in an uninterruptible call can take that long.
const DEATH_BOUND: Duration = Duration::from_secs(30);

/// Where this worker makes its groups. Its directory is removed with it.
pub struct Hierarchy {
    own_group: PathBuf,
    base: PathBuf,
    /// Held until the process ends.
    _lock: Option<Flock<fs::File>>,
}

impl Hierarchy {
    /// Finds a place for groups and claims it.
    ///
    /// # Errors
    /// When there is no cgroup2 hierarchy, or this process may not make groups in it.
    pub fn new() -> io::Result<Self> {
        let own_group = own_group()?;
        let pid = std::process::id();
        let base = own_group.join(format!("{PREFIX}{pid}-{}", start_time(pid).unwrap_or(0)));
        match fs::create_dir(&base) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let lock = Flock::lock(fs::File::open(&base)?, FlockArg::LockExclusiveNonblock).ok();
        let hierarchy = Self { own_group, base, _lock: lock };
        // Making a group is not enough: processes have to be let in, and the kernel has to kill them in one step.
        let probe = hierarchy.make("probe")?;
        if !probe.path.join("cgroup.kill").exists() {
            return Err(io::Error::other("this kernel has no cgroup.kill"));
        }
        probe.remove()?;
        Ok(hierarchy)
    }

    /// The group that this worker itself is in.
    pub fn own_group(&self) -> PathBuf {
        self.own_group.clone()
    }

    /// Makes the group of a run.
    pub fn make(&self, run: &str) -> io::Result<Group> {
        let path = self.base.join(run);
        fs::create_dir(&path)?;
        let open = || -> io::Result<(OwnedFd, OwnedFd)> {
            let directory = fs::File::open(&path)?.into();
            let procs = fs::OpenOptions::new().write(true).open(path.join("cgroup.procs"))?.into();
            Ok((directory, procs))
        };
        match open() {
            Ok((directory, procs)) => Ok(Group { path, directory, procs }),
            Err(error) => {
                drop(fs::remove_dir(&path));
                Err(error)
            }
        }
    }
}

impl Drop for Hierarchy {
    fn drop(&mut self) {
        // A group with processes in it cannot be removed; the next worker sweeps it.
        drop(fs::remove_dir(&self.base));
    }
}

/// The group of one run.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    directory: OwnedFd,
    procs: OwnedFd,
}

impl Group {
    /// What a new process needs to start in it.
    pub fn entrance(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.directory.as_fd(), self.procs.as_fd())
    }

    /// Kills everything in it and below it, in one step that no fork can outrun.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Kills what is left and waits until nothing is.
    pub async fn empty(&self) -> io::Result<()> {
        let deadline = Instant::now() + DEATH_BOUND;
        let mut pause = Duration::from_millis(1);
        while populated(&self.path)? {
            if Instant::now() > deadline {
                return Err(io::Error::other("processes of the task do not die"));
            }
            self.kill()?;
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        if std::process::id() == 1 {
            self.reap_orphans();
        }
        Ok(())
    }

    /// The first process of a container inherits the orphans of its tasks. Takes the ends of those of this group, and of
    /// nobody else's.
    fn reap_orphans(&self) {
        let Some(name) = self.path.file_name().and_then(|n| n.to_str()) else { return };
        let mark = format!("/{name}");
        for pid in processes() {
            let ours = fs::read_to_string(format!("/proc/{pid}/cgroup"))
                .is_ok_and(|text| text.lines().any(|line| line.starts_with("0::") && line.contains(&mark)));
            if ours {
                // Whoever is not a child of ours gives an error, which says just that.
                drop(tc_sys::wait::try_wait(tc_sys::wait::Child::Pid(pid)));
            }
        }
    }

    /// Removes it, and groups that the task made in it.
    pub fn remove(&self) -> io::Result<()> {
        remove(&self.path)
    }
}

/// Every process id there is.
pub fn processes() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn populated(path: &Path) -> io::Result<bool> {
    let events = fs::read_to_string(path.join("cgroup.events"))?;
    Ok(events.lines().any(|line| line == "populated 1"))
}

fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// The directory of the group that this process is in.
fn own_group() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    locate(&mounts, &groups).ok_or_else(|| io::Error::other("no cgroup2 hierarchy is mounted"))
}

/// Finds the directory in the texts of `mountinfo` and `cgroup`.
fn locate(mounts: &str, groups: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mounts.lines().find(|line| line.split(" - ").nth(1).is_some_and(|end| end.starts_with("cgroup2 ")))?;
    let mut fields = mount.split(' ').skip(3);
    // What part of the hierarchy is mounted, and where.
    let (root, place) = (fields.next()?, fields.next()?);
    let below = if root == "/" { own } else { own.strip_prefix(root).unwrap_or(own) };
    Some(Path::new(place).join(below.trim_start_matches('/')))
}

/// When a process was started, in the kernel's ticks; tells it from a later one with the same id.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Whether a living worker, here or in another container, holds this directory.
fn is_locked(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|directory| Flock::lock(directory, FlockArg::LockExclusiveNonblock).is_err())
}

/// Ends and removes the groups of workers that are dead.
pub fn sweep(own_group: &Path) -> Swept {
    let mut swept = Swept::default();
    let Ok(entries) = fs::read_dir(own_group) else { return swept };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((pid, started)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else { continue };
        let (Ok(pid), Ok(started)) = (pid.parse::<u32>(), started.parse::<u64>()) else { continue };
        let path = entry.path();
        if start_time(pid) == Some(started) || is_locked(&path) {
            continue;
        }
        let removed = fs::write(path.join("cgroup.kill"), "1").and_then(|()| {
            let deadline = std::time::Instant::now() + DEATH_BOUND;
            while populated(&path)? && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            remove(&path)
        });
        match removed {
            Ok(()) => swept.removed.push(format!("control group {name}")),
            Err(error) => swept.failed.push(format!("Could not remove the control group {}: {error}", path.display())),
        }
    }
    swept
}

/// Kills one process; one that is gone already is fine.
pub fn kill_process(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_in_pure_hybrid_and_containerized_hierarchies() {
        let pure = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let container = "50 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        assert_eq!(locate(pure, "0::/system.slice/w.service\n"), Some("/sys/fs/cgroup/system.slice/w.service".into()));
        assert_eq!(locate(hybrid, "4:memory:/x\n0::/\n"), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(locate(container, "0::/docker/abc/w\n"), Some("/sys/fs/cgroup/w".into()));
        assert_eq!(locate("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", "0::/\n"), None);
    }
}
