//! What workers complain about.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{PoolError, pool_id};
use crate::{
    local::{
        auth::Need,
        check::{Fields, Text, WORD},
        desk::Desk,
        endpoint::Call,
        fault::Fault,
        page::Page,
        reply::Reply,
        view::Date,
    },
    seam::slugid,
};

/// Complaints of one pool that are kept; the oldest give way.
const MOST: usize = 1000;

fn shown(pool: &str, error: &PoolError) -> Value {
    json!({
        "workerPoolId": pool, "errorId": error.error_id, "reported": Date(error.reported), "kind": error.kind,
        "title": error.title, "description": error.description, "extra": error.extra,
    })
}

/// `reportWorkerError`
pub(crate) async fn report(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    const KIND: Text = Text {
        min: 1,
        max: 128,
        is: |text| text.bytes().any(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
        shape: "a word of lower-case letters, digits and `-`",
    };
    let pool = pool_id(&call)?;
    let mut problems = Vec::new();
    let read = Fields::of(&call.body, "", &mut problems).and_then(|mut fields| {
        fields.only(&["workerGroup", "workerId", "kind", "title", "description", "extra"]);
        let (group, id) = (fields.text("workerGroup", &WORD), fields.text("workerId", &WORD));
        let (kind, title) = (fields.text("kind", &KIND), fields.text("title", &Text::up_to(128)));
        let description = fields.text("description", &Text::up_to(10_240));
        let extra = fields.required("extra").map(Value::as_object);
        if extra == Some(None) {
            fields.problem("extra", "must be an object");
        }
        let error = PoolError {
            error_id: slugid(&crate::seam::SystemRandom),
            reported: call.now,
            kind: kind?.to_owned(),
            title: title?.to_owned(),
            description: description?.to_owned(),
            extra: extra??.clone(),
        };
        Some((format!("{}/{}", group?, id?), error))
    });
    let Some((worker, error)) = read.filter(|_| problems.is_empty()) else {
        return Err(Fault::invalid_body("reportWorkerError", &problems));
    };
    call.authorize(&Need::all([format!("assume:worker-pool:{pool}"), format!("assume:worker-id:{worker}")]))?;
    desk.workers.pool(pool)?;
    let errors = &desk.workers.errors;
    let within = format!("{pool}/");
    let known = errors.page(Some(&within), usize::MAX, |key, _| key.starts_with(&within));
    for (oldest, _) in known.iter().take((known.len() + 1).saturating_sub(MOST)) {
        errors.remove(oldest);
    }
    errors.put(&format!("{pool}/{:015}/{}", call.now.as_millisecond(), error.error_id), error.clone());
    Ok(Reply::json(&shown(pool, &error)))
}

/// `listWorkerPoolErrors`, the latest last.
pub(crate) async fn list(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let pool = pool_id(&call)?;
    call.authorize(&Need::scope(format!("worker-manager:list-worker-pool-errors:{pool}")))?;
    desk.workers.pool(pool)?;
    let page = Page::of(&call)?;
    let within = format!("{pool}/");
    let wanted_id = call.query("errorId");
    let wanted = |key: &str, error: &PoolError| {
        key.starts_with(&within) && wanted_id.as_deref().is_none_or(|wanted| wanted == error.error_id)
    };
    let errors = desk.workers.errors.page(page.after.as_deref(), page.collect(), wanted);
    Ok(Reply::json(&page.answer("workerPoolErrors", errors, |(key, _)| key, |(_, error)| shown(pool, error))))
}
