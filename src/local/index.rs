//! Calls of the index.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    artifacts,
    auth::Need,
    check::{Fields, TASK_ID},
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    reply::Reply,
    state::{Indexed, TaskId, is_namespace},
    view::Date,
};

/// Most bytes of what an author says with a task.
const MOST_DATA: usize = 32 << 10;

fn namespace(call: &Call) -> Result<&str, Fault> {
    let text = call.param("indexPath");
    is_namespace(text).then_some(text).ok_or_else(|| {
        let rule = "must be up to 255 characters: words with dots between them";
        Fault::new(Code::InvalidRequestArguments, format!("namespace `{text}` {rule}"))
    })
}

fn answer(namespace: &str, entry: &Indexed) -> Reply {
    Reply::json(&json!({
        "namespace": namespace, "taskId": entry.task_id.as_str(), "rank": entry.rank, "data": *entry.data,
        "expires": Date(entry.expires),
    }))
}

/// `findTask`
pub(crate) async fn find(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let namespace = namespace(&call)?;
    call.authorize(&Need::scope(format!("index:find-task:{namespace}")))?;
    Ok(answer(namespace, &desk.books(|state, now| state.indexed(now, namespace))?))
}

/// `insertTask`. That one of a higher rank stays is no error.
pub(crate) async fn insert(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let namespace = namespace(&call)?;
    call.authorize(&Need::scope(format!("index:insert-task:{namespace}")))?;
    let entry = read(&call.body)?;
    desk.books(|state, now| state.index_task(now, namespace, entry.clone()));
    Ok(answer(namespace, &entry))
}

fn read(body: &Value) -> Result<Indexed, Fault> {
    let mut problems = Vec::new();
    let entry = Fields::of(body, "", &mut problems).and_then(|mut fields| {
        fields.only(&["taskId", "rank", "data", "expires"]);
        let task_id = fields.text("taskId", &TASK_ID).and_then(TaskId::parse);
        let expires = fields.date("expires");
        let rank = fields.required("rank").cloned();
        if rank.as_ref().is_some_and(|rank| !rank.is_number()) {
            fields.problem("rank", "must be a number");
        }
        let data = fields.required("data").cloned();
        if data.as_ref().is_some_and(|data| !data.is_object()) {
            fields.problem("data", "must be an object");
        }
        if data.as_ref().is_some_and(|data| data.to_string().len() > MOST_DATA) {
            fields.problem("data", format!("must have at most {MOST_DATA} bytes"));
        }
        let rank = rank.and_then(|rank| rank.as_number().cloned());
        Some(Indexed { task_id: task_id?, rank: rank?, data: Arc::new(data?), expires: expires? })
    });
    entry.filter(|_| problems.is_empty()).ok_or_else(|| Fault::invalid_body("insertTask", &problems))
}

/// `findArtifactFromTask`: leads to the artifact of the task's last run.
pub(crate) async fn artifact(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let namespace = namespace(&call)?;
    let entry = desk.books(|state, now| state.indexed(now, namespace))?;
    let of_task = call.with_param("taskId", entry.task_id.as_str());
    artifacts::get(desk, of_task).await
}
