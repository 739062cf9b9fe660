//! Calls that upload.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{Object, bytes, is_object_name};
use crate::local::{
    auth::Need,
    check::{Fields, PROJECT_ID, TASK_ID, Text},
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    reply::Reply,
    state::TaskId,
    store::Permit,
    view::Date,
};

/// How long a URL for an upload is valid.
const URL_TIME: SignedDuration = SignedDuration::from_mins(45);
/// Bytes that may come within the call, and as many characters of base64 make them up.
const INLINE_BYTES: usize = 8192;
const INLINE_CHARS: usize = 10_926;
/// Largest object.
const MOST_BYTES: u64 = 5 << 40;
/// Most digests that are stated.
const MOST_HASHES: usize = 16;

/// The object's name in the path.
pub(super) fn name(call: &Call) -> Result<&str, Fault> {
    let name = call.param("name");
    is_object_name(name).then_some(name).ok_or_else(|| {
        Fault::new(Code::InvalidRequestArguments, "an object's name must have 1 to 2048 characters of printable ASCII")
    })
}

enum Method {
    Inline { content_type: String, data: Vec<u8> },
    PutUrl { content_type: String, bytes: u64 },
}

struct Asked {
    project_id: String,
    upload_id: TaskId,
    expires: Timestamp,
    hashes: Map<String, Value>,
    method: Option<Method>,
}

fn hashes(fields: &mut Fields<'_>) -> Map<String, Value> {
    let mut hashes = Map::new();
    fields.inner("hashes", |inner| {
        let stated: Vec<_> = inner.entries().map(|(name, value)| (name.clone(), value.clone())).collect();
        if stated.len() > MOST_HASHES {
            inner.problem("", format!("must have at most {MOST_HASHES} entries"));
        }
        for (name, value) in stated {
            let digits = match &*name {
                "sha256" => Some(64),
                "sha512" => Some(128),
                _ => None,
            };
            let shaped = |text: &str| match digits {
                Some(digits) => text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()),
                None => text.len() <= 1024,
            };
            if value.as_str().is_some_and(shaped) {
                hashes.insert(name, value);
            } else {
                inner.problem(&name, "must be a digest in lower-case hexadecimal of the right length");
            }
        }
    });
    hashes
}

fn method(fields: &mut Fields<'_>) -> Option<Method> {
    const CONTENT_TYPE: Text =
        Text { min: 1, max: 255, is: |text| text.bytes().all(|b| (b' '..=b'~').contains(&b)), shape: "printable ASCII" };
    let (mut inline, mut put_url) = (None, None);
    fields.required("proposedUploadMethods");
    fields.inner("proposedUploadMethods", |methods| {
        methods.only(&["dataInline", "putUrl"]);
        methods.inner("dataInline", |method| {
            method.only(&["contentType", "objectData"]);
            let content_type = method.text("contentType", &CONTENT_TYPE).map(str::to_owned);
            let data = method.text("objectData", &Text::up_to(INLINE_CHARS));
            let decoded = data.and_then(|data| BASE64_STANDARD.decode(data).ok()).filter(|data| data.len() <= INLINE_BYTES);
            if data.is_some() && decoded.is_none() {
                method.problem("objectData", format!("must be base64 of up to {INLINE_BYTES} bytes"));
            }
            inline = content_type.zip(decoded).map(|(content_type, data)| Method::Inline { content_type, data });
        });
        methods.inner("putUrl", |method| {
            method.only(&["contentType", "contentLength"]);
            let content_type = method.text("contentType", &CONTENT_TYPE).map(str::to_owned);
            method.required("contentLength");
            let bytes = method.optional_integer("contentLength", 0..=MOST_BYTES);
            put_url = content_type.zip(bytes).map(|(content_type, bytes)| Method::PutUrl { content_type, bytes });
        });
    });
    inline.or(put_url)
}

fn read(body: &Value) -> Result<Asked, Fault> {
    let mut problems = Vec::new();
    let upload = Fields::of(body, "", &mut problems).and_then(|mut fields| {
        fields.only(&["projectId", "uploadId", "expires", "hashes", "proposedUploadMethods"]);
        let project_id = fields.text("projectId", &PROJECT_ID).map(str::to_owned);
        let upload_id = fields.text("uploadId", &TASK_ID).and_then(TaskId::parse);
        let expires = fields.date("expires");
        let (hashes, method) = (hashes(&mut fields), method(&mut fields));
        Some(Asked { project_id: project_id?, upload_id: upload_id?, expires: expires?, hashes, method })
    });
    upload.filter(|_| problems.is_empty()).ok_or_else(|| Fault::invalid_body("createUpload", &problems))
}

