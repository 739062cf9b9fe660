//! Uploads to and downloads from the store, by signed URL. Memory stays bounded whatever the size; an upload counts only once it is whole.

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::{
    desk::Desk,
    state::{Refusal, Storage, Stored, TaskId},
    store::{Denied, Permit},
};

/// How long an upload may stand still.
const STALL: Duration = Duration::from_secs(120);
/// Bytes read from a file at once.
const READ_BYTES: usize = 128 * 1024;

type Object = (TaskId, u32, String);

/// An answer as object stores give it.
pub(crate) struct StoreError(StatusCode, &'static str, String);

impl StoreError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self(status, code, message.into())
    }

    pub(crate) fn internal(doing: &str, error: &io::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", format!("{doing}: {error}"))
    }

    pub(crate) fn into_response(self) -> Response {
        let Self(status, code, message) = self;
        let message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
    }
}

impl From<Denied> for StoreError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Expired => Self::new(StatusCode::FORBIDDEN, "AccessDenied", "the URL has expired"),
            Denied::Signature => Self::new(
                StatusCode::FORBIDDEN,
                "SignatureDoesNotMatch",
                "the URL was not made for this method, object, content type and date",
            ),
        }
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchKey", refusal.to_string())
    }
}

fn object((task, run, name): (String, String, String)) -> Result<Object, StoreError> {
    let parsed = TaskId::parse(&task).zip(run.parse().ok()).map(|(task, run)| (task, run, name));
    parsed.ok_or_else(|| StoreError::new(StatusCode::NOT_FOUND, "NoSuchKey", "there is no such object"))
}

/// `PUT`
pub(crate) async fn put(
    State(desk): State<Arc<Desk>>,
    uri: Uri,
    Path(path): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let stored = async {
        let object = object(path)?;
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let permit = Permit::Put { content_type: text(header::CONTENT_TYPE).unwrap_or_default() };
        desk.store.check(permit, (object.0, object.1, &object.2), uri.query().unwrap_or_default(), desk.now())?;
        let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()).ok_or_else(|| {
            StoreError::new(StatusCode::LENGTH_REQUIRED, "MissingContentLength", "the upload must have a Content-Length")
        })?;
        let content_encoding = text(header::CONTENT_ENCODING).map(str::to_owned);
        receive(&desk, &object, body, length, content_encoding).await
    };
    match stored.await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => error.into_response(),
    }
}

async fn receive(
    desk: &Desk,
    object: &Object,
    body: Body,
    length: u64,
    content_encoding: Option<String>,
) -> Result<(), StoreError> {
    let (task, run, name) = object;
    // Refused early: an artifact that is gone, or of another kind by now.
    let known = desk.books(|state, now| state.artifact(now, *task, *run, name))?;
    if !matches!(known.storage, Storage::S3 { .. }) {
        return Err(StoreError::new(StatusCode::NOT_FOUND, "NoSuchKey", "this artifact has no content of its own"));
    }
    let failed = |error: io::Error| StoreError::internal("store the upload", &error);
    let partial = tempfile::Builder::new().prefix(".upload-").tempfile_in(desk.store.dir()).map_err(failed)?;
    let (file, partial) = partial.into_parts();
    let mut file = tokio::fs::File::from_std(file);
    let received = write_all(&mut file, body, |_| ()).await?;
    file.flush().await.map_err(failed)?;
    if received != length {
        return Err(StoreError::new(
            StatusCode::BAD_REQUEST,
            "IncompleteBody",
            format!("{received} bytes arrived, Content-Length said {length}"),
        ));
    }
    let path = desk.store.new_path(*task, *run);
    partial.persist(&path).map_err(|error| failed(error.error))?;
    Ok(desk.books(|state, now| state.stored(now, *task, *run, name, Stored { path, bytes: received, content_encoding }))?)
}

