//! What a task inherits from its worker, and who it is.

use std::{collections::HashMap, fs, os::unix::ffi::OsStrExt};

use tc_engine::{Environment, Identity};
use tc_sys::process;

/// Variables with this prefix tell a Taskcluster client who it is. A task is told by its worker, never by its worker's own.
const OURS: &[u8] = b"TASKCLUSTER_";

/// The worker's environment without what is only for the worker.
pub(crate) fn inherited(variables: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>) -> Environment {
    variables.filter(|(name, _)| !name.as_bytes().starts_with(OURS)).collect()
}

/// The user that this process runs as.
pub(crate) fn current_identity() -> Identity {
    let (uid, gid) = process::identity();
    let names = group_names(&fs::read_to_string("/etc/group").unwrap_or_default());
    let mut groups: Vec<String> = process::groups()
        .unwrap_or_default()
        .into_iter()
        .filter(|group| *group != gid)
        .map(|group| names.get(&group).cloned().unwrap_or_else(|| group.to_string()))
        .collect();
    groups.sort_unstable();
    Identity { uid, gid, groups }
}

fn group_names(text: &str) -> HashMap<u32, String> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.parse().ok()?, name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_workers_own_account_is_inherited() {
        let variables = [("TASKCLUSTER_ACCESS_TOKEN", "t"), ("TASKCLUSTER_ROOT_URL", "u"), ("DISPLAY", ":0")];
        let kept = inherited(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        assert_eq!(kept, Environment::from([("DISPLAY".into(), ":0".into())]));
    }

    #[test]
    fn groups_have_names() {
        let names = group_names("root:x:0:\nvideo:x:44:a,b\nbroken\n");
        assert_eq!(names.get(&44).map(String::as_str), Some("video"));
        assert_eq!(names.len(), 2);
    }
}