/// `createUpload`. Repeating it renews the URL; it is also how an uploader tries another method.
pub(crate) async fn create_upload(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let name = name(&call)?;
    let upload = read(&call.body)?;
    call.authorize(&Need::scope(format!("object:upload:{}:{name}", upload.project_id)))?;
    if upload.expires <= call.now {
        return Err(Fault::new(Code::InputError, format!("the object would expire in the past, at {:.3}", upload.expires)));
    }
    desk.objects.change(name, |place| open(place, name, &upload, call.now))?;
    let answer = |method: Value| {
        Reply::json(&json!({
            "projectId": upload.project_id, "uploadId": upload.upload_id.as_str(), "expires": Date(upload.expires),
            "uploadMethod": method,
        }))
    };
    Ok(match upload.method {
        None => answer(json!({})),
        Some(Method::Inline { ref content_type, ref data }) => {
            bytes::keep_inline(&desk, name, upload.upload_id, content_type, data).await?;
            answer(json!({ "dataInline": true }))
        }
        Some(Method::PutUrl { ref content_type, bytes }) => {
            let until = call.now.saturating_add(URL_TIME).unwrap_or(call.now);
            let url = desk.store.url(&call.base, Permit::PutObject { content_type, bytes }, (upload.upload_id, 0, name), until);
            let headers = json!({ "Content-Type": content_type, "Content-Length": bytes.to_string() });
            answer(json!({ "putUrl": { "url": url, "expires": Date(until), "headers": headers } }))
        }
    })
}

fn open(place: &mut Option<Object>, name: &str, upload: &Asked, now: Timestamp) -> Result<(), Fault> {
    let conflict = |what: &str| Err(Fault::new(Code::RequestConflict, format!("object \"{name}\" {what}")));
    if let Some(known) = place.as_mut().filter(|known| !known.is_over(now)) {
        if known.finished {
            return conflict("exists already");
        }
        if known.upload_id != upload.upload_id.as_str() {
            return conflict("is being uploaded with another uploadId");
        }
        if (&known.project_id, known.expires) != (&upload.project_id, upload.expires) {
            return conflict("is being uploaded with another projectId or another date of expiry");
        }
        return known.state(&upload.hashes);
    }
    *place = Some(Object {
        project_id: upload.project_id.clone(),
        upload_id: upload.upload_id.as_str().to_owned(),
        expires: upload.expires,
        created: now,
        hashes: upload.hashes.clone(),
        stored: None,
        finished: false,
    });
    Ok(())
}

/// `finishUpload`
pub(crate) async fn finish_upload(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let name = name(&call)?;
    let mut problems = Vec::new();
    let read = Fields::of(&call.body, "", &mut problems).and_then(|mut fields| {
        fields.only(&["projectId", "uploadId", "hashes"]);
        let (project_id, upload_id) = (fields.text("projectId", &PROJECT_ID), fields.text("uploadId", &TASK_ID));
        let hashes = hashes(&mut fields);
        Some((project_id?.to_owned(), upload_id?.to_owned(), hashes))
    });
    let Some((project_id, upload_id, hashes)) = read.filter(|_| problems.is_empty()) else {
        return Err(Fault::invalid_body("finishUpload", &problems));
    };
    call.authorize(&Need::scope(format!("object:upload:{project_id}:{name}")))?;
    desk.objects.change(name, |place| {
        let object = place.as_mut().filter(|object| !object.is_over(call.now));
        let missing = || Fault::new(Code::ResourceNotFound, format!("object \"{name}\" does not exist"));
        finish(object.ok_or_else(missing)?, name, &project_id, &upload_id, &hashes)
    })?;
    Ok(Reply::json(&json!({})))
}

fn finish(
    object: &mut Object,
    name: &str,
    project_id: &str,
    upload_id: &str,
    hashes: &Map<String, Value>,
) -> Result<(), Fault> {
    let input = |what: String| Err(Fault::new(Code::InputError, format!("object \"{name}\" {what}")));
    if object.project_id != project_id {
        return input("belongs to another project".to_owned());
    }
    if object.upload_id != upload_id {
        let message = format!("object \"{name}\" is being uploaded with another uploadId");
        return Err(Fault::new(Code::RequestConflict, message));
    }
    let Some(kept) = object.stored.clone() else { return input("cannot be finished: no bytes have arrived".to_owned()) };
    object.state(hashes)?;
    for (algorithm, found) in [("sha256", &kept.sha256), ("sha512", &kept.sha512)] {
        if object.hashes.get(algorithm).is_some_and(|stated| stated != found) {
            return input(format!("has other bytes than stated: their {algorithm} is {found}"));
        }
    }
    object.finished = true;
    Ok(())
}
