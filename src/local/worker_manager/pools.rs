//! Calls about pools.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{NULL, Pool, STATIC, Stage, pool_id};
use crate::local::{
    auth::Need,
    check::{Fields, Text, WORD},
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    page::Page,
    reply::Reply,
    view::Date,
};

fn shown(desk: &Desk, id: &str, pool: &Pool) -> Value {
    let mut answer = json!({
        "workerPoolId": id, "providerId": pool.provider_id, "description": pool.description, "owner": pool.owner,
        "emailOnError": pool.email_on_error, "config": pool.config, "created": Date(pool.created),
        "lastModified": Date(pool.last_modified),
    });
    let within = format!("{id}/");
    let workers = desk.workers.workers.page(Some(&within), usize::MAX, |key, _| key.starts_with(&within));
    let mut current = 0;
    for (stage, name) in [(Stage::Requested, "requested"), (Stage::Running, "running"), (Stage::Stopped, "stopped")] {
        let of_stage = || workers.iter().filter(|(_, worker)| worker.stage == stage);
        let capacity: u64 = of_stage().map(|(_, worker)| worker.capacity).sum();
        if stage != Stage::Stopped {
            current += capacity;
        }
        answer[format!("{name}Count")] = json!(of_stage().count());
        answer[format!("{name}Capacity")] = json!(capacity);
    }
    answer["stoppingCount"] = json!(0);
    answer["stoppingCapacity"] = json!(0);
    answer["currentCapacity"] = json!(current);
    answer
}

/// `listProviders`
pub(crate) async fn providers(_desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    call.authorize(&Need::scope("worker-manager:list-providers"))?;
    let page = Page::of(&call)?;
    let providers = page.cut([(NULL, NULL), (STATIC, STATIC)], |(id, _)| id);
    let shown = |(id, kind): &(&str, &str)| json!({ "providerId": id, "providerType": kind });
    Ok(Reply::json(&page.answer("providers", providers, |(id, _)| id, shown)))
}

/// `workerPool`
pub(crate) async fn get(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = pool_id(&call)?;
    call.authorize(&Need::scope(format!("worker-manager:get-worker-pool:{id}")))?;
    let pool = desk.workers.pool(id)?;
    Ok(Reply::json(&shown(&desk, id, &pool)))
}

/// `listWorkerPools`
pub(crate) async fn list(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    call.authorize(&Need::scope("worker-manager:list-worker-pools"))?;
    let page = Page::of(&call)?;
    let pools = desk.workers.pools.page(page.after.as_deref(), page.collect(), |_, _| true);
    Ok(Reply::json(&page.answer("workerPools", pools, |(id, _)| id, |(id, pool)| shown(&desk, id, pool))))
}

fn is_address(text: &str) -> bool {
    text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !text.contains(char::is_whitespace))
}

/// Fields that a definition as it was read may carry back; they are not taken over.
const READ_ONLY: [&str; 3] = ["workerPoolId", "created", "lastModified"];

fn read(method: &str, call: &Call, known: &[&str]) -> Result<Pool, Fault> {
    const ADDRESS: Text = Text { min: 3, max: 1024, is: is_address, shape: "an e-mail address" };
    let mut problems = Vec::new();
    let pool = Fields::of(&call.body, "", &mut problems).and_then(|mut fields| {
        let mut all = vec!["providerId", "description", "config", "owner", "emailOnError"];
        all.extend(known);
        fields.only(&all);
        let provider_id = fields.text("providerId", &WORD).map(str::to_owned);
        let description = fields.text("description", &Text::up_to(10_240)).map(str::to_owned);
        let owner = fields.text("owner", &ADDRESS).map(str::to_owned);
        let email_on_error = fields.required("emailOnError").map(Value::as_bool);
        if email_on_error == Some(None) {
            fields.problem("emailOnError", "must be true or false");
        }
        let config = fields.required("config").map(Value::as_object);
        if config == Some(None) {
            fields.problem("config", "must be an object");
        }
        Some(Pool {
            provider_id: provider_id?,
            description: description?,
            owner: owner?,
            email_on_error: email_on_error??,
            config: config??.clone(),
            created: call.now,
            last_modified: call.now,
        })
    });
    pool.filter(|_| problems.is_empty()).ok_or_else(|| Fault::invalid_body(method, &problems))
}

