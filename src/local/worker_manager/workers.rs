//! Calls about workers.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::{STATIC, Stage, StaticWorker, Who, pool_id};
use crate::local::{
    auth::Need,
    check::{Fields, Text},
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    page::Page,
    reply::Reply,
};

/// Secrets of workers: as long as two slugids.
pub(super) const SECRET: Text = Text {
    min: 44,
    max: 44,
    is: |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')),
    shape: "made of letters, digits, `-` and `_`",
};

/// `worker`
pub(crate) async fn get(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let who = Who::of(&call)?;
    call.authorize(&Need::scope(format!("worker-manager:get-worker:{}", who.key())))?;
    let worker = desk.workers.workers.get(&who.key()).ok_or_else(|| who.missing())?;
    Ok(Reply::json(&who.shown(&worker)))
}

/// `listWorkersForWorkerPool` and `listWorkersForWorkerGroup`
pub(crate) async fn list(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let pool = pool_id(&call)?;
    let within = match call.param("workerGroup") {
        "" => pool.to_owned(),
        _ => format!("{pool}/{}", super::word(&call, "workerGroup")?),
    };
    call.authorize(&Need::scope(format!("worker-manager:list-workers:{within}")))?;
    let page = Page::of(&call)?;
    let stage = call.query("state");
    let within = format!("{within}/");
    let wanted = |key: &str, worker: &StaticWorker| {
        key.starts_with(&within) && stage.as_deref().is_none_or(|stage| json!(worker.stage) == stage)
    };
    let workers = desk.workers.workers.page(page.after.as_deref(), page.collect(), wanted);
    let shown = |(key, worker): &(String, StaticWorker)| {
        let mut names = key.rsplitn(3, '/');
        let (id, group) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
        Who { pool, group, id }.shown(worker)
    };
    Ok(Reply::json(&page.answer("workers", workers, |(key, _)| key, shown)))
}

struct Wanted {
    expires: Timestamp,
    capacity: u64,
    static_secret: Option<String>,
}

fn read(method: &str, call: &Call) -> Result<Wanted, Fault> {
    let mut problems = Vec::new();
    let wanted = Fields::of(&call.body, "", &mut problems).and_then(|mut fields| {
        fields.only(&["expires", "capacity", "providerInfo"]);
        let expires = fields.date("expires");
        let capacity = fields.optional_integer("capacity", 1..=1_000_000).unwrap_or(1);
        let mut static_secret = None;
        fields.inner("providerInfo", |info| {
            info.only(&["staticSecret"]);
            static_secret = info.text("staticSecret", &SECRET).map(str::to_owned);
        });
        Some(Wanted { expires: expires?, capacity, static_secret })
    });
    wanted.filter(|_| problems.is_empty()).ok_or_else(|| Fault::invalid_body(method, &problems))
}

/// `createWorker`. A worker that has been stopped may be created again.
pub(crate) async fn create(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let who = Who::of(&call)?;
    let wanted = read("createWorker", &call)?;
    call.authorize(&Need::scope(format!("worker-manager:create-worker:{}", who.key())))?;
    let pool = desk.workers.pool(who.pool)?;
    if pool.provider_id != STATIC {
        let message = format!("worker pool \"{}\" is of provider \"{}\", which creates no workers", who.pool, pool.provider_id);
        return Err(Fault::new(Code::InputError, message));
    }
    let Some(static_secret) = wanted.static_secret else {
        return Err(Fault::new(Code::InputError, "workers of the provider `static` need providerInfo.staticSecret"));
    };
    if wanted.expires <= call.now {
        return Err(Fault::new(Code::InputError, format!("the worker would expire in the past, at {:.3}", wanted.expires)));
    }
    let new = StaticWorker {
        provider_id: pool.provider_id,
        stage: Stage::Requested,
        capacity: wanted.capacity,
        created: call.now,
        last_modified: call.now,
        expires: wanted.expires,
        static_secret: Some(static_secret),
        secret: None,
    };
    let created = desk.workers.workers.change(&who.key(), |place| {
        let terms = |worker: &StaticWorker| (worker.expires, worker.capacity, worker.static_secret.clone());
        match place.as_ref().filter(|known| known.stage != Stage::Stopped && known.expires > call.now) {
            None => {
                *place = Some(new.clone());
                Ok(new.clone())
            }
            Some(known) if terms(known) == terms(&new) => Ok(known.clone()),
            Some(_) => {
                let message = format!("worker \"{}/{}\" exists with other properties", who.group, who.id);
                Err(Fault::new(Code::RequestConflict, message))
            }
        }
    })?;
    Ok(Reply::json(&who.shown(&created)))
}

/// `updateWorker`
pub(crate) async fn update(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let who = Who::of(&call)?;
    let wanted = read("updateWorker", &call)?;
    call.authorize(&Need::scope(format!("worker-manager:update-worker:{}", who.key())))?;
    let updated = desk.workers.workers.change(&who.key(), |place| {
        let worker = place.as_mut().ok_or_else(|| who.missing())?;
        worker.expires = wanted.expires;
        worker.capacity = wanted.capacity;
        if wanted.static_secret.is_some() {
            worker.static_secret = wanted.static_secret;
        }
        worker.last_modified = call.now;
        Ok::<_, Fault>(worker.clone())
    })?;
    Ok(Reply::json(&who.shown(&updated)))
}

/// `removeWorker`: it is stopped as far as this service is concerned, and told so when it asks.
pub(crate) async fn remove(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let who = Who::of(&call)?;
    call.authorize(&Need::scope(format!("worker-manager:remove-worker:{}", who.key())))?;
    desk.workers.workers.change(&who.key(), |place| {
        let worker = place.as_mut().ok_or_else(|| who.missing())?;
        worker.stage = Stage::Stopped;
        worker.secret = None;
        worker.last_modified = call.now;
        Ok::<_, Fault>(())
    })?;
    Ok(Reply::json(&json!({})))
}

/// `shouldWorkerTerminate`
pub(crate) async fn should_terminate(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let who = Who::of(&call)?;
    call.authorize(&Need::scope(format!("worker-manager:should-worker-terminate:{}", who.key())))?;
    let worker = desk.workers.workers.get(&who.key()).ok_or_else(|| who.missing())?;
    let (terminate, reason) = match worker.stage {
        Stage::Stopped => (true, "the worker was removed"),
        _ if worker.expires <= call.now => (true, "the worker has expired"),
        _ => (false, "nobody wants this worker to end"),
    };
    Ok(Reply::json(&json!({ "terminate": terminate, "reason": reason })))
}
