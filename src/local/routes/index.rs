//! The index.

use super::{DELETE, GET, POST, PUT, Routes, endpoint, health, list, question};
use crate::local::index;

const INDEX: &str = "/api/index/v1";

/// `listNamespaces` and `listTasks` are called with POST by older clients.
pub(super) fn add(router: Routes) -> Routes {
    let route = |route: &str| format!("{INDEX}{route}");
    let namespaces = || {
        endpoint(GET, "listNamespaces", index::namespaces).merge(question(POST, "listNamespaces", index::namespaces_by_body))
    };
    let tasks = || endpoint(GET, "listTasks", index::tasks).merge(question(POST, "listTasks", index::tasks_by_body));
    let root = list(health(router, INDEX), &route("/namespaces/"), namespaces());
    list(root, &route("/tasks/"), tasks())
        .route(
            &route("/task/{indexPath}"),
            endpoint(GET, "findTask", index::find).merge(endpoint(PUT, "insertTask", index::insert)).merge(endpoint(
                DELETE,
                "deleteTask",
                index::delete,
            )),
        )
        .route(
            &route("/tasks/indexes"),
            question(POST, "findTasksAtIndex", index::find_many).merge(endpoint(GET, "listTasks", index::tasks)),
        )
        .route(&route("/namespaces/{namespace}"), namespaces())
        .route(&route("/tasks/{namespace}"), tasks())
        .route(&route("/task/{indexPath}/artifacts/{*name}"), endpoint(GET, "findArtifactFromTask", index::artifact))
}
