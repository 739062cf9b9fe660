//! The secrets service.

use std::sync::Arc;

use axum::Router;

use super::{DELETE, GET, PUT, endpoint, health};
use crate::local::{desk::Desk, secrets};

const SECRETS: &str = "/api/secrets/v1";

pub(super) fn add(router: Router<Arc<Desk>>) -> Router<Arc<Desk>> {
    health(router, SECRETS)
        .route(
            &format!("{SECRETS}/secret/{{*name}}"),
            endpoint(PUT, "set", secrets::set)
                .merge(endpoint(GET, "get", secrets::get))
                .merge(endpoint(DELETE, "remove", secrets::remove)),
        )
        .route(&format!("{SECRETS}/secrets"), endpoint(GET, "list", secrets::list))
}
