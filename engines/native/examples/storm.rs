//! Starts copies of itself as fast as it can, and goes on when it cannot, for the tests of this crate. Ends at once unless
//! it is in a control group that was made for it and limits the number of processes.

use std::{fs, process::Command, time::Duration};

/// Looked at by every copy: nothing but a fence keeps the machine usable.
fn is_fenced() -> bool {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = groups.lines().find_map(|line| line.split_once(":pids:/")) else { return false };
    let limit = fs::read_to_string(format!("/sys/fs/cgroup/pids/{}/pids.max", group.1)).unwrap_or_default();
    group.1.starts_with("fence-") && limit.trim().parse::<u32>().is_ok_and(|limit| limit <= 300)
}

fn main() {
    let program = std::env::current_exe().expect("a path");
    while is_fenced() {
        if Command::new(&program).spawn().is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
