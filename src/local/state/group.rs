//! Task groups: who may add tasks to them, whether they are sealed, and which tasks they have.
//!
//! ```text
//! (its first task) ──▶ open ──seal──▶ sealed: no more tasks, may be canceled as a whole
//!                        └──────────────┴──▶ gone with the last of its tasks
//! ```
//! A group is there as long as one of its tasks is on the books, and expires with the last of them.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use jiff::Timestamp;

use super::{Change, Definition, Priority, Refusal, State, Status, TaskId, WhyResolved};

/// A task group as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The scheduler of all its tasks.
    pub scheduler_id: Arc<str>,
    /// When the last of its tasks expires.
    pub expires: Timestamp,
    /// When it was sealed, if it was.
    pub sealed: Option<Timestamp>,
}

/// What has become of some tasks of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// How many tasks were looked at.
    pub looked_at: usize,
    /// Those that changed.
    pub changed: Vec<TaskId>,
    /// Where to go on, if there are more tasks.
    pub next: Option<TaskId>,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_id: HashMap<TaskId, Group>,
    members: BTreeSet<(TaskId, TaskId)>,
}

impl Groups {
    fn get(&self, group: TaskId) -> Result<&Group, Refusal> {
        self.by_id.get(&group).ok_or_else(|| Refusal::NotFound(format!("task group {group} does not exist")))
    }

    /// Whether a new task of this definition may join its group.
    pub(super) fn admit(&self, id: TaskId, definition: &Definition) -> Result<(), Refusal> {
        let (group, scheduler) = (definition.task_group_id, &definition.scheduler_id);
        let Some(known) = self.by_id.get(&group) else { return Ok(()) };
        if *known.scheduler_id != **scheduler {
            return Err(Refusal::Conflict(format!(
                "task {id} has schedulerId \"{scheduler}\", but the tasks of task group {group} have \"{}\"",
                known.scheduler_id
            )));
        }
        match known.sealed {
            Some(sealed) => {
                Err(Refusal::Conflict(format!("task {id} cannot join task group {group}, which was sealed at {sealed:.3}")))
            }
            None => Ok(()),
        }
    }

    /// A task joins its group, which may be new.
    pub(super) fn join(&mut self, id: TaskId, definition: &Definition) {
        self.members.insert((definition.task_group_id, id));
        self.found(definition);
    }

    /// A task leaves its group, which may have been its last. Whether it was.
    pub(super) fn leave(&mut self, group: TaskId, id: TaskId) -> bool {
        self.members.remove(&(group, id));
        let is_empty = self.page(group, None, 1).is_empty();
        if is_empty {
            self.by_id.remove(&group);
        }
        is_empty
    }

    /// All tasks that were kept join their groups, which is faster at once than one by one.
    pub(super) fn restore<'a>(tasks: impl Iterator<Item = (TaskId, &'a Definition)>) -> Self {
        let mut groups = Self::default();
        let mut members = Vec::new();
        for (id, definition) in tasks {
            members.push((definition.task_group_id, id));
            groups.found(definition);
        }
        members.sort_unstable();
        groups.members = members.into_iter().collect();
        groups
    }

    /// The group of this definition, which expires no earlier than this task.
    fn found(&mut self, definition: &Definition) {
        let known = self.by_id.entry(definition.task_group_id).or_insert_with(|| Group {
            scheduler_id: Arc::from(&*definition.scheduler_id),
            expires: definition.expires,
            sealed: None,
        });
        known.expires = known.expires.max(definition.expires);
    }

    fn page(&self, group: TaskId, after: Option<TaskId>, limit: usize) -> Vec<TaskId> {
        let from = Bound::Excluded((group, after.unwrap_or(TaskId::FIRST)));
        self.members.range((from, Bound::Included((group, TaskId::LAST)))).map(|(_, task)| *task).take(limit).collect()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.members.is_empty()
    }
}

impl State {
    /// The group as it stands.
    pub fn group(&mut self, now: Timestamp, group: TaskId) -> Result<Group, Refusal> {
        self.advance(now);
        self.groups.get(group).cloned()
    }

    /// Up to `limit` of the group's tasks in the order of their ids, after one of them. Fewer are the last.
    pub fn group_page(
        &mut self,
        now: Timestamp,
        group: TaskId,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<(Group, Vec<Status>), Refusal> {
        let known = self.group(now, group)?;
        let ids = self.groups.page(group, after, limit);
        Ok((known, ids.into_iter().filter_map(|id| self.snapshot(id).ok()).collect()))
    }

    /// From now on no task joins the group. Repeating the call changes nothing.
    pub fn seal_group(&mut self, now: Timestamp, group: TaskId) -> Result<Group, Refusal> {
        let mut known = self.group(now, group)?;
        if known.sealed.is_none() {
            known.sealed = Some(now);
            self.keep_seal(group, now);
        }
        Ok(known)
    }

    /// What has to be kept of the group's seal; nothing if it has none.
    pub fn seal_record(&self, group: TaskId) -> Option<Timestamp> {
        self.groups.by_id.get(&group)?.sealed
    }

    /// The group was sealed at this date, here or before a restart. Nothing happens if it is gone.
    pub fn keep_seal(&mut self, group: TaskId, sealed: Timestamp) {
        if let Some(known) = self.groups.by_id.get_mut(&group) {
            known.sealed = Some(sealed);
            self.tasks.note(|| Change::Seal(group));
        }
    }

    /// Cancels up to `limit` tasks of a sealed group that come after one of them, all of them before anybody hears of any: a task of the batch
    /// that waits for another one is not scheduled first.
    pub fn cancel_group(
        &mut self,
        now: Timestamp,
        group: TaskId,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Batch, Refusal> {
        if self.group(now, group)?.sealed.is_none() {
            return Err(Refusal::Conflict(format!("task group {group} cannot be canceled before it is sealed")));
        }
        let batch = self.batch(group, after, limit, |state, id| state.close_task(now, id, WhyResolved::Canceled));
        self.together(now, |state| batch.changed.iter().for_each(|id| state.resolved(now, *id)));
        Ok(batch)
    }

    /// Gives up to `limit` open tasks of a group another priority.
    pub fn prioritize_group(
        &mut self,
        now: Timestamp,
        group: TaskId,
        priority: Priority,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Batch, Refusal> {
        self.group(now, group)?;
        Ok(self.batch(group, after, limit, |state, id| state.move_in_lane(id, priority)))
    }

    fn batch(
        &mut self,
        group: TaskId,
        after: Option<TaskId>,
        limit: usize,
        mut change: impl FnMut(&mut Self, TaskId) -> bool,
    ) -> Batch {
        let ids = self.groups.page(group, after, limit);
        let next = if ids.len() < limit { None } else { ids.last().copied() };
        let looked_at = ids.len();
        Batch { looked_at, changed: ids.into_iter().filter(|id| change(self, *id)).collect(), next }
    }
}
