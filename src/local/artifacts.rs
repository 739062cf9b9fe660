//! Calls about artifacts.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderName, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    auth::{Need, TemporaryCredentials},
    check::{Fields, TASK_ID, Text},
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    object::{self, is_object_name},
    reply::Reply,
    state::{Artifact, NewArtifact, Storage, TaskId},
    store::Permit,
    view::{ArtifactView, Date},
};

const UPLOAD_TIME: SignedDuration = SignedDuration::from_mins(45);
const DOWNLOAD_TIME: SignedDuration = SignedDuration::from_mins(30);
/// How long credentials for an object are valid.
const OBJECT_TIME: SignedDuration = SignedDuration::from_hours(1);
const STORAGE_TYPE: HeaderName = HeaderName::from_static("x-taskcluster-artifact-storage-type");
/// What artifacts are that say nothing about it.
const DEFAULT_CONTENT_TYPE: &str = "application/binary";
const REASONS: &[&str] =
    &["file-missing-on-worker", "invalid-resource-on-worker", "too-large-file-on-worker", "file-not-readable-on-worker"];
const MOST_NAME: usize = 1024;

pub(crate) async fn create(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (id, run) = (call.task_id()?, call.run_id()?);
    let name = name(&call)?;
    call.authorize(&Need::scope(format!("queue:create-artifact:{id}/{run}")))?;
    let mut new = new_artifact(&call.body)?;
    if let Storage::Object { project_id, upload_id, .. } = &mut new.storage {
        if !is_object_name(&object_name((id, run, name))) {
            return Err(Fault::new(Code::InputError, "the name of an object artifact must be printable ASCII"));
        }
        *project_id = desk.books(|state, now| state.status(now, id))?.definition.project_id.to_string();
        *upload_id = desk.clients.new_slugid();
    }
    let artifact = desk.books(|state, now| state.create_artifact(now, id, run, name, new))?;
    let answer = match &artifact.storage {
        Storage::S3 { .. } => {
            let until = call.now.saturating_add(UPLOAD_TIME).unwrap_or(call.now);
            let permit = Permit::Put { content_type: &artifact.content_type };
            let put_url = desk.store.url(&call.base, permit, (id, run, name), until);
            json!({ "storageType": "s3", "putUrl": put_url, "expires": Date(until), "contentType": artifact.content_type })
        }
        Storage::Object { project_id, upload_id, .. } => {
            let object = object_name((id, run, name));
            let scope = format!("object:upload:{project_id}:{object}");
            json!({
                "storageType": "object", "name": object, "projectId": project_id, "uploadId": upload_id,
                "expires": Date(artifact.expires), "credentials": object_credentials(&desk, call.now, &object, scope),
            })
        }
        other => json!({ "storageType": other.type_name() }),
    };
    Ok(Reply::json(&answer))
}

/// What the artifact's object is called.
fn object_name((id, run, name): (TaskId, u32, &str)) -> String {
    format!("t/{id}/{run}/{name}")
}

/// Credentials for one thing to do with one object.
fn object_credentials(desk: &Desk, now: Timestamp, object: &str, scope: String) -> TemporaryCredentials {
    let until = now.saturating_add(OBJECT_TIME).unwrap_or(now);
    // Client ids have fewer characters than names of objects.
    let client_id: String =
        object.chars().map(|c| if c.is_ascii_alphanumeric() || "/.-_".contains(c) { c } else { '_' }).collect();
    desk.clients.issue(now, format!("object/{client_id}"), vec![scope], until)
}

/// `finishArtifact`
pub(crate) async fn finish(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (id, run) = (call.task_id()?, call.run_id()?);
    let name = name(&call)?;
    let mut problems = Vec::new();
    let upload_id = Fields::of(&call.body, "", &mut problems).and_then(|mut fields| {
        fields.only(&["uploadId"]);
        fields.text("uploadId", &TASK_ID).map(str::to_owned)
    });
    let Some(upload_id) = upload_id.filter(|_| problems.is_empty()) else {
        return Err(Fault::invalid_body("finishArtifact", &problems));
    };
    call.authorize(&Need::scope(format!("queue:create-artifact:{id}/{run}")))?;
    desk.books(|state, now| state.finish_artifact(now, id, run, name, &upload_id))?;
    Ok(Reply::nothing())
}

fn name(call: &Call) -> Result<&str, Fault> {
    let name = call.param("name");
    match super::check::ARTIFACT_NAME.problem(name) {
        None => Ok(name),
        Some(rule) => Err(Fault::new(Code::InvalidRequestArguments, format!("an artifact name {rule}"))),
    }
}

