//! Definitions of tasks as records: their JSON, from which everything else follows.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::local::state::{Definition, Priority, Requires, TaskId, indexing};

/// The definition of which this is the JSON.
pub(crate) fn reread(json: Box<RawValue>) -> serde_json::Result<Definition> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Whole<'a> {
        task_queue_id: String,
        scheduler_id: Box<str>,
        project_id: Box<str>,
        task_group_id: TaskId,
        dependencies: Box<[TaskId]>,
        requires: Requires,
        priority: Priority,
        retries: u32,
        deadline: Timestamp,
        expires: Timestamp,
        scopes: Box<[String]>,
        routes: Box<[String]>,
        #[serde(borrow)]
        extra: &'a RawValue,
    }
    let whole: Whole<'_> = serde_json::from_str(json.get())?;
    let extra: Option<Value> = if whole.routes.is_empty() { None } else { serde_json::from_str(whole.extra.get())? };
    let indexing = indexing(&whole.routes, extra.as_ref(), whole.expires);
    let Whole { task_queue_id, scheduler_id, project_id, task_group_id, dependencies, requires, priority, retries, .. } = whole;
    let Whole { deadline, expires, scopes, routes, .. } = whole;
    Ok(Definition {
        task_queue_id: task_queue_id.into(),
        scheduler_id,
        project_id,
        task_group_id,
        dependencies,
        requires,
        priority,
        retries,
        deadline,
        expires,
        scopes,
        routes,
        indexing,
        json,
    })
}
