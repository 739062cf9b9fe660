//! What every API call has in common: who calls, what was sent, and answers in the services' format.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse as _, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use hawk::PayloadHasher;
use http::{HeaderMap, Method, Request, Uri, header};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    auth::{Caller, Clients, Need, Signed, Unanswered},
    check::Text,
    desk::Desk,
    fault::{Code, Fault},
    faults,
    reply::Reply,
    state::TaskId,
};

/// Runs of a task are numbered up to this.
const LAST_RUN: u32 = 1000;
/// Entries on a page, unless fewer are asked for.
const PAGE: usize = 1000;

/// A call.
pub(crate) struct Call {
    params: Vec<(String, String)>,
    query: String,
    caller: Caller,
    pub(crate) body: Value,
    pub(crate) now: Timestamp,
    /// The root URL by which the caller reached us.
    pub(crate) base: String,
    request: AsSigned,
}

/// What a signature covers, kept for calls that verify it themselves.
struct AsSigned {
    method: Method,
    resource: String,
    host: String,
    port: u16,
    authorization: Option<String>,
}

impl Call {
    /// Who calls.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The request as it was signed.
    pub(crate) fn signed(&self) -> Signed<'_> {
        let AsSigned { method, resource, host, port, authorization } = &self.request;
        Signed { method: method.as_str(), resource, host, port: *port, authorization: authorization.as_deref() }
    }

    /// Refuses the call unless the caller has what it needs.
    pub(crate) fn authorize(&self, need: &Need) -> Result<(), Fault> {
        match need.missing(&|scope: &str| self.caller.has(scope)) {
            None => Ok(()),
            Some(missing) => Err(Fault::insufficient_scopes(&self.caller, need, &missing)),
        }
    }

    /// A part of the path, decoded.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The same call with another part of the path.
    pub(crate) fn with_param(mut self, name: &str, value: &str) -> Self {
        self.params.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The task in the path.
    pub(crate) fn task_id(&self) -> Result<TaskId, Fault> {
        let text = self.param("taskId");
        TaskId::parse(text).ok_or_else(|| {
            Fault::new(Code::InvalidRequestArguments, format!("taskId `{text}` must be a slugid of 22 characters"))
        })
    }

    /// A part of the path that is a name of this kind.
    pub(crate) fn word(&self, name: &str, rule: &Text) -> Result<&str, Fault> {
        let text = self.param(name);
        match rule.problem(text) {
            Some(problem) => Err(Fault::new(Code::InvalidRequestArguments, format!("{name} `{text}` {problem}"))),
            None => Ok(text),
        }
    }

    /// The run in the path.
    pub(crate) fn run_id(&self) -> Result<u32, Fault> {
        let text = self.param("runId");
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|text| text.parse().ok()).filter(|run| *run <= LAST_RUN).ok_or_else(|| {
            Fault::new(Code::InvalidRequestArguments, format!("runId `{text}` must be a number from 0 to {LAST_RUN}"))
        })
    }

    /// A parameter of the query, decoded.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (known, value) = pair.split_once('=')?;
            let value = value.replace('+', " ");
            (known == name).then(|| percent_encoding::percent_decode_str(&value).decode_utf8_lossy().into_owned())
        })
    }

    /// How many entries the caller wants on a page.
    pub(crate) fn limit(&self) -> Result<usize, Fault> {
        let Some(text) = self.query("limit") else { return Ok(PAGE) };
        text.parse()
            .ok()
            .filter(|limit| *limit > 0)
            .map(|limit: usize| limit.min(PAGE))
            .ok_or_else(|| Fault::new(Code::InvalidRequestArguments, format!("limit `{text}` must be a positive number")))
    }
}

