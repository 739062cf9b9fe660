//! Typed calls of the queue.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ANSWER_BYTES, ApiError, CredentialsCell, ObjectPlace, Secret, Services,
    claim::{Claim, ClaimAnswer, Reclaimed},
    content::ObjectCredentials,
    error::ErrorKind,
    services::{Call, parse, segment},
    types::{ArtifactAnswer, ArtifactInfo, NewArtifact, Resolution, Task, TaskStatus},
};

/// The server lets a claim wait for up to 20 s; the rest is for the network.
const CLAIM_BOUND: Duration = Duration::from_secs(50);
/// Room for one task in the answer to a claim. Services take definitions of up to 10 MB; the rest is what comes around them.
const CLAIMED_TASK_BYTES: usize = 12 << 20;
/// Any other call.
pub(super) const CALL_BOUND: Duration = Duration::from_secs(30);

/// The queue, called with the credentials of one owner.
#[derive(Clone)]
pub struct Queue {
    pub(super) services: Services,
    pub(super) credentials: CredentialsCell,
}

impl Queue {
    pub(super) fn new(services: Services, credentials: CredentialsCell) -> Self {
        Self { services, credentials }
    }

    /// Whose credentials its calls carry.
    pub fn credentials(&self) -> &CredentialsCell {
        &self.credentials
    }

    /// The deployment.
    pub fn services(&self) -> &Services {
        &self.services
    }

    pub(super) fn call<'a>(name: &'static str, method: Method, path: &str, body: Option<&'a Value>) -> Call<'a> {
        Call { name, method, resource: format!("/api/queue/v1{path}"), body, timeout: CALL_BOUND, answer_bytes: ANSWER_BYTES }
    }

    /// `claimWork`: asks once for up to `tasks` tasks, and waits for up to 20 s at the server if there are none.
    ///
    /// A task in the answer of which not even id, run and credentials can be read is left out with an error in the log; its
    /// claim runs out.
    pub async fn claim_work(&self, pool: &str, worker_group: &str, worker_id: &str, tasks: u8) -> Result<Vec<Claim>, ApiError> {
        const NAME: &str = "queue.claimWork";
        let body = json!({ "workerGroup": worker_group, "workerId": worker_id, "tasks": tasks });
        let mut call = Self::call(NAME, Method::POST, &format!("/claim-work/{}", segment(pool)), Some(&body));
        call.timeout = CLAIM_BOUND;
        call.answer_bytes = ANSWER_BYTES.max(usize::from(tasks) * CLAIMED_TASK_BYTES);
        let response = self.services.attempt(&call, &self.credentials).await?;
        let answer: ClaimAnswer = parse(NAME, &response)?;
        let mut claims = Vec::with_capacity(answer.tasks.len());
        for raw in answer.tasks {
            match Claim::read(raw, response.date()) {
                Ok(claim) => claims.push(claim),
                Err(error) => tracing::error!("{NAME}: a claimed task is not understood and will expire: {error}"),
            }
        }
        Ok(claims)
    }

    /// `reclaimTask`: asks once, for at most `patience`.
    pub async fn reclaim(&self, task_id: &str, run_id: u32, patience: Duration) -> Result<Reclaimed, ApiError> {
        const NAME: &str = "queue.reclaimTask";
        let mut call = Self::call(NAME, Method::POST, &format!("{}/reclaim", run_path(task_id, run_id)), None);
        call.timeout = patience;
        let response = self.services.attempt(&call, &self.credentials).await?;
        Reclaimed::read(&parse(NAME, &response)?, response.date())
            .map_err(|e| ApiError::new(NAME, ErrorKind::Garbage(e.to_string())))
    }

    /// `reportCompleted`, `reportFailed` or `reportException`.
    pub async fn report(&self, task_id: &str, run_id: u32, resolution: Resolution) -> Result<(), ApiError> {
        let (name, end, body) = match resolution {
            Resolution::Completed => ("queue.reportCompleted", "completed", None),
            Resolution::Failed => ("queue.reportFailed", "failed", None),
            Resolution::Exception(reason) => ("queue.reportException", "exception", Some(json!({ "reason": reason.as_str() }))),
        };
        let call = Self::call(name, Method::POST, &format!("{}/{end}", run_path(task_id, run_id)), body.as_ref());
        let services = &self.services;
        // Anybody between us and the queue can answer 200; only the queue knows where the run stands.
        let call = &call;
        let attempt = move || async move {
            let response = services.attempt(call, &self.credentials).await?;
            let answer: StatusAnswer = parse(name, &response)?;
            let run = answer.status.runs.iter().find(|run| run.run_id == run_id);
            match run.map(|run| run.state.as_str()) {
                Some("completed" | "failed" | "exception") => Ok(()),
                _ => Err(ApiError::new(name, ErrorKind::Garbage("the run is not resolved in it".to_owned()))),
            }
        };
        services.retry().run(services.random().as_ref(), attempt).await
    }

