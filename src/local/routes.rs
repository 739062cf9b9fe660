//! The table of routes: what this server offers, by the names of the services' references.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    middleware::from_fn_with_state,
    response::IntoResponse as _,
    routing::{MethodFilter, put},
};
use http::{Method, Uri};

use super::{
    artifacts, claims,
    desk::Desk,
    endpoint::endpoint,
    fault::{Code, Fault},
    faults, index, purge, scopes, store, tasks, transfer,
};

const QUEUE: &str = "/api/queue/v1";
const AUTH: &str = "/api/auth/v1";
const INDEX: &str = "/api/index/v1";
const PURGE_CACHE: &str = "/api/purge-cache/v1";

const GET: MethodFilter = MethodFilter::GET;
const PUT: MethodFilter = MethodFilter::PUT;
const POST: MethodFilter = MethodFilter::POST;

/// All routes. Artifact names are taken with their slashes encoded, as API clients send them, or plain, as people type them.
pub(crate) fn router(desk: Arc<Desk>) -> Router {
    let queue = |route: &str| format!("{QUEUE}{route}");
    let purge_cache = |route: &str| format!("{PURGE_CACHE}{route}");
    Router::new()
        .route(&queue("/ping"), endpoint(GET, "ping", tasks::ping))
        .route(&queue("/__heartbeat__"), endpoint(GET, "heartbeat", tasks::ping))
        .route(&queue("/__lbheartbeat__"), endpoint(GET, "lbheartbeat", tasks::ping))
        .route(&queue("/task/{taskId}"), endpoint(GET, "task", tasks::task).merge(endpoint(PUT, "createTask", tasks::create)))
        .route(&queue("/task/{taskId}/status"), endpoint(GET, "status", tasks::status))
        .route(&queue("/task/{taskId}/cancel"), endpoint(POST, "cancelTask", tasks::cancel))
        .route(&queue("/tasks"), endpoint(POST, "tasks", tasks::tasks))
        .route(&queue("/tasks/status"), endpoint(POST, "statuses", tasks::statuses))
        .route(&queue("/claim-work/{taskQueueId}"), endpoint(POST, "claimWork", claims::claim_work))
        .route(&queue("/task/{taskId}/runs/{runId}/reclaim"), endpoint(POST, "reclaimTask", claims::reclaim))
        .route(&queue("/task/{taskId}/runs/{runId}/completed"), endpoint(POST, "reportCompleted", claims::completed))
        .route(&queue("/task/{taskId}/runs/{runId}/failed"), endpoint(POST, "reportFailed", claims::failed))
        .route(&queue("/task/{taskId}/runs/{runId}/exception"), endpoint(POST, "reportException", claims::exception))
        .route(&queue("/task/{taskId}/runs/{runId}/artifacts"), endpoint(GET, "listArtifacts", artifacts::list))
        .route(&queue("/task/{taskId}/artifacts"), endpoint(GET, "listLatestArtifacts", artifacts::list))
        .route(
            &queue("/task/{taskId}/runs/{runId}/artifacts/{*name}"),
            endpoint(GET, "getArtifact", artifacts::get).merge(endpoint(POST, "createArtifact", artifacts::create)),
        )
        .route(&queue("/task/{taskId}/artifacts/{*name}"), endpoint(GET, "getLatestArtifact", artifacts::get))
        .route(&queue("/task/{taskId}/runs/{runId}/artifact-content/{*name}"), endpoint(GET, "artifact", artifacts::content))
        .route(&queue("/task/{taskId}/artifact-content/{*name}"), endpoint(GET, "latestArtifact", artifacts::content))
        .route(&queue("/task/{taskId}/runs/{runId}/artifact-info/{*name}"), endpoint(GET, "artifactInfo", artifacts::info))
        .route(&queue("/task/{taskId}/artifact-info/{*name}"), endpoint(GET, "latestArtifactInfo", artifacts::info))
        .route(&format!("{AUTH}/scopes/expand"), endpoint(POST, "expandScopes", scopes::expand))
        .route(&format!("{INDEX}/ping"), endpoint(GET, "ping", tasks::ping))
        .route(
            &format!("{INDEX}/task/{{indexPath}}"),
            endpoint(GET, "findTask", index::find).merge(endpoint(PUT, "insertTask", index::insert)),
        )
        .route(
            &format!("{INDEX}/task/{{indexPath}}/artifacts/{{*name}}"),
            endpoint(GET, "findArtifactFromTask", index::artifact),
        )
        .route(&purge_cache("/ping"), endpoint(GET, "ping", tasks::ping))
        .route(&purge_cache("/__heartbeat__"), endpoint(GET, "heartbeat", tasks::ping))
        .route(&purge_cache("/__lbheartbeat__"), endpoint(GET, "lbheartbeat", tasks::ping))
        .route(&purge_cache("/purge-cache/list"), endpoint(GET, "allPurgeRequests", purge::all))
        .route(
            &purge_cache("/purge-cache/{workerPoolId}"),
            endpoint(GET, "purgeRequests", purge::requests).merge(endpoint(POST, "purgeCache", purge::request)),
        )
        .route(
            &format!("{}/{{task}}/{{run}}/{{*name}}", store::PREFIX),
            put(transfer::put).get(transfer::get).layer(from_fn_with_state(desk.clone(), faults::around_store)),
        )
        .method_not_allowed_fallback(wrong_method)
        .fallback(not_offered)
        .with_state(desk)
}

async fn not_offered(State(desk): State<Arc<Desk>>, uri: Uri) -> axum::response::Response {
    let message =
        format!("{} is not offered by this server: it is a queue for one machine, not a whole deployment", uri.path());
    Fault::new(Code::ResourceNotFound, message).reply("unknown", &[], None, desk.now()).into_response()
}

async fn wrong_method(State(desk): State<Arc<Desk>>, method: Method, uri: Uri) -> axum::response::Response {
    let message = format!("{method} is not offered for {}", uri.path());
    Fault::new(Code::MethodNotAllowed, message).reply("unknown", &[], None, desk.now()).into_response()
}