/// A route: checks who calls, reads the body, calls `handler`, and answers.
pub(crate) fn endpoint<F, Fut>(filter: MethodFilter, method: &'static str, handler: F) -> MethodRouter<Arc<Desk>>
where
    F: Fn(Arc<Desk>, Call) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Fault>> + Send + 'static,
{
    route(filter, Kind { method, authenticate: Clients::authenticate, changes: true }, handler)
}

/// A route that changes nothing although its calls have a body, so that its answers wait for nothing.
pub(crate) fn question<F, Fut>(filter: MethodFilter, method: &'static str, handler: F) -> MethodRouter<Arc<Desk>>
where
    F: Fn(Arc<Desk>, Call) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Fault>> + Send + 'static,
{
    route(filter, Kind { method, authenticate: Clients::authenticate, changes: false }, handler)
}

/// The same for everybody: its handler finds out itself who calls, and to everything else the caller is nobody.
pub(crate) fn open_question<F, Fut>(filter: MethodFilter, method: &'static str, handler: F) -> MethodRouter<Arc<Desk>>
where
    F: Fn(Arc<Desk>, Call) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Fault>> + Send + 'static,
{
    route(filter, Kind { method, authenticate: |clients, now, _| Ok(clients.nobody(now)), changes: false }, handler)
}

/// Finds out who calls.
type Authenticate = fn(&Clients, Timestamp, Signed<'_>) -> Result<Caller, String>;

/// What a route is.
#[derive(Clone, Copy)]
struct Kind {
    /// Its name in the services' references.
    method: &'static str,
    authenticate: Authenticate,
    /// Whether calls other than GET may change something.
    changes: bool,
}

fn route<F, Fut>(filter: MethodFilter, kind: Kind, handler: F) -> MethodRouter<Arc<Desk>>
where
    F: Fn(Arc<Desk>, Call) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Fault>> + Send + 'static,
{
    on(
        filter,
        move |State(desk): State<Arc<Desk>>,
              uri: Uri,
              params: Result<Path<Vec<(String, String)>>, PathRejection>,
              request: Request<Body>| {
            let handler = handler.clone();
            async move {
                let call = |request| answer(kind, desk.clone(), &uri, params, request, handler);
                faults::around(&desk, kind.method, request, call).await
            }
        },
    )
}

async fn answer<F, Fut>(
    kind: Kind,
    desk: Arc<Desk>,
    uri: &Uri,
    params: Result<Path<Vec<(String, String)>>, PathRejection>,
    request: Request<Body>,
    handler: F,
) -> Response
where
    F: Fn(Arc<Desk>, Call) -> Fut + Send,
    Fut: Future<Output = Result<Reply, Fault>> + Send,
{
    let (now, method) = (desk.now(), kind.method);
    let (head, body) = request.into_parts();
    let Ok(Path(params)) = params else { return refuse(method, "the path is not UTF-8", now) };
    let Some((host, port)) = reached_by(&head.headers, uri, desk.scheme) else {
        return refuse(method, "the Host header is missing", now);
    };
    let authorization = match head.headers.get(header::AUTHORIZATION).map(|value| value.to_str()) {
        Some(Ok(text)) => Some(text),
        Some(Err(_)) => return refuse(method, "the authorization header is not ASCII", now),
        None => None,
    };
    let resource = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let signed = Signed { method: head.method.as_str(), resource, host: &host, port, authorization };
    let caller = match (kind.authenticate)(&desk.clients, now, signed) {
        Ok(caller) => caller,
        Err(why) => return Fault::new(Code::AuthenticationFailed, why).reply(method, &params, None, now).into_response(),
    };
    let text = match desk.bodies.receive(body, caller.client_id().is_some(), &desk.closing).await {
        Ok(text) => text,
        Err(fault) => return fault.reply(method, &params, None, now).into_response(),
    };
    let bytes = &text.bytes;
    let refused = |fault: Fault, params: &[(String, String)]| fault.reply(method, params, Some(bytes), now).into_response();
    if let Err(fault) = check_hash(&caller, &head.headers, bytes) {
        return refused(fault, &params);
    }
    let (body, _room) = match desk.bodies.parse(bytes).await {
        Ok(body) => body,
        Err(fault) => return refused(fault, &params),
    };
    let base = base_url(desk.scheme, &host, port);
    // Reads wait for nothing; what they show may not be durable yet, but whoever changed it has not been answered either.
    let changes = kind.changes && !matches!(head.method, Method::GET | Method::HEAD);
    if changes && let Err(why) = desk.ledger.room().await {
        return refused(why.into(), &params);
    }
    let unanswered = head.extensions.get::<Unanswered>().is_some();
    let receipt = match desk.clients.receipt(&caller, now).await {
        Ok(receipt) => receipt,
        Err(replayed) => return refused(Fault::new(Code::AuthenticationFailed, replayed.to_string()), &params),
    };
    let request = AsSigned {
        method: head.method,
        resource: resource.to_owned(),
        host,
        port,
        authorization: authorization.map(str::to_owned),
    };
    let query = uri.query().unwrap_or_default().to_owned();
    let call = Call { params: params.clone(), query, caller, body, now, base, request };
    let result = handler(desk.clone(), call).await;
    if changes && let Err(why) = desk.ledger.settled().await {
        return refused(why.into(), &params);
    }
    let reply = match result {
        Ok(reply) => reply,
        Err(fault) => fault.reply(method, &params, Some(bytes), now),
    };
    reply.with_receipt(receipt.filter(|_| !unanswered)).into_response()
}

fn refuse(method: &str, why: &str, now: Timestamp) -> Response {
    Fault::new(Code::InvalidRequestArguments, why).reply(method, &[], None, now).into_response()
}

/// Host and port by which the caller reached us: what it signed.
pub(crate) fn reached_by(headers: &HeaderMap, uri: &Uri, scheme: &str) -> Option<(String, u16)> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(http::uri::Authority::as_str))?;
    let authority: http::uri::Authority = host.parse().ok()?;
    let default = if scheme == "https" { 443 } else { 80 };
    Some((authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(default)))
}

/// The root URL for that host and port.
pub(crate) fn base_url(scheme: &str, host: &str, port: u16) -> String {
    match (scheme, port) {
        ("http", 80) | ("https", 443) => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{host}:{port}"),
    }
}

/// A signed digest of the body is optional; a wrong one is an error.
fn check_hash(caller: &Caller, headers: &HeaderMap, bytes: &[u8]) -> Result<(), Fault> {
    let Some(signed) = &caller.body_hash else { return Ok(()) };
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    let actual = PayloadHasher::hash(content_type, hawk::SHA256, bytes);
    if actual.is_ok_and(|actual| actual == *signed) {
        Ok(())
    } else {
        Err(Fault::new(Code::AuthenticationFailed, "the signed digest of the body does not belong to the body"))
    }
}
