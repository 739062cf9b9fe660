//! Calls that download.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Object, call::name, finished};
use crate::local::{
    auth::Need,
    check::Fields,
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    reply::Reply,
    state::TaskId,
    store::Permit,
    view::Date,
};

/// How long a URL for a download is valid.
const URL_TIME: SignedDuration = SignedDuration::from_mins(30);

/// A URL for the object's bytes, and until when it is valid. None for an object whose upload id is none, which cannot have been made.
pub(crate) fn url(desk: &Desk, base: &str, name: &str, object: &Object, now: Timestamp) -> Option<(String, Timestamp)> {
    let until = now.saturating_add(URL_TIME).unwrap_or(now);
    let upload_id = TaskId::parse(&object.upload_id)?;
    Some((desk.store.url(base, Permit::GetObject, (upload_id, 0, name), until), until))
}

fn found_url(desk: &Desk, call: &Call, name: &str) -> Result<(Object, String, Timestamp), Fault> {
    let (object, _) = finished(desk, name, call.now)?;
    let missing = || Fault::new(Code::ResourceNotFound, format!("object \"{name}\" does not exist"));
    let (url, until) = url(desk, &call.base, name, &object, call.now).ok_or_else(missing)?;
    Ok((object, url, until))
}

/// `startDownload`. A URL with hashes is better than one without.
pub(crate) async fn start_download(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let name = name(&call)?;
    let mut problems = Vec::new();
    let (mut simple, mut get_url) = (false, false);
    if let Some(mut fields) = Fields::of(&call.body, "", &mut problems) {
        fields.only(&["acceptDownloadMethods"]);
        fields.required("acceptDownloadMethods");
        fields.inner("acceptDownloadMethods", |methods| {
            methods.only(&["simple", "getUrl"]);
            for (method, accepted) in [("simple", &mut simple), ("getUrl", &mut get_url)] {
                *accepted = methods.optional(method).is_some();
                if methods.optional(method).is_some_and(|value| value != true) {
                    methods.problem(method, "must be true");
                }
            }
        });
    }
    if !problems.is_empty() {
        return Err(Fault::invalid_body("startDownload", &problems));
    }
    call.authorize(&Need::scope(format!("object:download:{name}")))?;
    let (object, url, until) = found_url(&desk, &call, name)?;
    if get_url {
        let hashes = object.known_hashes();
        return Ok(Reply::json(&json!({ "method": "getUrl", "url": url, "expires": Date(until), "hashes": hashes })));
    }
    if simple {
        return Ok(Reply::json(&json!({ "method": "simple", "url": url })));
    }
    Err(Fault::new(
        Code::NoMatchingMethod,
        "objects can be downloaded with the methods `getUrl` and `simple`; neither is accepted",
    ))
}

/// `object`
pub(crate) async fn metadata(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let name = name(&call)?;
    call.authorize(&Need::scope(format!("object:download:{name}")))?;
    let (object, _) = finished(&desk, name, call.now)?;
    let hashes = object.known_hashes();
    Ok(Reply::json(&json!({ "projectId": object.project_id, "expires": Date(object.expires), "hashes": hashes })))
}

/// `download`
pub(crate) async fn download(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let name = name(&call)?;
    call.authorize(&Need::scope(format!("object:download:{name}")))?;
    let (_, url, _) = found_url(&desk, &call, name)?;
    Ok(Reply::see_other(&url))
}
