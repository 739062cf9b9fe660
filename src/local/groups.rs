//! Calls about task groups. What changes many tasks does so in batches, so that others come in between.

use std::sync::Arc;

use serde::Serialize;

use super::{
    auth::Need,
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    page::Page,
    reply::Reply,
    state::{Batch, Group, Refusal, State, TaskId},
    tasks::{definition_bytes, new_priority},
    view::{Date, WholeTask},
};

/// Tasks that are changed in one go.
const BATCH: usize = 1000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupView<'a> {
    task_group_id: &'a str,
    scheduler_id: &'a str,
    expires: Date,
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<Date>,
}

impl<'a> GroupView<'a> {
    fn new(id: &'a TaskId, group: &'a Group) -> Self {
        Self {
            task_group_id: id.as_str(),
            scheduler_id: &group.scheduler_id,
            expires: Date(group.expires),
            sealed: group.sealed.map(Date),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupPage<'a> {
    #[serde(flatten)]
    group: GroupView<'a>,
    tasks: Vec<WholeTask<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Canceled<'a> {
    task_group_id: &'a str,
    task_group_size: usize,
    cancelled_count: usize,
    task_ids: Vec<TaskId>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Prioritized<'a> {
    task_group_id: &'a str,
    scheduler_id: &'a str,
    new_priority: &'static str,
    tasks_affected: usize,
    task_ids: Vec<TaskId>,
}

pub(crate) async fn get(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = group_id(&call)?;
    call.authorize(&Need::scope(format!("queue:list-task-group:{id}")))?;
    let group = desk.books(|state, now| state.group(now, id))?;
    Ok(Reply::json(&GroupView::new(&id, &group)))
}

pub(crate) async fn list(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = group_id(&call)?;
    call.authorize(&Need::scope(format!("queue:list-task-group:{id}")))?;
    let page = Page::of(&call)?;
    let after = page.after_id()?;
    let (group, mut members) = desk.books(|state, now| state.group_page(now, id, after, page.collect()))?;
    let continuation_token = page.cut_off(&mut members, definition_bytes, |status| status.task_id.to_string());
    let tasks = members.iter().map(WholeTask::new).collect();
    Ok(Reply::json(&GroupPage { group: GroupView::new(&id, &group), tasks, continuation_token }))
}

pub(crate) async fn seal(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (id, _) = authorized(&desk, &call, "seal-task-group")?;
    let group = desk.books(|state, now| state.seal_group(now, id))?;
    Ok(Reply::json(&GroupView::new(&id, &group)))
}

pub(crate) async fn cancel(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (id, _) = authorized(&desk, &call, "cancel-task-group")?;
    let whole = in_batches(&desk, |state, now, after| state.cancel_group(now, id, after, BATCH)).await?;
    Ok(Reply::json(&Canceled {
        task_group_id: id.as_str(),
        task_group_size: whole.looked_at,
        cancelled_count: whole.changed.len(),
        task_ids: whole.changed,
    }))
}

pub(crate) async fn priority(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let priority = new_priority(&call, "changeTaskGroupPriority")?;
    let (id, group) = authorized(&desk, &call, "change-task-group-priority")?;
    let whole = in_batches(&desk, |state, now, after| state.prioritize_group(now, id, priority, after, BATCH)).await?;
    Ok(Reply::json(&Prioritized {
        task_group_id: id.as_str(),
        scheduler_id: &group.scheduler_id,
        new_priority: priority.as_str(),
        tasks_affected: whole.changed.len(),
        task_ids: whole.changed,
    }))
}

fn group_id(call: &Call) -> Result<TaskId, Fault> {
    let text = call.param("taskGroupId");
    TaskId::parse(text).ok_or_else(|| {
        Fault::new(Code::InvalidRequestArguments, format!("taskGroupId `{text}` must be a slugid of 22 characters"))
    })
}

/// The group, if the caller may do this with it.
fn authorized(desk: &Desk, call: &Call, verb: &str) -> Result<(TaskId, Group), Fault> {
    let id = group_id(call)?;
    let group = desk.books(|state, now| state.group(now, id))?;
    call.authorize(&Need::scope(format!("queue:{verb}:{}/{id}", group.scheduler_id)))?;
    Ok((id, group))
}

async fn in_batches(
    desk: &Desk,
    mut change: impl FnMut(&mut State, jiff::Timestamp, Option<TaskId>) -> Result<Batch, Refusal>,
) -> Result<Batch, Fault> {
    let mut whole = Batch { looked_at: 0, changed: Vec::new(), next: None };
    loop {
        let batch = desk.books(|state, now| change(state, now, whole.next))?;
        whole.looked_at += batch.looked_at;
        whole.changed.extend(batch.changed);
        whole.next = batch.next;
        if whole.next.is_none() {
            return Ok(whole);
        }
        tokio::task::yield_now().await;
    }
}
