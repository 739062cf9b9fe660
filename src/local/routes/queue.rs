//! Routes of the queue, but for artifacts.

use super::{GET, POST, PUT, QUEUE, Routes, endpoint, question};
use crate::local::{claims, groups, queues, tasks, workers};

pub(super) fn add(router: Routes) -> Routes {
    fleet(groups(claims(tasks(router))))
}

fn tasks(router: Routes) -> Routes {
    let task = |route: &str| format!("{QUEUE}/task/{{taskId}}{route}");
    router
        .route(&task(""), endpoint(GET, "task", tasks::task).merge(endpoint(PUT, "createTask", tasks::create)))
        .route(&task("/status"), endpoint(GET, "status", tasks::status))
        .route(&task("/dependents"), endpoint(GET, "listDependentTasks", tasks::dependents))
        .route(&task("/schedule"), endpoint(POST, "scheduleTask", tasks::schedule))
        .route(&task("/rerun"), endpoint(POST, "rerunTask", tasks::rerun))
        .route(&task("/cancel"), endpoint(POST, "cancelTask", tasks::cancel))
        .route(&task("/priority"), endpoint(POST, "changeTaskPriority", tasks::priority))
        .route(&format!("{QUEUE}/tasks"), question(POST, "tasks", tasks::tasks))
        .route(&format!("{QUEUE}/tasks/status"), question(POST, "statuses", tasks::statuses))
}

fn claims(router: Routes) -> Routes {
    let run = |route: &str| format!("{QUEUE}/task/{{taskId}}/runs/{{runId}}{route}");
    router
        .route(&format!("{QUEUE}/claim-work/{{taskQueueId}}"), endpoint(POST, "claimWork", claims::claim_work))
        .route(&run("/claim"), endpoint(POST, "claimTask", claims::claim_task))
        .route(&run("/reclaim"), endpoint(POST, "reclaimTask", claims::reclaim))
        .route(&run("/completed"), endpoint(POST, "reportCompleted", claims::completed))
        .route(&run("/failed"), endpoint(POST, "reportFailed", claims::failed))
        .route(&run("/exception"), endpoint(POST, "reportException", claims::exception))
}

fn groups(router: Routes) -> Routes {
    let group = |route: &str| format!("{QUEUE}/task-group/{{taskGroupId}}{route}");
    router
        .route(&group(""), endpoint(GET, "getTaskGroup", groups::get))
        .route(&group("/list"), endpoint(GET, "listTaskGroup", groups::list))
        .route(&group("/seal"), endpoint(POST, "sealTaskGroup", groups::seal))
        .route(&group("/cancel"), endpoint(POST, "cancelTaskGroup", groups::cancel))
        .route(&group("/priority"), endpoint(POST, "changeTaskGroupPriority", groups::priority))
}

/// Task queues and workers, also under the names that they had before.
fn fleet(router: Routes) -> Routes {
    let queue = |route: &str| format!("{QUEUE}/task-queues/{{taskQueueId}}{route}");
    let worker_types = |route: &str| format!("{QUEUE}/provisioners/{{provisionerId}}/worker-types{route}");
    router
        .route(&format!("{QUEUE}/task-queues"), endpoint(GET, "listTaskQueues", queues::list))
        .route(&queue(""), endpoint(GET, "getTaskQueue", queues::get))
        .route(&queue("/counts"), endpoint(GET, "taskQueueCounts", queues::counts))
        .route(&queue("/pending"), endpoint(GET, "listPendingTasks", queues::pending))
        .route(&queue("/claimed"), endpoint(GET, "listClaimedTasks", queues::claimed))
        .route(&format!("{QUEUE}/pending/{{taskQueueId}}"), endpoint(GET, "pendingTasks", queues::pending_count))
        .route(&format!("{QUEUE}/provisioners"), endpoint(GET, "listProvisioners", queues::provisioners))
        .route(&format!("{QUEUE}/provisioners/{{provisionerId}}"), endpoint(GET, "getProvisioner", queues::provisioner))
        .route(&worker_types(""), endpoint(GET, "listWorkerTypes", queues::worker_types))
        .route(&worker_types("/{workerType}"), endpoint(GET, "getWorkerType", queues::worker_type))
        .route(&worker_types("/{workerType}/workers"), endpoint(GET, "listWorkers", workers::list))
        .route(
            &worker_types("/{workerType}/workers/{workerGroup}/{workerId}"),
            endpoint(GET, "getWorker", workers::get).merge(endpoint(PUT, "quarantineWorker", workers::quarantine)),
        )
        .route(&worker_types("/{workerType}/{workerGroup}/{workerId}"), endpoint(PUT, "declareWorker", workers::declare))
}
