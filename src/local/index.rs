//! Calls of the index.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    artifacts,
    auth::Need,
    check::{Fields, TASK_ID, Text},
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    page::Page,
    reply::Reply,
    state::{Indexed, TaskId, is_namespace},
    view::Date,
};

/// Most bytes of what an author says with a task.
const MOST_DATA: usize = 32 << 10;

/// Most names of one `findTasksAtIndex`.
const MOST_NAMES: usize = 1000;

fn checked(text: &str) -> Result<&str, Fault> {
    is_namespace(text).then_some(text).ok_or_else(|| {
        let rule = "must be up to 255 characters: words with dots between them";
        Fault::new(Code::InvalidRequestArguments, format!("namespace `{text}` {rule}"))
    })
}

fn namespace(call: &Call) -> Result<&str, Fault> {
    checked(call.param("indexPath"))
}

/// The namespace to list; the root has no name.
fn parent(call: &Call) -> Result<&str, Fault> {
    let text = call.param("namespace");
    if text.is_empty() { Ok(text) } else { checked(text) }
}

fn shown(namespace: &str, entry: &Indexed) -> Value {
    json!({
        "namespace": namespace, "taskId": entry.task_id.as_str(), "rank": entry.rank, "data": *entry.data,
        "expires": Date(entry.expires),
    })
}

fn answer(namespace: &str, entry: &Indexed) -> Reply {
    Reply::json(&shown(namespace, entry))
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

/// `deleteTask`
pub(crate) async fn delete(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let namespace = namespace(&call)?;
    call.authorize(&Need::scope(format!("index:delete-task:{namespace}")))?;
    desk.books(|state, now| state.unindex(now, namespace))?;
    Ok(Reply::json(&json!({})))
}

/// `findTasksAtIndex`: those of these names that lead to a task.
pub(crate) async fn find_many(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    const NAME: Text = Text { min: 1, max: 255, is: is_namespace, shape: "words with dots between them" };
    let page = Page::of(&call)?;
    let mut problems = Vec::new();
    let mut names = Fields::of(&call.body, "", &mut problems).map_or_else(Vec::new, |mut fields| {
        fields.only(&["indexes"]);
        fields.texts("indexes", &NAME, MOST_NAMES, false)
    });
    if !problems.is_empty() {
        return Err(Fault::invalid_body("findTasksAtIndex", &problems));
    }
    call.authorize(&Need::all(names.iter().map(|name| format!("index:find-task:{name}"))))?;
    names.sort_unstable();
    names.dedup();
    let found = desk.books(|state, now| {
        let found = names.into_iter().filter_map(|name| state.indexed(now, &name).ok().map(|entry| (name, entry)));
        found.collect::<Vec<_>>()
    });
    Ok(Reply::json(&task_page(&page, page.cut(found, |(name, _)| name))))
}

fn task_page(page: &Page, found: Vec<(String, Indexed)>) -> Value {
    page.answer("tasks", found, |(name, _)| name, |(name, entry)| shown(name, entry))
}

/// `listTasks`
pub(crate) async fn tasks(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let page = Page::of(&call)?;
    list_tasks(&desk, &call, &page)
}

/// `listTasks` with POST.
pub(crate) async fn tasks_by_body(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let page = Page::of_body(&call)?;
    list_tasks(&desk, &call, &page)
}

fn list_tasks(desk: &Desk, call: &Call, page: &Page) -> Result<Reply, Fault> {
    let parent = parent(call)?;
    call.authorize(&Need::scope(format!("index:list-tasks:{parent}")))?;
    let found = desk.books(|state, now| state.indexed_under(now, parent, page.after.as_deref(), page.collect()));
    Ok(Reply::json(&task_page(page, found)))
}

/// `listNamespaces`
pub(crate) async fn namespaces(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let page = Page::of(&call)?;
    list_namespaces(&desk, &call, &page)
}

/// `listNamespaces` with POST.
pub(crate) async fn namespaces_by_body(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let page = Page::of_body(&call)?;
    list_namespaces(&desk, &call, &page)
}

fn list_namespaces(desk: &Desk, call: &Call, page: &Page) -> Result<Reply, Fault> {
    let parent = parent(call)?;
    call.authorize(&Need::scope(format!("index:list-namespaces:{parent}")))?;
    let found = desk.books(|state, now| state.namespaces_under(now, parent, page.after.as_deref(), page.collect()));
    let shown = |(namespace, expires): &(String, Timestamp)| {
        let name = namespace.rsplit('.').next().unwrap_or_default();
        json!({ "namespace": namespace, "name": name, "expires": Date(*expires) })
    };
    Ok(Reply::json(&page.answer("namespaces", found, |(namespace, _)| namespace, shown)))
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
    Ok(artifacts::get(desk, of_task).await?.without_json())
}
