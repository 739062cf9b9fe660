//! One control group per run: everything that a command starts is in it, whatever it does to its session or parents.
//!
//! Needs a writable cgroup2 hierarchy and no controllers. Groups are `<own group>/tc-worker-<pid>-<start>/<run>`; the middle
//! part tells a later worker whether the one that made it is still there.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tc_sys::{
    launch,
    removal::{self, What},
};

use crate::processes::Seen;

/// How long the kernel may take to let go of an empty group.
const REMOVAL_BOUND: Duration = Duration::from_secs(5);
const PREFIX: &str = "tc-worker-";

/// Where this worker makes its groups.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    path: PathBuf,
}

impl Base {
    /// Finds the worker's own group and makes one below it, or says why there will be none.
    pub(crate) fn establish() -> io::Result<Self> {
        let own = own_directory()?;
        let me = Seen::look(std::process::id()).ok_or_else(|| io::Error::other("read /proc/self/stat"))?;
        let base = Self { path: own.join(format!("{PREFIX}{}-{}", me.pid, me.started)) };
        base.ensure()?;
        // Seccomp filters, mount options and delegation rules are too many to predict; trying tells.
        let probe = format!("probe-{}", next_probe());
        let tried = base.create(&probe).and_then(|group| {
            let tried = launch::can_start_in(group.directory.as_fd(), group.procs.as_fd());
            group.remove()?;
            tried
        });
        if let Err(error) = tried {
            base.forget();
            return Err(error);
        }
        Ok(base)
    }

    /// Makes the worker's group if somebody has removed it.
    pub(crate) fn ensure(&self) -> io::Result<()> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }

    /// Makes the group of a run.
    pub(crate) fn create(&self, run: &str) -> io::Result<Group> {
        let path = self.path.join(run);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.ensure()?;
                fs::create_dir(&path)?;
            }
            done => done?,
        }
        let opened = (|| {
            let directory = File::open(&path)?;
            let procs = File::options().write(true).open(path.join("cgroup.procs"))?;
            io::Result::Ok((directory, procs))
        })();
        match opened {
            Ok((directory, procs)) => Ok(Group { path, directory, procs }),
            Err(error) => {
                // It is empty, so this can only fail if somebody else has removed it.
                drop(fs::remove_dir(&path));
                Err(error)
            }
        }
    }

    /// Removes the worker's group if no run is in it.
    pub(crate) fn forget(&self) {
        // Not empty means that it is still needed.
        drop(fs::remove_dir(&self.path));
    }

    /// Groups of runs whose worker is gone.
    pub(crate) fn stale(&self) -> Vec<Group> {
        let mut found = Vec::new();
        for worker in self.dead_workers() {
            for run in subdirectories(&worker) {
                if let (Ok(directory), Ok(procs)) =
                    (File::open(&run), File::options().write(true).open(run.join("cgroup.procs")))
                {
                    found.push(Group { path: run, directory, procs });
                }
            }
        }
        found
    }

    /// Removes the groups of workers that are gone and have no runs any more.
    pub(crate) fn forget_dead(&self) {
        for worker in self.dead_workers() {
            // Not empty means that a run was to be kept, or could not be removed, which was said.
            drop(fs::remove_dir(&worker));
        }
    }

    fn dead_workers(&self) -> impl Iterator<Item = PathBuf> {
        let beside = self.path.parent().map(subdirectories).unwrap_or_default();
        beside.into_iter().filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_of_dead_worker))
    }
}

