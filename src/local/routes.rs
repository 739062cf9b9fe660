//! The table of routes: what this server offers, by the names of the services' references.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    middleware::from_fn_with_state,
    response::IntoResponse as _,
    routing::{MethodFilter, MethodRouter, put},
};
use http::{Method, Uri};

use super::{
    artifacts,
    desk::Desk,
    endpoint::{endpoint, open_question, question},
    fault::{Code, Fault},
    faults, store, tasks, transfer,
};

mod auth;
mod index;
mod object;
mod purge_cache;
mod queue;
mod secrets;
mod worker_manager;

const QUEUE: &str = "/api/queue/v1";

const GET: MethodFilter = MethodFilter::GET;
const PUT: MethodFilter = MethodFilter::PUT;
const POST: MethodFilter = MethodFilter::POST;
const DELETE: MethodFilter = MethodFilter::DELETE;

/// Routes of several services.
type Routes = Router<Arc<Desk>>;

/// All routes. Artifact names are taken with their slashes encoded, as API clients send them, or plain, as people type them.
pub(crate) fn router(desk: Arc<Desk>) -> Router {
    let others: [fn(Routes) -> Routes; 6] =
        [auth::add, index::add, purge_cache::add, secrets::add, object::add, worker_manager::add];
    let router = others.into_iter().fold(queue_and_store(), |router, add| add(router));
    // The endpoints of services do this themselves, since only they know their names.
    let router = match &desk.faults {
        Some(_) => router.layer(from_fn_with_state(desk.clone(), faults::around_store)),
        None => router,
    };
    router.method_not_allowed_fallback(wrong_method).fallback(not_offered).with_state(desk)
}

/// What every service answers about itself. Broken credentials are no matter there.
fn health(router: Routes, service: &str) -> Routes {
    router
        .route(&format!("{service}/ping"), open_question(GET, "ping", tasks::ping))
        .route(&format!("{service}/__heartbeat__"), open_question(GET, "heartbeat", tasks::ping))
        .route(&format!("{service}/__lbheartbeat__"), open_question(GET, "lbheartbeat", tasks::ping))
        .route(&format!("{service}/__version__"), open_question(GET, "version", tasks::version))
}

/// A list whose route ends in a slash, which some clients leave out.
fn list(router: Routes, route: &str, method: MethodRouter<Arc<Desk>>) -> Routes {
    router.route(route.trim_end_matches('/'), method.clone()).route(route, method)
}

fn queue_and_store() -> Routes {
    let queue = |route: &str| format!("{QUEUE}{route}");
    queue::add(health(Router::new(), QUEUE))
        .route(&queue("/task/{taskId}/runs/{runId}/artifacts"), endpoint(GET, "listArtifacts", artifacts::list))
        .route(&queue("/task/{taskId}/artifacts"), endpoint(GET, "listLatestArtifacts", artifacts::list))
        .route(
            &queue("/task/{taskId}/runs/{runId}/artifacts/{*name}"),
            endpoint(GET, "getArtifact", artifacts::get)
                .merge(endpoint(POST, "createArtifact", artifacts::create))
                .merge(endpoint(PUT, "finishArtifact", artifacts::finish)),
        )
        .route(&queue("/task/{taskId}/artifacts/{*name}"), endpoint(GET, "getLatestArtifact", artifacts::get))
        .route(&queue("/task/{taskId}/runs/{runId}/artifact-content/{*name}"), endpoint(GET, "artifact", artifacts::content))
        .route(&queue("/task/{taskId}/artifact-content/{*name}"), endpoint(GET, "latestArtifact", artifacts::content))
        .route(&queue("/task/{taskId}/runs/{runId}/artifact-info/{*name}"), endpoint(GET, "artifactInfo", artifacts::info))
        .route(&queue("/task/{taskId}/artifact-info/{*name}"), endpoint(GET, "latestArtifactInfo", artifacts::info))
        .route(&format!("{}/{{task}}/{{run}}/{{*name}}", store::PREFIX), put(transfer::put).get(transfer::get))
}

async fn not_offered(State(desk): State<Arc<Desk>>, method: Method, uri: Uri) -> axum::response::Response {
    let path = uri.path();
    let message =
        format!("{method} {path} is not offered by this server: it is a queue for one machine, not a whole deployment");
    Fault::new(Code::ResourceNotFound, message).reply("unknown", &[], None, desk.now()).into_response()
}

async fn wrong_method(State(desk): State<Arc<Desk>>, method: Method, uri: Uri) -> axum::response::Response {
    let message = format!("{method} is not offered for {}", uri.path());
    Fault::new(Code::MethodNotAllowed, message).reply("unknown", &[], None, desk.now()).into_response()
}