fn new_artifact(body: &Value) -> Result<NewArtifact, Fault> {
    let mut problems = Vec::new();
    let new = Fields::of(body, "", &mut problems).and_then(|mut fields| read_artifact(&mut fields));
    new.filter(|_| problems.is_empty()).ok_or_else(|| Fault::invalid_body("createArtifact", &problems))
}

fn read_artifact(fields: &mut Fields<'_>) -> Option<NewArtifact> {
    const CONTENT_TYPE: Text = Text::up_to(255);
    let storage_type = fields.text("storageType", &Text::up_to(64))?;
    let expires = fields.date("expires");
    let (content_type, storage) = match storage_type {
        "s3" => {
            fields.only(&["storageType", "expires", "contentType", "contentLength"]);
            let content_length = fields.optional_integer("contentLength", 0..=u64::MAX);
            (fields.text("contentType", &CONTENT_TYPE), Some(Storage::S3 { content_length, stored: None }))
        }
        "object" => {
            fields.only(&["storageType", "expires", "contentType", "contentLength"]);
            let content_length = fields.optional_integer("contentLength", 0..=u64::MAX);
            // Whose it is and how it is uploaded is not for the worker to say.
            let (project_id, upload_id) = (String::new(), String::new());
            let storage = Storage::Object { project_id, upload_id, content_length, finished: false };
            (fields.text("contentType", &CONTENT_TYPE), Some(storage))
        }
        "reference" => {
            fields.only(&["storageType", "expires", "contentType", "url"]);
            let rule = Text { min: 1, max: usize::MAX, is: is_uri, shape: "a URL" };
            let url = fields.text("url", &rule).map(str::to_owned);
            (fields.text("contentType", &CONTENT_TYPE), url.map(|url| Storage::Reference { url }))
        }
        "link" => {
            fields.only(&["storageType", "expires", "contentType", "artifact"]);
            let artifact = fields.text("artifact", &Text::up_to(MOST_NAME)).map(str::to_owned);
            (fields.optional_text("contentType", &CONTENT_TYPE), artifact.map(|artifact| Storage::Link { artifact }))
        }
        "error" => {
            fields.only(&["storageType", "expires", "reason", "message"]);
            let rule = Text {
                min: 0,
                max: 64,
                is: |word| REASONS.contains(&word),
                shape: "one of the four reasons that the API knows",
            };
            let (reason, message) = (fields.text("reason", &rule), fields.text("message", &Text::up_to(4096)));
            let storage =
                reason.zip(message).map(|(reason, message)| Storage::Error { reason: reason.into(), message: message.into() });
            (None, storage)
        }
        _ => {
            fields.problem("storageType", "must be one of s3, object, reference, link, error");
            return None;
        }
    };
    Some(NewArtifact {
        content_type: content_type.unwrap_or(DEFAULT_CONTENT_TYPE).to_owned(),
        expires: expires?,
        storage: storage?,
    })
}

/// A scheme, a colon, and no character that a header could not hold.
fn is_uri(text: &str) -> bool {
    let printable = text.bytes().all(|b| (b'!'..=b'~').contains(&b));
    let scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    printable && text.split_once(':').is_some_and(|(before, after)| scheme(before) && !after.is_empty())
}

/// The run in the path, or the last one.
fn run_or_latest(desk: &Desk, call: &Call, id: TaskId) -> Result<u32, Fault> {
    if call.param("runId").is_empty() { Ok(desk.books(|state, now| state.latest_run(now, id))?) } else { call.run_id() }
}

/// The artifact that the path names, after all links. The caller needs the scope for every name on the way.
fn followed(desk: &Desk, call: &Call) -> Result<((TaskId, u32, String), Artifact), Fault> {
    let id = call.task_id()?;
    let mut names = vec![name(call)?.to_owned()];
    call.authorize(&get_need(&names))?;
    let run = run_or_latest(desk, call, id)?;
    loop {
        let name = names.last().cloned().unwrap_or_default();
        let artifact = desk.books(|state, now| state.artifact(now, id, run, &name))?;
        let Storage::Link { artifact: target } = &artifact.storage else { return Ok(((id, run, name), artifact)) };
        if names.contains(target) {
            return Err(Fault::new(Code::InputError, format!("the links of artifact \"{name}\" go round in a circle")));
        }
        names.push(target.clone());
        call.authorize(&get_need(&names))?;
    }
}

fn get_need(names: &[String]) -> Need {
    Need::all(names.iter().map(|name| format!("queue:get-artifact:{name}")))
}

