//! The secrets service.

use super::{DELETE, GET, PUT, Routes, endpoint, health};
use crate::local::secrets;

const SECRETS: &str = "/api/secrets/v1";

pub(super) fn add(router: Routes) -> Routes {
    health(router, SECRETS)
        .route(
            &format!("{SECRETS}/secret/{{*name}}"),
            endpoint(PUT, "set", secrets::set).merge(endpoint(GET, "get", secrets::get)).merge(endpoint(
                DELETE,
                "remove",
                secrets::remove,
            )),
        )
        .route(&format!("{SECRETS}/secrets"), endpoint(GET, "list", secrets::list))
}
