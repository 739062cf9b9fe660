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

use super::{Change, Definition, Priority, Refusal, State, Status, TaskId, WhyResolved, books::Tasks};

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

impl Group {
    /// The group of which nothing is known but this task.
    fn of(definition: &Definition) -> Self {
        Self { scheduler_id: Arc::from(&*definition.scheduler_id), expires: definition.expires, sealed: None }
    }
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Those that cannot be told from their only task: most tasks may well be groups of their own.
    by_id: HashMap<TaskId, Group>,
    members: BTreeSet<(TaskId, TaskId)>,
}

impl Groups {
    fn get(&self, tasks: &Tasks, group: TaskId) -> Option<Group> {
        let known = self.by_id.get(&group).cloned();
        known.or_else(|| {
            let only = self.page(group, None, 1).first().copied()?;
            tasks.get(&only).map(|task| Group::of(&task.definition))
        })
    }

    /// Whether a new task of this definition may join its group.
    pub(super) fn admit(&self, tasks: &Tasks, id: TaskId, definition: &Definition) -> Result<(), Refusal> {
        let (group, scheduler) = (definition.task_group_id, &definition.scheduler_id);
        let Some(known) = self.get(tasks, group) else { return Ok(()) };
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

    /// A task that is not on the books yet joins its group, which may be new.
    pub(super) fn join(&mut self, tasks: &Tasks, id: TaskId, definition: &Definition) {
        let group = definition.task_group_id;
        if let Some(mut known) = self.get(tasks, group) {
            known.expires = known.expires.max(definition.expires);
            self.by_id.insert(group, known);
        }
        self.members.insert((group, id));
    }

    /// A task leaves its group, which may have been its last. Whether a seal has gone with it.
    pub(super) fn leave(&mut self, group: TaskId, id: TaskId) -> bool {
        self.members.remove(&(group, id));
        let is_empty = self.page(group, None, 1).is_empty();
        is_empty && self.by_id.remove(&group).is_some_and(|group| group.sealed.is_some())
    }

    /// All tasks that were kept join their groups, which is faster at once than one by one.
    pub(super) fn restore(tasks: &Tasks) -> Self {
        let mut members: Vec<_> =
            tasks.all().iter().map(|(id, task)| ((task.definition.task_group_id, *id), &*task.definition)).collect();
        members.sort_unstable_by_key(|(member, _)| *member);
        let mut by_id = HashMap::new();
        for of_one in members.chunk_by(|((group, _), _), ((other, _), _)| group == other) {
            if let [((group, _), first), _, ..] = of_one {
                let expires = of_one.iter().map(|(_, definition)| definition.expires).max().unwrap_or(first.expires);
                by_id.insert(*group, Group { expires, ..Group::of(first) });
            }
        }
        Self { by_id, members: members.into_iter().map(|(member, _)| member).collect() }
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
        let known = self.groups.get(&self.tasks, group);
        known.ok_or_else(|| Refusal::NotFound(format!("task group {group} does not exist")))
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
        if let Some(known) = self.groups.get(&self.tasks, group) {
            self.groups.by_id.insert(group, Group { sealed: Some(sealed), ..known });
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
