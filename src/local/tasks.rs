//! Calls about single tasks: create, show, schedule, run again, cancel, and who depends on them.

use std::{collections::HashSet, sync::Arc};

use serde::Serialize;
use serde_json::json;

use super::{
    auth::Need,
    check::{Fields, Text},
    definition::define,
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    page::{PAGE_BYTES, Page},
    reply::Reply,
    state::{Definition, Priority, Status, TaskId},
    view::{StatusAnswer, StatusOf, StatusView, TaskOf, WholeTask},
};

pub(crate) async fn ping(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    Ok(Reply::json(&json!({ "alive": true, "uptime": call.now.duration_since(desk.started).as_secs_f64() })))
}

/// `version`: which program this is.
pub(crate) async fn version(_desk: Arc<Desk>, _call: Call) -> Result<Reply, Fault> {
    let name = env!("CARGO_PKG_NAME");
    Ok(Reply::json(&json!({ "version": env!("CARGO_PKG_VERSION"), "source": name, "commit": "", "build": "" })))
}

pub(crate) fn status_answer(status: &Status) -> Reply {
    Reply::json(&StatusAnswer { status: StatusView(status) })
}

pub(crate) async fn create(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = call.task_id()?;
    let definition = define(id, &call.body, call.now)?;
    call.authorize(&creation_need(&definition))?;
    let status = desk.books(|state, now| state.create(now, id, Arc::new(definition)))?;
    Ok(status_answer(&status))
}

/// A task may only be given what its creator has.
fn creation_need(definition: &Definition) -> Need {
    let queue = &definition.task_queue_id;
    let at_least = Priority::ALL.iter().filter(|priority| **priority <= definition.priority);
    let mut needs: Vec<Need> = definition.scopes.iter().map(Need::scope).collect();
    needs.extend(definition.routes.iter().map(|route| Need::scope(format!("queue:route:{route}"))));
    needs.push(Need::scope(format!("queue:create-task:project:{}", definition.project_id)));
    needs.push(Need::scope(format!("queue:scheduler-id:{}", definition.scheduler_id)));
    needs.push(Need::any(at_least.map(|priority| format!("queue:create-task:{}:{queue}", priority.as_str()))));
    Need::All(needs)
}

pub(crate) async fn task(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = call.task_id()?;
    call.authorize(&Need::scope(format!("queue:get-task:{id}")))?;
    let status = desk.books(|state, now| state.status(now, id))?;
    Ok(Reply::json(&*status.definition_json()))
}

pub(crate) async fn status(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = call.task_id()?;
    call.authorize(&Need::scope(format!("queue:status:{id}")))?;
    let status = desk.books(|state, now| state.status(now, id))?;
    Ok(status_answer(&status))
}

pub(crate) async fn cancel(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = call.task_id()?;
    let known = desk.books(|state, now| state.status(now, id))?;
    call.authorize(&need_over_task(&known, "cancel-task"))?;
    let status = desk.books(|state, now| state.cancel(now, id))?;
    Ok(status_answer(&status))
}

pub(crate) async fn schedule(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = call.task_id()?;
    let known = desk.books(|state, now| state.status(now, id))?;
    call.authorize(&need_over_task(&known, "schedule-task"))?;
    let status = desk.books(|state, now| state.schedule(now, id))?;
    Ok(status_answer(&status))
}

pub(crate) async fn rerun(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = call.task_id()?;
    let known = desk.books(|state, now| state.status(now, id))?;
    call.authorize(&need_over_task(&known, "rerun-task"))?;
    let status = desk.books(|state, now| state.rerun(now, id))?;
    Ok(status_answer(&status))
}

pub(crate) async fn priority(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = call.task_id()?;
    let priority = new_priority(&call, "changeTaskPriority")?;
    let known = desk.books(|state, now| state.status(now, id))?;
    let queue = &known.definition.task_queue_id;
    call.authorize(&Need::any([
        format!("queue:change-task-priority:{id}"),
        format!("queue:change-task-priority-in-queue:{queue}"),
    ]))?;
    let status = desk.books(|state, now| state.prioritize(now, id, priority))?;
    Ok(status_answer(&status))
}

/// The priority in the body of a call that changes it.
pub(crate) fn new_priority(call: &Call, method: &str) -> Result<Priority, Fault> {
    let mut problems = Vec::new();
    let mut priority = None;
    if let Some(mut fields) = Fields::of(&call.body, "", &mut problems) {
        fields.only(&["newPriority"]);
        let given = fields.required("newPriority");
        priority = given.and_then(|value| value.as_str()).and_then(Priority::parse);
        if priority.is_none() && given.is_some() {
            let words: Vec<_> = Priority::ALL.iter().map(|word| word.as_str()).collect();
            fields.problem("newPriority", format!("must be one of {}", words.join(", ")));
        }
    }
    priority.filter(|_| problems.is_empty()).ok_or_else(|| Fault::invalid_body(method, &problems))
}

