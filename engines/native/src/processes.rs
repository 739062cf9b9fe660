//! Looking at the process table.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::fd::AsFd,
};

/// One process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) session: u32,
    pub(crate) is_zombie: bool,
    /// In clock ticks since the machine started. With the number it names one process for good.
    pub(crate) started: u64,
}

impl Seen {
    /// The process that has this number now.
    pub(crate) fn look(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The program's name is in parentheses and may contain anything, so fields are counted from the last parenthesis.
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let is_zombie = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(15)?.parse().ok()?;
        Some(Self { pid, parent, session, is_zombie, started })
    }

    /// Sends a signal to this very process; not to another that has got its number since.
    pub(crate) fn signal(&self, signal: i32) {
        let Ok(pidfd) = tc_sys::process::open(self.pid) else { return };
        if Self::look(self.pid).is_some_and(|now| now.started == self.started) {
            // It may have ended by now, which is what signals are sent for.
            drop(tc_sys::process::signal(pidfd.as_fd(), signal));
        }
    }

    /// The cgroup2 group that it is or was in.
    pub(crate) fn cgroup(&self) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
    }
}

/// All processes that can be seen.
pub(crate) fn all() -> Vec<Seen> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| Seen::look(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// All descendants of a process, without itself.
pub(crate) fn descendants(root: u32) -> Vec<Seen> {
    below(&all(), [root])
}

/// Of `all`, what descends from `roots`.
pub(crate) fn below(all: &[Seen], roots: impl IntoIterator<Item = u32>) -> Vec<Seen> {
    let mut children: HashMap<u32, Vec<Seen>> = HashMap::new();
    for seen in all {
        children.entry(seen.parent).or_default().push(*seen);
    }
    let mut found = Vec::new();
    let mut visited = HashSet::new();
    let mut open: Vec<u32> = roots.into_iter().collect();
    while let Some(parent) = open.pop() {
        // Taken at different moments, the table may contain circles.
        if !visited.insert(parent) {
            continue;
        }
        for child in children.get(&parent).into_iter().flatten() {
            found.push(*child);
            open.push(child.pid);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_and_spaces_confuse_nobody() {
        let stat = "7 (a) S 1 (b)) Z 5 6 3 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 0 0 1844";
        let seen = Seen::parse(7, stat).expect("parsed");
        assert_eq!(seen, Seen { pid: 7, parent: 5, session: 3, is_zombie: true, started: 12345 });
    }

    #[test]
    fn this_process_is_seen() {
        let me = Seen::look(std::process::id()).expect("seen");
        assert!(all().contains(&me) && !me.is_zombie);
        assert!(descendants(me.parent).contains(&me));
    }
}
