//! The worker-manager service, for workers that nobody starts.

use axum::routing::any;

use super::{DELETE, GET, POST, PUT, Routes, endpoint, health, not_offered};
use crate::local::worker_manager::{errors, pools, register, workers};

const WORKER_MANAGER: &str = "/api/worker-manager/v1";

pub(super) fn add(router: Routes) -> Routes {
    let route = |route: &str| format!("{WORKER_MANAGER}{route}");
    health(router, WORKER_MANAGER)
        .route(&route("/providers"), endpoint(GET, "listProviders", pools::providers))
        .route(
            &route("/worker-pool/{workerPoolId}"),
            endpoint(GET, "workerPool", pools::get)
                .merge(endpoint(PUT, "createWorkerPool", pools::create))
                .merge(endpoint(POST, "updateWorkerPool", pools::update))
                .merge(endpoint(DELETE, "deleteWorkerPool", pools::delete)),
        )
        .route(&route("/worker-pools"), endpoint(GET, "listWorkerPools", pools::list))
        // Else `stats` would be taken for the name of a pool.
        .route(&route("/worker-pool-errors/stats"), any(not_offered))
        .route(
            &route("/worker-pool-errors/{workerPoolId}"),
            endpoint(GET, "listWorkerPoolErrors", errors::list).merge(endpoint(POST, "reportWorkerError", errors::report)),
        )
        .route(&route("/workers/{workerPoolId}"), endpoint(GET, "listWorkersForWorkerPool", workers::list))
        .route(&route("/workers/{workerPoolId}/{workerGroup}"), endpoint(GET, "listWorkersForWorkerGroup", workers::list))
        .route(
            &route("/workers/{workerPoolId}/{workerGroup}/{workerId}"),
            endpoint(GET, "worker", workers::get)
                .merge(endpoint(PUT, "createWorker", workers::create))
                .merge(endpoint(POST, "updateWorker", workers::update))
                .merge(endpoint(DELETE, "removeWorker", workers::remove)),
        )
        .route(
            &route("/workers/{workerPoolId}/{workerGroup}/{workerId}/should-terminate"),
            endpoint(GET, "shouldWorkerTerminate", workers::should_terminate),
        )
        .route(&route("/worker/register"), endpoint(POST, "registerWorker", register::register))
        .route(&route("/worker/reregister"), endpoint(POST, "reregisterWorker", register::reregister))
}