pub(crate) async fn dependents(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = call.task_id()?;
    call.authorize(&Need::scope(format!("queue:list-dependent-tasks:{id}")))?;
    let page = Page::of(&call)?;
    let after = page.after_id()?;
    let mut known = desk.books(|state, now| state.dependents(now, id, after, page.collect()))?;
    let continuation_token = page.cut_off(&mut known, definition_bytes, |status| status.task_id.to_string());
    let tasks = known.iter().map(WholeTask::new).collect();
    Ok(Reply::json(&Dependents { task_id: id.as_str(), tasks, continuation_token }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependents<'a> {
    task_id: &'a str,
    tasks: Vec<WholeTask<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_token: Option<String>,
}

/// How much of an answer this task's definition fills.
pub(crate) fn definition_bytes(status: &Status) -> usize {
    status.definition.json.get().len()
}

/// What `queue:<verb>…` calls need: over the task, over its project, or as its scheduler.
fn need_over_task(status: &Status, verb: &str) -> Need {
    let (id, definition) = (status.task_id, &status.definition);
    let (scheduler, group, project) = (&definition.scheduler_id, definition.task_group_id, &definition.project_id);
    Need::Any(vec![
        Need::scope(format!("queue:{verb}:{scheduler}/{group}/{id}")),
        Need::scope(format!("queue:{verb}-in-project:{project}")),
        Need::all([format!("queue:{verb}"), format!("assume:scheduler-id:{scheduler}/{group}")]),
    ])
}

pub(crate) async fn statuses(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (page, token) = asked_for(&call, "statuses", "queue:status")?;
    let known: Vec<_> = desk.books(|state, now| page.iter().filter_map(|(_, id)| state.status(now, *id).ok()).collect());
    let statuses =
        known.iter().map(|status| StatusOf { task_id: status.task_id.as_str(), status: StatusView(status) }).collect();
    Ok(Reply::json(&StatusPage { statuses, continuation_token: token }))
}

pub(crate) async fn tasks(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (page, mut token) = asked_for(&call, "tasks", "queue:get-task")?;
    let mut known = Vec::new();
    let mut room = PAGE_BYTES;
    for (at, id) in page {
        let Ok(status) = desk.books(|state, now| state.status(now, id)) else { continue };
        let bytes = definition_bytes(&status);
        if bytes > room && !known.is_empty() {
            token = Some(at.to_string());
            break;
        }
        room = room.saturating_sub(bytes);
        known.push(status);
    }
    let tasks =
        known.iter().map(|status| TaskOf { task_id: status.task_id.as_str(), task: status.definition_json() }).collect();
    Ok(Reply::json(&TaskPage { tasks, continuation_token: token }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusPage<'a> {
    statuses: Vec<StatusOf<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskPage<'a> {
    tasks: Vec<TaskOf<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_token: Option<String>,
}

/// Tasks with their positions in a list, and where the next page begins.
type Asked = (Vec<(usize, TaskId)>, Option<String>);

/// The tasks of one page of a call that names its tasks, with their positions in the caller's own list, and the token of the next page, which is
/// such a position, too.
fn asked_for(call: &Call, method: &str, scope: &str) -> Result<Asked, Fault> {
    let mut problems = Vec::new();
    let mut ids = Vec::new();
    if let Some(mut fields) = Fields::of(&call.body, "", &mut problems) {
        fields.only(&["taskIds"]);
        ids = fields.texts("taskIds", &Text::up_to(usize::MAX), usize::MAX, false);
    }
    if !problems.is_empty() {
        return Err(Fault::invalid_body(method, &problems));
    }
    call.authorize(&Need::all(ids.iter().map(|id| format!("{scope}:{id}"))))?;
    let start = match call.query("continuationToken") {
        None => 0,
        Some(token) => token.parse().map_err(|_| {
            Fault::new(Code::InvalidRequestArguments, format!("continuationToken `{token}` was not made by this call"))
        })?,
    };
    let end = call.limit()?.saturating_add(start).min(ids.len());
    // What is no task id belongs to no task, unknown tasks are left out, and a task that is named twice is shown once.
    let mut seen = HashSet::new();
    let named = ids.iter().enumerate().take(end).filter_map(|(at, id)| Some((at, TaskId::parse(id)?)));
    let page = named.filter(|(_, id)| seen.insert(*id)).skip_while(|(at, _)| *at < start).collect();
    Ok((page, (end < ids.len()).then(|| end.to_string())))
}
