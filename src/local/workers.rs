//! Calls about workers that were seen at a task queue, and about their quarantine.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    auth::Need,
    check::{Fields, Text, WORD},
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    page::Page,
    queues::queue_by_halves,
    reply::Reply,
    state::{Quarantined, Seen, TaskId, Worker},
    view::Date,
};

/// Longest reason for a quarantine.
const INFO: Text = Text::up_to(4000);

pub(crate) async fn list(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let queue = queue_by_halves(&call)?;
    call.authorize(&Need::scope(format!("queue:list-workers:{queue}")))?;
    let quarantined = match call.query("quarantined").as_deref() {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => {
            let message = format!("quarantined `{other}` must be true or false");
            return Err(Fault::new(Code::InvalidRequestArguments, message));
        }
    };
    let page = Page::of(&call)?;
    let after = page.after_as(|name| {
        let (group, id) = name.split_once('/')?;
        Some(Worker { group: group.into(), id: id.into() })
    })?;
    let found = desk.books(|state, now| state.workers(now, &queue, quarantined, after.as_ref(), page.collect()));
    let named: Vec<_> =
        found.into_iter().map(|(worker, seen)| (format!("{}/{}", worker.group, worker.id), worker, seen)).collect();
    Ok(Reply::json(&page.answer("workers", named, |(name, ..)| name, |(_, worker, seen)| in_list(worker, seen))))
}

fn in_list(worker: &Worker, seen: &Seen) -> Value {
    let mut shown = json!({
        "workerGroup": worker.group, "workerId": worker.id, "firstClaim": Date(seen.first_claim), "lastDateActive": Date(seen.last_active),
    });
    if let Some(latest) = seen.recent.back() {
        shown["latestTask"] = run_json(latest);
    }
    if let Some(until) = seen.quarantine_until() {
        shown["quarantineUntil"] = json!(Date(until));
    }
    shown
}

pub(crate) async fn get(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (queue, worker) = named(&call)?;
    call.authorize(&Need::scope(format!("queue:get-worker:{queue}/{}/{}", worker.group, worker.id)))?;
    let seen = desk.books(|state, now| state.worker(now, &queue, &worker))?;
    Ok(Reply::json(&whole(&queue, &worker, &seen)))
}

pub(crate) async fn quarantine(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (queue, worker) = named(&call)?;
    let mut problems = Vec::new();
    let mut change = None;
    if let Some(mut fields) = Fields::of(&call.body, "", &mut problems) {
        fields.only(&["quarantineUntil", "quarantineInfo"]);
        let until = fields.date("quarantineUntil");
        let info = fields.optional_text("quarantineInfo", &INFO).unwrap_or_default().to_owned();
        change = until.map(|until| (until, info));
    }
    let Some((until, info)) = change.filter(|_| problems.is_empty()) else {
        return Err(Fault::invalid_body("quarantineWorker", &problems));
    };
    call.authorize(&Need::scope(format!("queue:quarantine-worker:{queue}/{}/{}", worker.group, worker.id)))?;
    let client_id = call.caller().name();
    let seen = desk.books(|state, now| {
        let change = Quarantined { until, at: now, client_id: client_id.into(), info: info.as_str().into() };
        state.quarantine(now, &queue, &worker, change)
    })?;
    Ok(Reply::json(&whole(&queue, &worker, &seen)))
}

pub(crate) async fn declare(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (queue, worker) = named(&call)?;
    let mut problems = Vec::new();
    let mut expires = None;
    if let Some(mut fields) = Fields::of(&call.body, "", &mut problems) {
        fields.only(&["expires"]);
        expires = fields.date("expires");
    }
    let Some(expires) = expires.filter(|_| problems.is_empty()) else {
        return Err(Fault::invalid_body("declareWorker", &problems));
    };
    call.authorize(&Need::scope(format!("queue:declare-worker:{queue}/{}/{}#expires", worker.group, worker.id)))?;
    let seen = desk.books(|state, now| state.declare_worker(now, &queue, &worker, expires));
    Ok(Reply::json(&whole(&queue, &worker, &seen)))
}

fn named(call: &Call) -> Result<(Arc<str>, Arc<Worker>), Fault> {
    let worker = Worker { group: call.word("workerGroup", &WORD)?.into(), id: call.word("workerId", &WORD)?.into() };
    Ok((queue_by_halves(call)?, Arc::new(worker)))
}

fn whole(queue: &str, worker: &Worker, seen: &Seen) -> Value {
    let (provisioner, worker_type) = queue.split_once('/').unwrap_or((queue, ""));
    let mut shown = json!({
        "provisionerId": provisioner,
        "workerType": worker_type,
        "taskQueueId": queue,
        "workerGroup": worker.group,
        "workerId": worker.id,
        "recentTasks": seen.recent.iter().map(run_json).collect::<Vec<_>>(),
        "expires": Date(seen.expires),
        "firstClaim": Date(seen.first_claim),
        "lastDateActive": Date(seen.last_active),
    });
    if let Some(until) = seen.quarantine_until() {
        shown["quarantineUntil"] = json!(Date(until));
        shown["quarantineDetails"] = seen.quarantine.iter().map(change_json).collect();
    }
    shown
}

fn change_json(change: &Quarantined) -> Value {
    json!({
        "clientId": change.client_id,
        "updatedAt": Date(change.at),
        "quarantineUntil": Date(change.until),
        "quarantineInfo": change.info,
    })
}

fn run_json((task_id, run_id): &(TaskId, u32)) -> Value {
    json!({ "taskId": task_id.as_str(), "runId": run_id })
}
