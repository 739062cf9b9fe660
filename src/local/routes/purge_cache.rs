//! The purge-cache service.

use std::sync::Arc;

use axum::Router;

use super::{GET, POST, endpoint, health};
use crate::local::{desk::Desk, purge};

const PURGE_CACHE: &str = "/api/purge-cache/v1";

pub(super) fn add(router: Router<Arc<Desk>>) -> Router<Arc<Desk>> {
    let route = |route: &str| format!("{PURGE_CACHE}{route}");
    health(router, PURGE_CACHE)
        .route(&route("/purge-cache/list"), endpoint(GET, "allPurgeRequests", purge::all))
        .route(
            &route("/purge-cache/{workerPoolId}"),
            endpoint(GET, "purgeRequests", purge::requests).merge(endpoint(POST, "purgeCache", purge::request)),
        )
}
