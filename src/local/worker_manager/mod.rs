//! The worker-manager service, for machines that somebody else starts: pools of the provider type `static`.
//!
//! ```text
//!  createWorkerPool ─▶ pool ─createWorker─▶ requested ─registerWorker─▶ running ─removeWorker─▶ stopped
//!                                            (with a secret)   ▲  │ reregisterWorker (with the last answer's secret)
//!                                                              └──┘
//! ```
//! It gives workers their credentials and configuration and takes their complaints. It starts and ends no machines.

pub(crate) mod errors;
pub(crate) mod pools;
pub(crate) mod register;
pub(crate) mod workers;

use std::{io, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    check::{TASK_QUEUE_ID, Text, WORD},
    endpoint::Call,
    fault::{Code, Fault},
    ledger::Ledger,
    shelf::Shelf,
    view::Date,
};

/// The provider of machines that somebody else starts.
const STATIC: &str = "static";
/// The provider of pools that are about to be deleted.
const NULL: &str = "null-provider";

/// A pool as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pool {
    provider_id: String,
    description: String,
    owner: String,
    email_on_error: bool,
    config: Map<String, Value>,
    created: Timestamp,
    last_modified: Timestamp,
}

/// What a worker is doing, as far as this service knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Requested,
    Running,
    Stopped,
}

/// A worker as it is kept. Not `Debug`: it holds secrets.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StaticWorker {
    provider_id: String,
    stage: Stage,
    capacity: u64,
    created: Timestamp,
    last_modified: Timestamp,
    expires: Timestamp,
    /// What proves at the first registration that it is the machine it says.
    static_secret: Option<String>,
    /// What proves it from then on; every registration makes a new one.
    secret: Option<String>,
}

/// What a worker complained about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PoolError {
    error_id: String,
    reported: Timestamp,
    kind: String,
    title: String,
    description: String,
    extra: Map<String, Value>,
}

/// All that the service keeps.
pub(crate) struct WorkerManager {
    pools: Shelf<Pool>,
    /// By `<workerPoolId>/<workerGroup>/<workerId>`.
    workers: Shelf<StaticWorker>,
    /// By `<workerPoolId>/<milliseconds>/<errorId>`, so that they stand in the order in which they came.
    errors: Shelf<PoolError>,
}

impl WorkerManager {
    /// What the ledger has kept.
    pub(crate) fn open(ledger: &Arc<Ledger>) -> io::Result<Self> {
        Ok(Self {
            pools: Shelf::open("worker-pool", ledger)?,
            workers: Shelf::open("worker", ledger)?,
            errors: Shelf::open("worker-pool-error", ledger)?,
        })
    }

    fn pool(&self, id: &str) -> Result<Pool, Fault> {
        let missing = || Fault::new(Code::ResourceNotFound, format!("worker pool \"{id}\" does not exist"));
        self.pools.get(id).ok_or_else(missing)
    }

    /// Forgets workers that have expired.
    pub(crate) fn sweep(&self, now: Timestamp) {
        self.workers.retain(|_, worker| worker.expires > now);
    }
}

/// A worker's names.
struct Who<'a> {
    pool: &'a str,
    group: &'a str,
    id: &'a str,
}

impl<'a> Who<'a> {
    fn of(call: &'a Call) -> Result<Self, Fault> {
        Ok(Self { pool: pool_id(call)?, group: word(call, "workerGroup")?, id: word(call, "workerId")? })
    }

    /// Its place on the shelf, and in scopes.
    fn key(&self) -> String {
        format!("{}/{}/{}", self.pool, self.group, self.id)
    }

    fn missing(&self) -> Fault {
        let Self { pool, group, id } = self;
        Fault::new(Code::ResourceNotFound, format!("worker \"{group}/{id}\" of worker pool \"{pool}\" does not exist"))
    }

    fn shown(&self, worker: &StaticWorker) -> Value {
        json!({
            "workerPoolId": self.pool, "workerGroup": self.group, "workerId": self.id, "providerId": worker.provider_id,
            "created": Date(worker.created), "expires": Date(worker.expires), "lastModified": Date(worker.last_modified),
            "lastChecked": Date(worker.last_modified), "capacity": worker.capacity, "state": worker.stage,
        })
    }
}

fn checked<'a>(call: &'a Call, name: &str, rule: &Text) -> Result<&'a str, Fault> {
    let text = call.param(name);
    match rule.problem(text) {
        None => Ok(text),
        Some(problem) => Err(Fault::new(Code::InvalidRequestArguments, format!("{name} `{text}` {problem}"))),
    }
}

fn pool_id(call: &Call) -> Result<&str, Fault> {
    checked(call, "workerPoolId", &TASK_QUEUE_ID)
}

fn word<'a>(call: &'a Call, name: &str) -> Result<&'a str, Fault> {
    checked(call, name, &WORD)
}