    /// `createArtifact`. Repeating it with the same properties is allowed and gives a fresh URL.
    pub async fn create_artifact(
        &self,
        task_id: &str,
        run_id: u32,
        name: &str,
        artifact: &NewArtifact,
    ) -> Result<ArtifactAnswer, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            put_url: Option<String>,
            content_type: Option<String>,
            name: Option<String>,
            project_id: Option<String>,
            upload_id: Option<String>,
            expires: Option<String>,
            credentials: Option<ObjectCredentials>,
        }
        let body = artifact.body();
        let path = format!("{}/artifacts/{}", run_path(task_id, run_id), segment(name));
        let call = Self::call("queue.createArtifact", Method::POST, &path, Some(&body));
        let answer: Answer = self.services.call_json(&call, &self.credentials).await?;
        let object = || {
            Some(ObjectPlace {
                name: answer.name?,
                project_id: answer.project_id?,
                upload_id: answer.upload_id?,
                expires: answer.expires?,
                credentials: answer.credentials?.into_cell(),
            })
        };
        Ok(ArtifactAnswer { put_url: answer.put_url.map(Secret::new), content_type: answer.content_type, object: object() })
    }

    /// `finishArtifact`: the object of an artifact is all there. Repeating it changes nothing.
    pub async fn finish_artifact(&self, task_id: &str, run_id: u32, name: &str, upload_id: &str) -> Result<(), ApiError> {
        let body = json!({ "uploadId": upload_id });
        let path = format!("{}/artifacts/{}", run_path(task_id, run_id), segment(name));
        let call = Self::call("queue.finishArtifact", Method::PUT, &path, Some(&body));
        self.services.call(&call, &self.credentials).await.map(drop)
    }

    /// `status`, unsigned.
    pub async fn status(&self, task_id: &str) -> Result<TaskStatus, ApiError> {
        let call = Self::call("queue.status", Method::GET, &format!("/task/{}/status", segment(task_id)), None);
        let answer: StatusAnswer = self.services.call_json(&call, &CredentialsCell::anonymous()).await?;
        Ok(answer.status)
    }

    /// `statuses`, unsigned: asks once for all of these tasks. Tasks that the queue does not know are not in the answer.
    pub async fn statuses(&self, task_ids: &[String]) -> Result<Vec<TaskStatus>, ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            statuses: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            status: TaskStatus,
        }
        const NAME: &str = "queue.statuses";
        let body = json!({ "taskIds": task_ids });
        let call = Self::call(NAME, Method::POST, "/tasks/status", Some(&body));
        let response = self.services.attempt(&call, &CredentialsCell::anonymous()).await?;
        let answer: Answer = parse(NAME, &response)?;
        Ok(answer.statuses.into_iter().map(|one| one.status).collect())
    }

    /// `createTask`.
    pub async fn create_task(&self, task_id: &str, definition: &Value) -> Result<(), ApiError> {
        let path = format!("/task/{}", segment(task_id));
        let call = Self::call("queue.createTask", Method::PUT, &path, Some(definition));
        self.services.call(&call, &self.credentials).await.map(drop)
    }

    /// `task`: the definition.
    pub async fn task(&self, task_id: &str) -> Result<Task, ApiError> {
        let call = Self::call("queue.task", Method::GET, &format!("/task/{}", segment(task_id)), None);
        let raw = self.services.call_json(&call, &self.credentials).await?;
        Ok(Task::read(raw, &Value::Null, self.services.clock().wall()))
    }

    /// `listArtifacts`: all artifacts of a run.
    pub async fn list_artifacts(&self, task_id: &str, run_id: u32) -> Result<Vec<ArtifactInfo>, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            artifacts: Vec<ArtifactInfo>,
            continuation_token: Option<String>,
        }
        let mut artifacts = Vec::new();
        let mut query = String::new();
        loop {
            let path = format!("{}/artifacts{query}", run_path(task_id, run_id));
            let call = Self::call("queue.listArtifacts", Method::GET, &path, None);
            let page: Page = self.services.call_json(&call, &self.credentials).await?;
            // A page without anything new would be followed by itself for ever.
            let last = page.artifacts.is_empty();
            artifacts.extend(page.artifacts);
            match page.continuation_token {
                Some(token) if !last => query = format!("?continuationToken={}", segment(&token)),
                _ => return Ok(artifacts),
            }
        }
    }

    /// A URL that gives the content of an artifact to whoever has it, for as long as `valid`.
    ///
    /// # Errors
    /// When the name cannot stand in a URL, or the certificate is no JSON.
    pub fn artifact_url(&self, task_id: &str, run_id: u32, name: &str, valid: Duration) -> Result<Secret, ApiError> {
        let path = format!("{}/artifact-content/{}", run_path(task_id, run_id), segment(name));
        let call = Self::call("queue.artifact", Method::GET, &path, None);
        self.services.signed_url(&call, &self.credentials, valid)
    }

    /// `cancelTask`.
    pub async fn cancel_task(&self, task_id: &str) -> Result<(), ApiError> {
        let path = format!("/task/{}/cancel", segment(task_id));
        let call = Self::call("queue.cancelTask", Method::POST, &path, None);
        self.services.call(&call, &self.credentials).await.map(drop)
    }
}

/// `{"status": …}`
#[derive(Deserialize)]
struct StatusAnswer {
    status: TaskStatus,
}

pub(super) fn run_path(task_id: &str, run_id: u32) -> String {
    format!("/task/{}/runs/{run_id}", segment(task_id))
}