fn manage(id: &str, pool: &Pool) -> Need {
    Need::all([format!("worker-manager:manage-worker-pool:{id}"), format!("worker-manager:provider:{}", pool.provider_id)])
}

/// The configuration of a static pool: `workerConfig` and how long registrations hold.
fn check_config(pool: &Pool) -> Result<(), Fault> {
    if pool.provider_id == NULL {
        return Ok(());
    }
    if pool.provider_id != STATIC {
        let message = format!(
            "provider \"{}\" is not offered: this server starts no machines and knows the providers `{STATIC}` and `{NULL}` only",
            pool.provider_id
        );
        return Err(Fault::new(Code::InputError, message));
    }
    let mut problems = Vec::new();
    let config = Value::Object(pool.config.clone());
    if let Some(mut fields) = Fields::of(&config, "config.", &mut problems) {
        fields.only(&["workerConfig", "lifecycle"]);
        fields.inner("workerConfig", |_| ());
        fields.inner("lifecycle", |lifecycle| {
            lifecycle.only(&["reregistrationTimeout"]);
            lifecycle.optional_integer("reregistrationTimeout", 1..=2_592_000);
        });
    }
    if problems.is_empty() { Ok(()) } else { Err(Fault::invalid_body("the provider `static`", &problems)) }
}

/// `createWorkerPool`. Repeating the call with the same definition changes nothing.
pub(crate) async fn create(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = pool_id(&call)?;
    let pool = read("createWorkerPool", &call, &[])?;
    call.authorize(&manage(id, &pool))?;
    check_config(&pool)?;
    let same = |known: &Pool| {
        let dates = |pool: &Pool| (pool.created, pool.last_modified);
        let mut other = pool.clone();
        (other.created, other.last_modified) = dates(known);
        serde_json::to_value(&other).ok() == serde_json::to_value(known).ok()
    };
    let created = desk.workers.pools.change(id, |place| match place {
        None => {
            *place = Some(pool.clone());
            Ok(pool.clone())
        }
        Some(known) if same(known) => Ok(known.clone()),
        Some(_) => Err(Fault::new(Code::RequestConflict, format!("worker pool \"{id}\" exists with another definition"))),
    })?;
    Ok(Reply::json(&shown(&desk, id, &created)))
}

/// `updateWorkerPool`
pub(crate) async fn update(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = pool_id(&call)?;
    let pool = read("updateWorkerPool", &call, &READ_ONLY)?;
    call.authorize(&manage(id, &pool))?;
    if call.body.get("workerPoolId").is_some_and(|named| named != id) {
        return Err(Fault::new(Code::InputError, "workerPoolId in the body is another one than in the path"));
    }
    check_config(&pool)?;
    let missing = || Fault::new(Code::ResourceNotFound, format!("worker pool \"{id}\" does not exist"));
    let updated = desk.workers.pools.change(id, |place| {
        let created: Timestamp = place.as_ref().ok_or_else(missing)?.created;
        let updated = Pool { created, ..pool };
        *place = Some(updated.clone());
        Ok::<_, Fault>(updated)
    })?;
    Ok(Reply::json(&shown(&desk, id, &updated)))
}

/// `deleteWorkerPool`: at once, unless workers of it are still there. Then it has no provider any more.
pub(crate) async fn delete(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = pool_id(&call)?;
    call.authorize(&Need::scope(format!("worker-manager:manage-worker-pool:{id}")))?;
    let mut pool = desk.workers.pool(id)?;
    NULL.clone_into(&mut pool.provider_id);
    pool.last_modified = call.now;
    let within = format!("{id}/");
    let alive = |key: &str, worker: &super::StaticWorker| key.starts_with(&within) && worker.stage != Stage::Stopped;
    if desk.workers.workers.page(Some(&within), 1, alive).is_empty() {
        desk.workers.pools.remove(id);
    } else {
        desk.workers.pools.put(id, pool.clone());
    }
    Ok(Reply::json(&shown(&desk, id, &pool)))
}
