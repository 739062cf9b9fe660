//! The bytes of objects: inline in a call, or by a signed URL.

use std::{fmt::Write as _, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256, SHA512};
use axum::{
    body::Body,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tempfile::TempPath;
use tokio::io::AsyncWriteExt as _;

use super::{Kept, finished};
use crate::local::{
    desk::Desk,
    fault::{Code, Fault},
    state::{Stored, TaskId},
    store::Permit,
    transfer::{StoreError, respond, write_all},
};

/// Digests of what goes by.
struct Digests {
    sha256: Context,
    sha512: Context,
}

impl Digests {
    fn new() -> Self {
        Self { sha256: Context::new(&SHA256), sha512: Context::new(&SHA512) }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.sha512.update(bytes);
    }

    fn kept(self, file: &std::path::Path, bytes: u64, content_type: &str) -> Kept {
        let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Kept {
            file,
            bytes,
            content_type: content_type.to_owned(),
            sha256: hex(self.sha256.finish().as_ref()),
            sha512: hex(self.sha512.finish().as_ref()),
        }
    }
}

/// The bytes in hexadecimal.
pub(in crate::local) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A new file for an upload. Its name says whose it is, and is never that of another one.
fn new_file(desk: &Desk, upload_id: TaskId) -> std::io::Result<(tokio::fs::File, TempPath)> {
    let dir = desk.store.objects_dir();
    fs_err::create_dir_all(&dir)?;
    let (file, path) = tempfile::Builder::new().prefix(&format!("{upload_id}-")).tempfile_in(dir)?.into_parts();
    Ok((tokio::fs::File::from_std(file), path))
}

/// Takes over a file as the object's bytes, in the place of an earlier upload.
fn take(desk: &Desk, name: &str, upload_id: TaskId, path: TempPath, kept: Kept) -> Result<(), Fault> {
    let replaced = desk.objects.change(name, |place| match place {
        Some(object) if object.upload_id == upload_id.as_str() && !object.finished => Ok(object.stored.replace(kept)),
        _ => Err(Fault::new(Code::RequestConflict, format!("object \"{name}\" takes no upload with this uploadId any more"))),
    })?;
    if let Some(replaced) = replaced {
        let _ = fs_err::remove_file(desk.store.objects_dir().join(replaced.file));
    }
    // The file stays; only now is it known to belong to an object.
    path.keep().map(drop).map_err(|error| internal(&error.error))
}

fn internal(error: &std::io::Error) -> Fault {
    Fault::new(Code::InternalServerError, format!("store the upload: {error}"))
}

/// Keeps bytes that came within a call.
pub(super) async fn keep_inline(
    desk: &Desk,
    name: &str,
    upload_id: TaskId,
    content_type: &str,
    data: &[u8],
) -> Result<(), Fault> {
    let (mut file, path) = new_file(desk, upload_id).map_err(|error| internal(&error))?;
    let written = async {
        file.write_all(data).await?;
        file.flush().await
    };
    written.await.map_err(|error| internal(&error))?;
    let mut digests = Digests::new();
    digests.update(data);
    let kept = digests.kept(&path, data.len() as u64, content_type);
    take(desk, name, upload_id, path, kept)
}

type Named = (String, String);

fn object((upload_id, name): Named) -> Result<(TaskId, String), StoreError> {
    let missing = || StoreError::new(StatusCode::NOT_FOUND, "NoSuchKey", "there is no such object");
    Ok((TaskId::parse(&upload_id).ok_or_else(missing)?, name))
}

/// `PUT`: exactly as many bytes as were declared.
pub(crate) async fn put(
    State(desk): State<Arc<Desk>>,
    uri: Uri,
    Path(path): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let stored = async {
        let (upload_id, name) = object(path)?;
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
        let bytes = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()).ok_or_else(|| {
            StoreError::new(StatusCode::LENGTH_REQUIRED, "MissingContentLength", "the upload must have a Content-Length")
        })?;
        // The length is part of what was signed: another one than declared is refused before its first byte.
        let permit = Permit::PutObject { content_type, bytes };
        desk.store.check(permit, (upload_id, 0, &name), uri.query().unwrap_or_default(), desk.now())?;
        receive(&desk, &name, upload_id, body, (content_type, bytes)).await
    };
    match stored.await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => error.into_response(),
    }
}

async fn receive(
    desk: &Desk,
    name: &str,
    upload_id: TaskId,
    body: Body,
    (content_type, length): (&str, u64),
) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| StoreError::internal("store the upload", &error);
    let (mut file, path) = new_file(desk, upload_id).map_err(failed)?;
    let mut digests = Digests::new();
    let received = write_all(&mut file, body, |chunk| digests.update(chunk)).await?;
    file.flush().await.map_err(failed)?;
    if received != length {
        let message = format!("{received} bytes arrived, Content-Length said {length}");
        return Err(StoreError::new(StatusCode::BAD_REQUEST, "IncompleteBody", message));
    }
    let kept = digests.kept(&path, received, content_type);
    take(desk, name, upload_id, path, kept)
        .map_err(|fault| StoreError::new(StatusCode::CONFLICT, "OperationAborted", fault.message))?;
    let kept = desk.ledger.settled().await;
    kept.map_err(|why| StoreError::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", why.to_string()))
}

/// `GET` and `HEAD`
pub(crate) async fn get(State(desk): State<Arc<Desk>>, uri: Uri, Path(path): Path<Named>, headers: HeaderMap) -> Response {
    let found = async {
        let (upload_id, name) = object(path)?;
        let now = desk.now();
        desk.store.check(Permit::GetObject, (upload_id, 0, &name), uri.query().unwrap_or_default(), now)?;
        let (_, kept) =
            finished(&desk, &name, now).map_err(|fault| StoreError::new(StatusCode::NOT_FOUND, "NoSuchKey", fault.message))?;
        let path = desk.store.objects_dir().join(&kept.file);
        let file = tokio::fs::File::open(&path).await.map_err(|e| StoreError::internal("read the stored object", &e))?;
        respond(&kept.content_type, &Stored { path, bytes: kept.bytes, content_encoding: None }, file, &headers).await
    };
    found.await.unwrap_or_else(StoreError::into_response)
}
