//! Registration: a machine proves who it is and gets credentials and its configuration.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{Pool, STATIC, Stage, StaticWorker, Who, workers::SECRET};
use crate::local::{
    auth::Need,
    check::{Fields, TASK_QUEUE_ID, Text, WORD},
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    reply::Reply,
    view::Date,
};

/// How long a registration holds unless the pool says otherwise.
const HOLDS_SECS: i64 = 96 * 3600;

/// Names that the body gives.
struct Named {
    pool: String,
    group: String,
    id: String,
}

impl Named {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let pool = fields.text("workerPoolId", &TASK_QUEUE_ID).map(str::to_owned);
        let (group, id) = (fields.text("workerGroup", &WORD), fields.text("workerId", &WORD));
        Some(Self { pool: pool?, group: group?.to_owned(), id: id?.to_owned() })
    }

    fn who(&self) -> Who<'_> {
        Who { pool: &self.pool, group: &self.group, id: &self.id }
    }
}

/// `registerWorker`: whoever knows the worker's static secret is the worker. No other proof is of use here.
pub(crate) async fn register(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let mut problems = Vec::new();
    let read = Fields::of(&call.body, "", &mut problems).and_then(|mut fields| {
        fields.only(&["workerPoolId", "providerId", "workerGroup", "workerId", "workerIdentityProof", "systemBootTime"]);
        fields.optional_date("systemBootTime");
        let provider = fields.text("providerId", &WORD).map(str::to_owned);
        let named = Named::read(&mut fields);
        let mut proof = None;
        fields.required("workerIdentityProof");
        fields.inner("workerIdentityProof", |fields| {
            fields.only(&["staticSecret", "token", "document", "signature"]);
            proof = fields.optional_text("staticSecret", &SECRET).map(str::to_owned);
            for other in ["token", "document", "signature"] {
                fields.optional_text(other, &Text::up_to(usize::MAX));
            }
        });
        Some((provider?, named?, proof))
    });
    let Some((provider, named, proof)) = read.filter(|_| problems.is_empty()) else {
        return Err(Fault::invalid_body("registerWorker", &problems));
    };
    let who = named.who();
    let pool = desk.workers.pool(who.pool)?;
    if provider != pool.provider_id || provider != STATIC {
        let message = format!("worker pool \"{}\" is of provider \"{}\", not \"{provider}\"", who.pool, pool.provider_id);
        return Err(Fault::new(Code::InputError, message));
    }
    let proves = |worker: &StaticWorker| same(worker.static_secret.as_deref(), proof.as_deref());
    let (expires, secret) = admit(&desk, &who, &pool, call.now, proves)?;
    let config = pool.config.get("workerConfig").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let mut answer = answer(&desk, &who, call.now, expires, &secret);
    answer["workerConfig"] = config;
    Ok(Reply::json(&answer))
}

/// `reregisterWorker`: with the secret that the last registration gave.
pub(crate) async fn reregister(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let mut problems = Vec::new();
    let read = Fields::of(&call.body, "", &mut problems).and_then(|mut fields| {
        fields.only(&["workerPoolId", "workerGroup", "workerId", "secret"]);
        let secret = fields.text("secret", &SECRET).map(str::to_owned);
        Some((Named::read(&mut fields)?, secret?))
    });
    let Some((named, secret)) = read.filter(|_| problems.is_empty()) else {
        return Err(Fault::invalid_body("reregisterWorker", &problems));
    };
    let who = named.who();
    call.authorize(&Need::scope(format!("worker-manager:reregister-worker:{}", who.key())))?;
    let pool = desk.workers.pool(who.pool)?;
    let proves = |worker: &StaticWorker| same(worker.secret.as_deref(), Some(&secret));
    let (expires, secret) = admit(&desk, &who, &pool, call.now, proves)?;
    Ok(Reply::json(&answer(&desk, &who, call.now, expires, &secret)))
}

fn same(known: Option<&str>, given: Option<&str>) -> bool {
    known.zip(given).is_some_and(|(known, given)| verify_slices_are_equal(known.as_bytes(), given.as_bytes()).is_ok())
}

/// The worker runs, if it proves to be itself. Returns until when, and its next secret.
fn admit(
    desk: &Desk,
    who: &Who<'_>,
    pool: &Pool,
    now: Timestamp,
    proves: impl FnOnce(&StaticWorker) -> bool,
) -> Result<(Timestamp, String), Fault> {
    let configured = pool.config.get("lifecycle").and_then(|lifecycle| lifecycle.get("reregistrationTimeout"));
    let holds_secs = configured.and_then(Value::as_i64).unwrap_or(HOLDS_SECS);
    let until = now.saturating_add(SignedDuration::from_secs(holds_secs)).unwrap_or(now);
    let secret = desk.clients.new_secret();
    // Who only guesses names is not told which of them exist.
    let refused = || Fault::new(Code::InputError, "this proof of identity is not that of a worker of this pool");
    desk.workers.workers.change(&who.key(), |place| {
        let worker = place.as_mut().filter(|worker| proves(worker)).ok_or_else(refused)?;
        if worker.stage == Stage::Stopped || worker.expires <= now {
            return Err(Fault::new(
                Code::InputError,
                format!("worker \"{}/{}\" was removed or has expired", who.group, who.id),
            ));
        }
        worker.stage = Stage::Running;
        worker.secret = Some(secret.clone());
        worker.last_modified = now;
        Ok((until.min(worker.expires), secret))
    })
}

fn answer(desk: &Desk, who: &Who<'_>, now: Timestamp, expires: Timestamp, secret: &str) -> Value {
    let (pool, worker, key) = (who.pool, format!("{}/{}", who.group, who.id), who.key());
    let scopes = vec![
        format!("assume:worker-type:{pool}"),
        format!("assume:worker-pool:{pool}"),
        format!("assume:worker-id:{worker}"),
        format!("queue:worker-id:{worker}"),
        format!("queue:claim-work:{pool}"),
        format!("secrets:get:worker-pool:{pool}"),
        format!("worker-manager:remove-worker:{key}"),
        format!("worker-manager:reregister-worker:{key}"),
        format!("worker-manager:should-worker-terminate:{key}"),
    ];
    let credentials = desk.clients.issue(now, format!("worker/{STATIC}/{key}"), scopes, expires);
    json!({ "expires": Date(expires), "credentials": credentials, "secret": secret })
}
