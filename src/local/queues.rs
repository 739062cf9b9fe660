//! Calls about task queues: how much is there to do, and what was seen when. Provisioners and worker types are the same queues under the names that
//! they had before.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    auth::Need,
    check::{TASK_QUEUE_ID, WORD, WORKER_TYPE},
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    page::Page,
    reply::Reply,
    state::{Place, QueueView, Status},
    tasks::definition_bytes,
    view::Date,
};

pub(crate) async fn list(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    call.authorize(&Need::scope("queue:list-task-queues"))?;
    let page = Page::of(&call)?;
    let queues = desk.books(|state, now| state.task_queues(now, page.after.as_deref(), page.collect()));
    Ok(Reply::json(&page.answer("taskQueues", queues, |queue| &queue.task_queue_id, queue_json)))
}

pub(crate) async fn get(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let queue = task_queue_id(&call)?;
    call.authorize(&Need::scope(format!("queue:get-task-queue:{queue}")))?;
    let queue = desk.books(|state, now| state.task_queue(now, &queue))?;
    Ok(Reply::json(&queue_json(&queue)))
}

pub(crate) async fn counts(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let queue = task_queue_id(&call)?;
    call.authorize(&Need::all(["pending", "claimed"].map(|what| format!("queue:{what}-count:{queue}"))))?;
    let (pending, claimed) = desk.books(|state, now| state.counts(now, &queue));
    let (provisioner, worker_type) = halves(&queue);
    Ok(Reply::json(&json!({
        "provisionerId": provisioner, "workerType": worker_type, "taskQueueId": &*queue, "pendingTasks": pending, "claimedTasks": claimed,
    })))
}

pub(crate) async fn pending_count(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let queue = task_queue_id(&call)?;
    call.authorize(&Need::scope(format!("queue:pending-count:{queue}")))?;
    let (pending, _) = desk.books(|state, now| state.counts(now, &queue));
    let (provisioner, worker_type) = halves(&queue);
    Ok(Reply::json(&json!({
        "provisionerId": provisioner, "workerType": worker_type, "taskQueueId": &*queue, "pendingTasks": pending,
    })))
}

pub(crate) async fn pending(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    lane(&desk, &call, false)
}

pub(crate) async fn claimed(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    lane(&desk, &call, true)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InLane<'a> {
    task_id: &'a str,
    run_id: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    inserted: Option<Date>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed: Option<Date>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_id: Option<&'a str>,
    task: Cow<'a, RawValue>,
}

