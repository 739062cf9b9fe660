//! Calls of workers about their runs: claim, reclaim, report.

use std::{sync::Arc, time::Duration};

use super::{
    auth::Need,
    check::{Fields, TASK_QUEUE_ID, WORD},
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    reply::Reply,
    state::{Report, Trouble, Worker},
    tasks::status_answer,
    view::{ClaimView, Claims},
};

/// How long a claim waits for a task.
const LONG_POLL: Duration = Duration::from_secs(20);
/// Most tasks of one claim.
const MOST_TASKS: u64 = 32;

pub(crate) async fn claim_work(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let queue = call.param("taskQueueId");
    if let Some(problem) = TASK_QUEUE_ID.problem(queue) {
        return Err(Fault::new(Code::InvalidRequestArguments, format!("taskQueueId `{queue}` {problem}")));
    }
    let (worker, count) = claim_request(&call)?;
    call.authorize(&Need::all([
        format!("queue:claim-work:{queue}"),
        format!("queue:worker-id:{}/{}", worker.group, worker.id),
    ]))?;
    let (queue, worker) = (Arc::from(queue), Arc::new(worker));
    let claims = match desk.claim_or_wait(&queue, &worker, count) {
        Ok(claims) => claims,
        Err(seat) => seat.served(LONG_POLL).await,
    };
    let claims = desk.heard_of(claims).await?;
    let now = desk.now();
    let tasks = claims.iter().map(|claim| ClaimView::claimed(claim, desk.clients.run_credentials(now, claim))).collect();
    Ok(Reply::json(&Claims { tasks }))
}

fn claim_request(call: &Call) -> Result<(Worker, usize), Fault> {
    let mut problems = Vec::new();
    let mut request = None;
    if let Some(mut fields) = Fields::of(&call.body, "", &mut problems) {
        fields.only(&["tasks", "workerGroup", "workerId"]);
        let (group, id) = (fields.text("workerGroup", &WORD), fields.text("workerId", &WORD));
        let count = fields.optional_integer("tasks", 1..=MOST_TASKS).and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
        request = group.zip(id).map(|(group, id)| (Worker { group: group.into(), id: id.into() }, count));
    }
    request.filter(|_| problems.is_empty()).ok_or_else(|| Fault::invalid_body("claimWork", &problems))
}

pub(crate) async fn reclaim(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (id, run) = (call.task_id()?, call.run_id()?);
    call.authorize(&Need::scope(format!("queue:reclaim-task:{id}/{run}")))?;
    let claim = desk.books(|state, now| state.reclaim(now, id, run))?;
    Ok(Reply::json(&ClaimView::reclaimed(&claim, desk.clients.run_credentials(desk.now(), &claim))))
}

pub(crate) async fn completed(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    report(&desk, &call, Report::Completed)
}

pub(crate) async fn failed(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    report(&desk, &call, Report::Failed)
}

pub(crate) async fn exception(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let mut problems = Vec::new();
    let mut reason = None;
    if let Some(mut fields) = Fields::of(&call.body, "", &mut problems) {
        fields.only(&["reason"]);
        reason = fields.required("reason").and_then(|value| value.as_str()).and_then(Trouble::parse);
        if reason.is_none() && fields.optional("reason").is_some() {
            let words: Vec<_> = Trouble::ALL.iter().map(|word| word.as_str()).collect();
            fields.problem("reason", format!("must be one of {}", words.join(", ")));
        }
    }
    match reason {
        Some(reason) if problems.is_empty() => report(&desk, &call, Report::Exception(reason)),
        _ => Err(Fault::invalid_body("reportException", &problems)),
    }
}

fn report(desk: &Desk, call: &Call, report: Report) -> Result<Reply, Fault> {
    let (id, run) = (call.task_id()?, call.run_id()?);
    call.authorize(&Need::scope(format!("queue:resolve-task:{id}/{run}")))?;
    let status = desk.books(|state, now| state.report(now, id, run, report))?;
    Ok(status_answer(&status))
}