/// Several engines may be set up at once in one process.
fn next_probe() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn subdirectories(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Whether a directory name is that of a worker which no longer runs.
fn is_of_dead_worker(name: &str) -> bool {
    let Some((pid, started)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else { return false };
    let (Ok(pid), Ok(started)) = (pid.parse::<u32>(), started.parse::<u64>()) else { return false };
    Seen::look(pid).is_none_or(|seen| seen.started != started || seen.is_zombie)
}

/// The control group of one run.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    pub(crate) directory: File,
    pub(crate) procs: File,
}

impl Group {
    /// Its own name, which is that of the run.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether a process is in it or in a group below it.
    pub(crate) fn is_populated(&self) -> io::Result<bool> {
        match fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(events) => Ok(!events.lines().any(|line| line == "populated 0")),
            // A group that is gone has no processes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Kills everything in it and below. Returns before all is dead.
    pub(crate) fn kill(&self) {
        if fs::write(self.path.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        // Kernels before 5.14. What is frozen cannot fork while its list is read, and can be killed all the same.
        drop(fs::write(self.path.join("cgroup.freeze"), "1"));
        for seen in self.members() {
            seen.signal(tc_sys::process::KILL);
        }
        drop(fs::write(self.path.join("cgroup.freeze"), "0"));
    }

    /// Asks everything in it and below to end.
    pub(crate) fn terminate(&self) {
        for seen in self.members() {
            seen.signal(tc_sys::process::TERMINATE);
        }
    }

    /// The processes in it and below.
    pub(crate) fn members(&self) -> Vec<Seen> {
        let mut members = Vec::new();
        let mut open = vec![self.path.clone()];
        while let Some(group) = open.pop() {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            members.extend(text.lines().filter_map(|pid| Seen::look(pid.parse().ok()?)));
            open.extend(subdirectories(&group));
        }
        members
    }

    /// Whether a process is or was in it or below it.
    pub(crate) fn has_had(&self, seen: &Seen) -> bool {
        let Some(group) = seen.cgroup() else { return false };
        let Some(name) = self.path.file_name().and_then(|name| name.to_str()) else { return false };
        let Some(worker) = self.path.parent().and_then(Path::file_name).and_then(|name| name.to_str()) else { return false };
        let mut parts = group.trim_end_matches(" (deleted)").split('/').skip_while(|part| *part != worker).skip(1);
        parts.next() == Some(name)
    }

    /// Removes it with the groups that the task made in it. Blocks for a short time.
    pub(crate) fn remove(self) -> io::Result<()> {
        let deadline = Instant::now() + REMOVAL_BOUND;
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(()) };
        let parent = File::open(parent)?;
        let name = CString::new(name.as_bytes()).map_err(io::Error::other)?;
        loop {
            match removal::remove(parent.as_fd(), &name, What::Directories, deadline) {
                Ok(()) => return Ok(()),
                // The last process may still be on its way out.
                Err(left) if left.error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(left) => return Err(left.error),
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Gone already, except after an error or a panic. Where processes are left, this is not what ends them.
        drop(fs::remove_dir(&self.path));
    }
}

/// The directory of this process's own group.
fn own_directory() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    locate(&mounts, &own).ok_or_else(|| io::Error::other("no cgroup2 hierarchy is mounted that contains this process"))
}

/// Puts together where cgroup2 is mounted and which group this process is in.
fn locate(mounts: &str, own: &str) -> Option<PathBuf> {
    let own = Path::new(own.lines().find_map(|line| line.strip_prefix("0::"))?);
    mounts.lines().find_map(|line| {
        let (fields, source) = line.split_once(" - ")?;
        if source.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = fields.split(' ').skip(3);
        let (root, mounted_at) = (unescape(fields.next()?), unescape(fields.next()?));
        // Outside of the mounted part (seen as `/..` in a namespace) there is nothing to write to.
        let below = own.strip_prefix(&root).ok()?;
        if below.components().any(|part| part == std::path::Component::ParentDir) {
            return None;
        }
        Some(Path::new(&mounted_at).join(below))
    })
}

/// Undoes the octal escapes of mountinfo.
fn unescape(field: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(field.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
         38 31 0:35 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
         41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw";

    #[test]
    fn the_own_group_is_found_in_every_layout() {
        let found = |mounts, own| locate(mounts, own).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(found(HYBRID, "9:pids:/x\n0::/a/b\n").as_deref(), Some("/sys/fs/cgroup/unified/a/b"));
        let unified = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw";
        assert_eq!(found(unified, "0::/\n").as_deref(), Some("/sys/fs/cgroup/"));
        let part = "30 24 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup ro";
        assert_eq!(found(part, "0::/docker/abc/w\n").as_deref(), Some("/sys/fs/cgroup/w"));
        assert_eq!(found(part, "0::/other\n"), None);
        assert_eq!(found(unified, "0::/../other\n"), None);
        assert_eq!(found("", "0::/\n"), None);
        assert_eq!(found(unified, "3:pids:/\n"), None);
    }

    #[test]
    fn only_dead_workers_have_stale_groups() {
        let me = Seen::look(std::process::id()).expect("seen");
        assert!(!is_of_dead_worker(&format!("{PREFIX}{}-{}", me.pid, me.started)));
        assert!(is_of_dead_worker(&format!("{PREFIX}{}-{}", me.pid, me.started + 1)));
        assert!(!is_of_dead_worker("system.slice"));
    }
}
