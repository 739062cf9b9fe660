//! `payload.osGroups` for a task that runs as the worker's own user: the user has to be in them already.

use async_trait::async_trait;

use super::{require_scopes, switched_off, table::Part};
use crate::run::{
    admit::scope,
    context::RunContext,
    outcome::{Blame, RunError},
};

/// Checks groups; there is nothing to start.
pub struct OsGroups;

#[async_trait]
impl Part<RunContext> for OsGroups {
    fn name(&self) -> &'static str {
        "OS Groups"
    }

    fn admit(&self, cx: &RunContext) -> Result<(), RunError> {
        let config = &cx.shop.config;
        if !config.enable_os_groups {
            return Err(switched_off(cx, self.name()));
        }
        let groups = &cx.payload.os_groups;
        require_scopes(cx, self.name(), &scope::os_groups(groups, &config.task_queue_id()))?;
        let own = own_groups();
        let foreign: Vec<&str> = groups.iter().filter(|g| !own.contains(g)).map(String::as_str).collect();
        if foreign.is_empty() {
            return Ok(());
        }
        Err(RunError::new(Blame::Payload, format!("task payload contains unsupported osGroups: [{}]", foreign.join(" "))))
    }
}

/// Names of the groups that the worker's user is in.
fn own_groups() -> Vec<String> {
    let Ok(groups) = nix::unistd::getgroups() else { return Vec::new() };
    groups
        .into_iter()
        .chain([nix::unistd::getegid()])
        .filter_map(|gid| nix::unistd::Group::from_gid(gid).ok().flatten())
        .map(|group| group.name)
        .collect()
}
