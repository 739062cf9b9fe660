//! The purge-cache service.

use super::{GET, POST, Routes, endpoint, health};
use crate::local::purge;

const PURGE_CACHE: &str = "/api/purge-cache/v1";

pub(super) fn add(router: Routes) -> Routes {
    let route = |route: &str| format!("{PURGE_CACHE}{route}");
    health(router, PURGE_CACHE).route(&route("/purge-cache/list"), endpoint(GET, "allPurgeRequests", purge::all)).route(
        &route("/purge-cache/{workerPoolId}"),
        endpoint(GET, "purgeRequests", purge::requests).merge(endpoint(POST, "purgeCache", purge::request)),
    )
}
