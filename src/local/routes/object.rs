//! The object service.

use axum::routing::put;

use super::{GET, POST, PUT, Routes, endpoint, health};
use crate::local::{object, store};

const OBJECT: &str = "/api/object/v1";

pub(super) fn add(router: Routes) -> Routes {
    let route = |route: &str| format!("{OBJECT}{route}");
    health(router, OBJECT)
        .route(&route("/upload/{*name}"), endpoint(PUT, "createUpload", object::create_upload))
        .route(&route("/finish-upload/{*name}"), endpoint(POST, "finishUpload", object::finish_upload))
        .route(&route("/start-download/{*name}"), endpoint(PUT, "startDownload", object::start_download))
        .route(&route("/metadata/{*name}"), endpoint(GET, "object", object::metadata))
        .route(&route("/download/{*name}"), endpoint(GET, "download", object::download))
        .route(&format!("{}/{{uploadId}}/{{*name}}", store::OBJECTS), put(object::bytes::put).get(object::bytes::get))
}
