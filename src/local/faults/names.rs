//! The names of the services' endpoints, so that a rule with a typing mistake is refused instead of never met.

/// Stands for the signed `PUT` and `GET` of an artifact's bytes.
pub(crate) const ARTIFACT: &str = "artifact";
/// The service of [`ARTIFACT`]: not one with an API, but where the signed URLs lead.
pub(crate) const STORE: &str = "store";

/// Service and names of its endpoints, from the services' references.
const SERVICES: &[(&str, &str)] = &[
    (
        "auth",
        "ping lbheartbeat version listClients client createClient getEntityHistory listAuditHistory resetAccessToken updateClient \
         enableClient disableClient deleteClient listRoles listRoles2 listRoleIds role createRole updateRole deleteRole \
         expandScopes currentScopes awsS3Credentials azureAccounts azureTables azureTableSAS azureContainers azureContainerSAS \
         sentryDSN websocktunnelToken gcpCredentials githubRepoToken authenticateHawk testAuthenticate testAuthenticateGet \
         heartbeat",
    ),
    (
        "index",
        "ping lbheartbeat version findTask findTasksAtIndex listNamespaces listTasks insertTask deleteTask findArtifactFromTask \
         heartbeat",
    ),
    ("object", "ping lbheartbeat version createUpload finishUpload startDownload object download heartbeat"),
    ("purge-cache", "ping lbheartbeat version purgeCache allPurgeRequests purgeRequests heartbeat"),
    (
        "queue",
        "ping lbheartbeat version task tasks statuses status listTaskGroup cancelTaskGroup getTaskGroup sealTaskGroup \
         listDependentTasks createTask scheduleTask rerunTask cancelTask changeTaskPriority changeTaskGroupPriority claimWork \
         claimTask reclaimTask reportCompleted reportFailed reportException createArtifact finishArtifact getArtifact \
         getLatestArtifact listArtifacts listLatestArtifacts artifactInfo latestArtifactInfo artifact latestArtifact \
         listProvisioners getProvisioner pendingTasks taskQueueCounts listPendingTasks listClaimedTasks listWorkerTypes \
         getWorkerType listTaskQueues getTaskQueue listWorkers getWorker quarantineWorker declareWorker heartbeat",
    ),
    ("secrets", "ping lbheartbeat version set remove get list heartbeat"),
    (
        "worker-manager",
        "ping lbheartbeat version listProviders createWorkerPool updateWorkerPool deleteWorkerPool listWorkerPoolLaunchConfigs \
         workerPoolStats workerPool listWorkerPools listWorkerPoolsStats reportWorkerError workerPoolErrorStats \
         listWorkerPoolErrors listWorkersForWorkerGroup worker createWorker updateWorker removeWorker shouldWorkerTerminate \
         listWorkersForWorkerPool registerWorker reregisterWorker listWorkers getWorker heartbeat",
    ),
    (STORE, ARTIFACT),
];

/// The services, by name.
pub(super) fn services() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|(service, _)| *service)
}

/// Service and name of every endpoint.
pub(super) fn endpoints() -> impl Iterator<Item = (&'static str, &'static str)> {
    SERVICES.iter().flat_map(|(service, names)| names.split(' ').map(move |name| (*service, name)))
}

/// The service that a path belongs to.
pub(super) fn service(path: &str) -> &str {
    let mut parts = path.strip_prefix("/api/").unwrap_or_default().split('/');
    parts.next().filter(|service| !service.is_empty()).unwrap_or(STORE)
}