/// Where its content can be fetched, if anywhere.
fn url(desk: &Desk, call: &Call, (id, run, name): &(TaskId, u32, String), artifact: &Artifact) -> Option<String> {
    match &artifact.storage {
        Storage::S3 { .. } => {
            let until = call.now.saturating_add(DOWNLOAD_TIME).unwrap_or(call.now);
            Some(desk.store.url(&call.base, Permit::Get, (*id, *run, name), until))
        }
        Storage::Reference { url } => Some(url.clone()),
        Storage::Object { finished: true, .. } => {
            let name = object_name((*id, *run, name));
            let (object, _) = object::finished(desk, &name, call.now).ok()?;
            Some(object::url(desk, &call.base, &name, &object, call.now)?.0)
        }
        Storage::Object { .. } | Storage::Link { .. } | Storage::Error { .. } => None,
    }
}

/// `getArtifact` and `getLatestArtifact`: for browsers and curl, by a redirect.
pub(crate) async fn get(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (object, artifact) = followed(&desk, &call)?;
    let kind = artifact.storage.type_name();
    let reply = match (url(&desk, &call, &object, &artifact), &artifact.storage) {
        (Some(url), _) => Reply::json(&json!({ "storageType": kind, "url": url }))
            .with_status(StatusCode::SEE_OTHER)
            .with_header(header::LOCATION, &url),
        (None, Storage::Error { reason, message }) => {
            Reply::json(&json!({ "reason": reason, "message": message })).with_status(StatusCode::FAILED_DEPENDENCY)
        }
        (None, _) => return Err(Fault::new(Code::ResourceNotFound, format!("artifact \"{}\" has no content", object.2))),
    };
    Ok(reply.with_header(STORAGE_TYPE, kind))
}

/// `artifact` and `latestArtifact`: for API clients, without a redirect.
pub(crate) async fn content(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (object, artifact) = followed(&desk, &call)?;
    let kind = artifact.storage.type_name();
    if let Storage::Object { finished: true, .. } = artifact.storage {
        let name = object_name((object.0, object.1, &object.2));
        let credentials = object_credentials(&desk, call.now, &name, format!("object:download:{name}"));
        return Ok(Reply::json(&json!({ "storageType": kind, "name": name, "credentials": credentials })));
    }
    match (url(&desk, &call, &object, &artifact), &artifact.storage) {
        (Some(url), _) => Ok(Reply::json(&json!({ "storageType": kind, "url": url }))),
        (None, Storage::Error { reason, message }) => {
            Ok(Reply::json(&json!({ "storageType": kind, "reason": reason, "message": message })))
        }
        (None, _) => Err(Fault::new(Code::ResourceNotFound, format!("artifact \"{}\" has no content", object.2))),
    }
}

/// `artifactInfo` and `latestArtifactInfo`
pub(crate) async fn info(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = call.task_id()?;
    call.authorize(&list_need(&call, id))?;
    let run = run_or_latest(&desk, &call, id)?;
    let name = name(&call)?;
    let artifact = desk.books(|state, now| state.artifact(now, id, run, name))?;
    Ok(Reply::json(&ArtifactView::new(name, &artifact)))
}

fn list_need(call: &Call, id: TaskId) -> Need {
    match call.param("runId") {
        "" => Need::scope(format!("queue:list-artifacts:{id}")),
        run => Need::scope(format!("queue:list-artifacts:{id}:{run}")),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    artifacts: Vec<ArtifactView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_token: Option<String>,
}

/// `listArtifacts` and `listLatestArtifacts`. The token is the last name of the page before.
pub(crate) async fn list(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = call.task_id()?;
    call.authorize(&list_need(&call, id))?;
    let run = run_or_latest(&desk, &call, id)?;
    let limit = call.limit()?;
    let after = call.query("continuationToken").map(|token| decode_token(&token)).transpose()?;
    let mut artifacts = desk.books(|state, now| state.artifacts(now, id, run, after.as_deref(), limit + 1))?;
    let more = artifacts.len() > limit;
    artifacts.truncate(limit);
    let continuation_token = artifacts.last().filter(|_| more).map(|(name, _)| BASE64_URL_SAFE_NO_PAD.encode(name));
    let artifacts = artifacts.iter().map(|(name, artifact)| ArtifactView::new(name, artifact)).collect();
    Ok(Reply::json(&Page { artifacts, continuation_token }))
}

fn decode_token(token: &str) -> Result<String, Fault> {
    let name = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    name.ok_or_else(|| {
        Fault::new(Code::InvalidRequestArguments, format!("continuationToken `{token}` was not made by this call"))
    })
}