/// Writes a body to a file and shows each piece to `seen`. Returns how many bytes it had.
pub(crate) async fn write_all(file: &mut tokio::fs::File, body: Body, mut seen: impl FnMut(&[u8])) -> Result<u64, StoreError> {
    let mut chunks = body.into_data_stream();
    let mut received = 0;
    loop {
        let chunk: Bytes = match tokio::time::timeout(STALL, chunks.next()).await {
            Ok(None) => return Ok(received),
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(_))) => {
                return Err(StoreError::new(
                    StatusCode::BAD_REQUEST,
                    "IncompleteBody",
                    format!("the upload ended after {received} bytes"),
                ));
            }
            Err(_) => {
                return Err(StoreError::new(
                    StatusCode::BAD_REQUEST,
                    "RequestTimeout",
                    format!("no byte in {} s", STALL.as_secs()),
                ));
            }
        };
        seen(&chunk);
        file.write_all(&chunk).await.map_err(|error| StoreError::internal("store the upload", &error))?;
        received += chunk.len() as u64;
    }
}

/// `GET` and `HEAD`
pub(crate) async fn get(
    State(desk): State<Arc<Desk>>,
    uri: Uri,
    Path(path): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let found = async {
        let object = object(path)?;
        desk.store.check(Permit::Get, (object.0, object.1, &object.2), uri.query().unwrap_or_default(), desk.now())?;
        send(&desk, &object, &headers).await
    };
    found.await.unwrap_or_else(StoreError::into_response)
}

async fn send(desk: &Desk, object: &Object, asked: &HeaderMap) -> Result<Response, StoreError> {
    let (content_type, stored, file) = open(desk, object).await?;
    respond(&content_type, &stored, file, asked).await
}

/// The file, or the rest of it that is asked for.
pub(crate) async fn respond(
    content_type: &str,
    stored: &Stored,
    mut file: tokio::fs::File,
    asked: &HeaderMap,
) -> Result<Response, StoreError> {
    // Every upload has a file name of its own.
    let etag = format!("\"{}\"", stored.path.file_name().unwrap_or_default().to_string_lossy());
    let from = match first_byte(asked, &etag) {
        None => 0,
        Some(from) if from < stored.bytes => {
            file.seek(io::SeekFrom::Start(from)).await.map_err(|e| StoreError::internal("read the stored object", &e))?;
            from
        }
        Some(_) => {
            let message = format!("the object has {} bytes", stored.bytes);
            let refusal = StoreError::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message);
            let range = [(header::CONTENT_RANGE, format!("bytes */{}", stored.bytes))];
            return Ok((range, refusal.into_response()).into_response());
        }
    };
    let mut response = Response::new(Body::from_stream(ReaderStream::with_capacity(file, READ_BYTES)));
    if from > 0 {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, (stored.bytes - from).into());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let mut set = |name, value: &str| HeaderValue::from_str(value).map(|value| headers.insert(name, value));
    // A content type that no header can hold was never signed into an upload that succeeded.
    let _ = set(header::CONTENT_TYPE, content_type);
    let _ = set(header::ETAG, &etag);
    if from > 0 {
        let _ = set(header::CONTENT_RANGE, &format!("bytes {from}-{}/{}", stored.bytes - 1, stored.bytes));
    }
    if let Some(encoding) = &stored.content_encoding {
        let _ = set(header::CONTENT_ENCODING, encoding);
    }
    Ok(response)
}

/// Where the rest begins that is asked for, if it is the rest of this version. Other kinds of ranges get the whole, as HTTP
/// allows.
fn first_byte(asked: &HeaderMap, etag: &str) -> Option<u64> {
    let text = |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|version| version != etag) {
        return None;
    }
    text(header::RANGE)?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok().filter(|from| *from > 0)
}

/// The file that holds the object now. It may be replaced between looking it up and opening it, and then there is a newer one.
async fn open(desk: &Desk, (task, run, name): &Object) -> Result<(String, Stored, tokio::fs::File), StoreError> {
    let mut last = None;
    loop {
        let artifact = desk.books(|state, now| state.artifact(now, *task, *run, name))?;
        let Storage::S3 { stored: Some(stored), .. } = artifact.storage else {
            return Err(StoreError::new(StatusCode::NOT_FOUND, "NoSuchKey", "nothing was uploaded yet"));
        };
        match tokio::fs::File::open(&stored.path).await {
            Ok(file) => return Ok((artifact.content_type, stored, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && last.as_ref() != Some(&stored.path) => {
                last = Some(stored.path);
            }
            Err(error) => return Err(StoreError::internal("read the stored object", &error)),
        }
    }
}