impl<'a> InLane<'a> {
    fn new(status: &'a Status) -> Option<Self> {
        let run = status.runs.last()?;
        let hold = run.hold.as_ref();
        Some(Self {
            task_id: status.task_id.as_str(),
            run_id: status.runs.len() - 1,
            inserted: hold.is_none().then_some(Date(run.scheduled)),
            claimed: hold.map(|hold| Date(hold.started)),
            worker_group: hold.map(|hold| &*hold.worker.group),
            worker_id: hold.map(|hold| &*hold.worker.id),
            task: status.definition_json(),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LanePage<'a> {
    tasks: Vec<InLane<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_token: Option<String>,
}

fn lane(desk: &Desk, call: &Call, claimed: bool) -> Result<Reply, Fault> {
    let queue = task_queue_id(call)?;
    call.authorize(&Need::scope(format!("queue:{}-list:{queue}", if claimed { "claimed" } else { "pending" })))?;
    let page = Page::of(call)?;
    let after = page.after_as(Place::parse)?;
    let mut found = desk.books(|state, now| state.lane(now, &queue, claimed, after, page.collect()));
    let continuation_token = page.cut_off(&mut found, |(_, status)| definition_bytes(status), |(place, _)| place.to_string());
    let tasks = found.iter().filter_map(|(_, status)| InLane::new(status)).collect();
    Ok(Reply::json(&LanePage { tasks, continuation_token }))
}

pub(crate) async fn provisioners(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    call.authorize(&Need::scope("queue:list-provisioners"))?;
    let page = Page::of(&call)?;
    let queues = desk.books(|state, now| state.task_queues(now, None, usize::MAX));
    // The queues of one provisioner follow each other.
    let of_one = queues.chunk_by(|a, b| halves(&a.task_queue_id).0 == halves(&b.task_queue_id).0);
    let mut found: Vec<_> = of_one.filter_map(|queues| Some((halves(&queues.first()?.task_queue_id).0, queues))).collect();
    found.sort_unstable_by_key(|(name, _)| *name);
    let found = page.cut(found, |(name, _)| name);
    Ok(Reply::json(&page.answer("provisioners", found, |(name, _)| name, |(name, queues)| provisioner_json(name, queues))))
}

pub(crate) async fn provisioner(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let name = provisioner_id(&call)?;
    call.authorize(&Need::scope(format!("queue:get-provisioner:{name}")))?;
    let queues = desk.books(|state, now| state.queues_of(now, name));
    if queues.is_empty() {
        return Err(Fault::new(Code::ResourceNotFound, format!("provisioner {name} does not exist: it has no task queues")));
    }
    Ok(Reply::json(&provisioner_json(name, &queues)))
}

pub(crate) async fn worker_types(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let name = provisioner_id(&call)?;
    call.authorize(&Need::scope(format!("queue:list-worker-types:{name}")))?;
    let page = Page::of(&call)?;
    let queues = desk.books(|state, now| state.queues_of(now, name));
    let found = page.cut(queues, |queue| &queue.task_queue_id);
    Ok(Reply::json(&page.answer("workerTypes", found, |queue| &queue.task_queue_id, worker_type_json)))
}

pub(crate) async fn worker_type(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let queue = queue_by_halves(&call)?;
    call.authorize(&Need::scope(format!("queue:get-worker-type:{queue}")))?;
    let queue = desk.books(|state, now| state.task_queue(now, &queue))?;
    Ok(Reply::json(&worker_type_json(&queue)))
}

/// What is said of everything that was seen. Nobody describes anything here, and nothing will change.
fn activity(last_active: Timestamp, expires: Timestamp) -> Value {
    json!({ "description": "", "stability": "stable", "lastDateActive": Date(last_active), "expires": Date(expires) })
}

fn queue_json(queue: &QueueView) -> Value {
    let mut shown = activity(queue.last_active, queue.expires);
    shown["taskQueueId"] = json!(&*queue.task_queue_id);
    shown
}

fn worker_type_json(queue: &QueueView) -> Value {
    let mut shown = queue_json(queue);
    let (provisioner, worker_type) = halves(&queue.task_queue_id);
    shown["provisionerId"] = json!(provisioner);
    shown["workerType"] = json!(worker_type);
    shown
}

fn provisioner_json(name: &str, queues: &[QueueView]) -> Value {
    let last_active = queues.iter().map(|queue| queue.last_active).max().unwrap_or_default();
    let mut shown = activity(last_active, queues.iter().map(|queue| queue.expires).max().unwrap_or_default());
    shown["provisionerId"] = json!(name);
    shown
}

fn halves(task_queue_id: &str) -> (&str, &str) {
    task_queue_id.split_once('/').unwrap_or((task_queue_id, ""))
}

/// The task queue in the path.
pub(crate) fn task_queue_id(call: &Call) -> Result<Arc<str>, Fault> {
    let queue = call.param("taskQueueId");
    match TASK_QUEUE_ID.problem(queue) {
        Some(problem) => Err(Fault::new(Code::InvalidRequestArguments, format!("taskQueueId `{queue}` {problem}"))),
        None => Ok(queue.into()),
    }
}

fn provisioner_id(call: &Call) -> Result<&str, Fault> {
    call.word("provisionerId", &WORD)
}

/// The task queue in the path, in its two halves.
pub(crate) fn queue_by_halves(call: &Call) -> Result<Arc<str>, Fault> {
    Ok(format!("{}/{}", provisioner_id(call)?, call.word("workerType", &WORKER_TYPE)?).into())
}
