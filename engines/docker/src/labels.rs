//! Whose something is: the labels on everything that is made here, and what follows from them.
//!
//! A container, network or volume names its owner (the worker), its run, and the process that made it. What a dead process
//! made is a leftover of its worker, what a living one made is in use. A process is known by its number, when it started,
//! and in which boot and which namespace that number counts, so that a number that was given again is no mistake.
//!
//! Labels are passed on: whoever commits one of our containers makes an image with our labels, and containers of that image
//! carry them. So the name has to be the one that belongs to the labels, too.

use std::{collections::HashMap, fs};

use tc_engine::Keep;

/// Which worker it belongs to: `<workerGroup>/<workerId>`.
pub(crate) const OWNER: &str = "tc-worker.owner";
/// Which run of that worker.
pub(crate) const RUN: &str = "tc-worker.run";
/// Which process of that worker made it.
pub(crate) const PROCESS: &str = "tc-worker.process";

/// Names of everything that is made for a run begin with this, so that people see where it comes from.
const NAME_PREFIX: &str = "tc-worker.";

/// The name of a run's container and of its network.
pub(crate) fn name_of(run: &str) -> String {
    format!("{NAME_PREFIX}{run}")
}

/// The name of a run's volume at this position.
pub(crate) fn volume_of(run: &str, position: usize) -> String {
    format!("{NAME_PREFIX}{run}.{position}")
}

/// Whether something with this name is what its label says.
fn is_named_after(name: &str, run: &str) -> bool {
    name.strip_prefix(NAME_PREFIX).and_then(|name| name.strip_prefix(run)).is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('.').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// A process, unmistakably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pid: u32,
    /// Ticks between the boot and its start.
    started: u64,
    /// The boot and the process namespace in which the number counts.
    realm: String,
}

impl Process {
    /// This process.
    pub fn current() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let namespace: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
        let pid = std::process::id();
        Self { pid, started: start_of(pid).unwrap_or(0), realm: format!("{}/{namespace}", boot.trim()) }
    }

    /// As a label.
    fn shown(&self) -> String {
        format!("{}@{}@{}", self.pid, self.started, self.realm)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '@');
        let (pid, started, realm) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()?, realm: realm.to_owned() })
    }

    /// Whether it runs. What counts in another boot is over; of another namespace nothing can be known, and the owner's
    /// name has to be enough: two workers with one name are not meant to be.
    fn is_alive(&self, ours: &Self) -> bool {
        self.realm == ours.realm && start_of(self.pid) == Some(self.started)
    }
}

/// When a process started; none if there is no such process.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything; field 3 comes after the last parenthesis, the start is field 22.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Who makes things here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerIdentity {
    /// `<workerGroup>/<workerId>`; unique among the workers that share an engine.
    pub worker: String,
    /// The process that this is.
    pub process: Process,
}

impl OwnerIdentity {
    /// This process, as this worker.
    pub fn new(worker: impl Into<String>) -> Self {
        Self { worker: worker.into(), process: Process::current() }
    }

    /// The labels of something made for a run.
    pub(crate) fn labels(&self, run: &str) -> HashMap<String, String> {
        HashMap::from([
            (OWNER.to_owned(), self.worker.clone()),
            (RUN.to_owned(), run.to_owned()),
            (PROCESS.to_owned(), self.process.shown()),
        ])
    }

    /// The same for a volume. One that a container brought along has a name without a meaning, and labels of volumes are not
    /// passed on by images.
    pub(crate) fn leftover_volume<'a>(
        &self,
        worker: &str,
        name: &str,
        labels: &'a HashMap<String, String>,
        keep: &Keep,
    ) -> Option<&'a str> {
        let is_nameless = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let named = labels.get(RUN).filter(|_| is_nameless).map(|run| name_of(run));
        self.leftover(worker, named.as_deref().unwrap_or(name), labels, keep)
    }

    /// If this is a leftover of this worker, the run it belongs to. `keep` are runs that go on.
    pub(crate) fn leftover<'a>(
        &self,
        worker: &str,
        name: &str,
        labels: &'a HashMap<String, String>,
        keep: &Keep,
    ) -> Option<&'a str> {
        let (owner, run, process) = (labels.get(OWNER)?, labels.get(RUN)?, labels.get(PROCESS)?);
        let maker = Process::parse(process)?;
        let is_ours = owner == worker && is_named_after(name, run) && !keep(run);
        (is_ours && (maker == self.process || !maker.is_alive(&self.process))).then_some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(owner: &str, run: &str, process: &Process) -> HashMap<String, String> {
        OwnerIdentity { worker: owner.to_owned(), process: process.clone() }.labels(run)
    }

    #[test]
    fn what_the_dead_left_is_a_leftover_and_what_the_living_use_is_not() {
        let ours = OwnerIdentity::new("g/w");
        let me = &ours.process;
        let parent = std::os::unix::process::parent_id();
        let living = Process { pid: parent, started: start_of(parent).expect("it lives"), realm: me.realm.clone() };
        let reused = Process { started: living.started + 1, ..living.clone() };
        let earlier_boot = Process { realm: "another/1".into(), ..living.clone() };
        let name = name_of("task_a_0");
        let fate = |labels: &HashMap<String, String>, keep: &[&str]| {
            let keep: Vec<String> = keep.iter().map(|&run| run.to_owned()).collect();
            let keep: Keep = std::sync::Arc::new(move |run| keep.iter().any(|kept| kept == run));
            ours.leftover("g/w", &name, labels, &keep).map(str::to_owned)
        };
        let leftover = Some("task_a_0".to_owned());
        assert_eq!(fate(&labels("g/w", "task_a_0", me), &[]), leftover, "of a run of ours that is over");
        assert_eq!(fate(&labels("g/w", "task_a_0", me), &["task_a_0"]), None, "of a run that goes on");
        assert_eq!(fate(&labels("g/w", "task_a_0", &reused), &[]), leftover, "the number was given again");
        assert_eq!(fate(&labels("g/w", "task_a_0", &earlier_boot), &[]), leftover);
        assert_eq!(fate(&labels("g/w", "task_a_0", &living), &[]), None, "another process of this worker lives");
        assert_eq!(fate(&labels("g/other", "task_a_0", &reused), &[]), None, "another worker's");
        assert_eq!(fate(&HashMap::new(), &[]), None);
    }

    #[test]
    fn labels_that_came_with_an_image_say_nothing() {
        let ours = OwnerIdentity::new("g/w");
        let labels = ours.labels("task_a_0");
        let nothing: Keep = std::sync::Arc::new(|_| false);
        for name in ["web", "tc-worker.task_a_01", "tc-worker.task_a_0.x", "task_a_0"] {
            assert_eq!(ours.leftover("g/w", name, &labels, &nothing), None, "{name}");
        }
        assert_eq!(ours.leftover_volume("g/w", &"ab".repeat(32), &labels, &nothing), Some("task_a_0"));
        assert_eq!(ours.leftover_volume("g/w", "web", &labels, &nothing), None);
        assert_eq!(ours.leftover("g/w", &volume_of("task_a_0", 11), &labels, &nothing), Some("task_a_0"));
    }

    #[test]
    fn a_process_survives_being_a_label() {
        let me = Process::current();
        assert_eq!(Process::parse(&me.shown()), Some(me.clone()));
        assert!(me.is_alive(&me) && me.started > 0);
    }
}
