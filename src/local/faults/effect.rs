//! The layer in front of the endpoints: asks the plan, and does what it says.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};

use super::{
    Faults,
    breach::Breach,
    names::{self, ARTIFACT, STORE},
    plan::{Action, Fate, Plan},
    rule::{After, Described, Refused},
    theft::{run_in, steal, steal_claims},
};
use crate::local::{
    auth::Unanswered,
    desk::Desk,
    fault::{Code, Fault},
    transfer::StoreError,
};

/// How long the next byte of a request may take that is read only to be refused.
const DRAIN: Duration = Duration::from_secs(60);
/// How many expired URLs are remembered.
const EXPIRED: usize = 10_000;
/// No JSON, and no HTTP.
const GARBAGE: &[u8] = b"{]garbage[}\x00\xff\r\n";

/// The faults of a running server.
pub(crate) struct Layer {
    plan: Mutex<Plan>,
    /// Paths and queries of signed URLs that have expired before their time, oldest first. No fresh one is like an old one.
    expired: Mutex<VecDeque<String>>,
}

impl Layer {
    /// None without rules, so that a server without faults does nothing for them.
    pub(crate) fn new(faults: Faults) -> Option<Self> {
        let Faults { rules, seed } = faults;
        (!rules.is_empty()).then(|| Self { plan: Mutex::new(Plan::new(rules, seed)), expired: Mutex::default() })
    }

    /// How many requests met each rule.
    pub(crate) fn met(&self) -> Vec<u64> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).met().to_vec()
    }

    fn decide(&self, request: &Described<'_>, target: &str) -> Fate {
        let expired = request.service == STORE && {
            let expired = self.expired.lock().unwrap_or_else(PoisonError::into_inner);
            expired.iter().any(|known| known == target)
        };
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fate = plan.decide(request);
        let Described { method, name, path, .. } = request;
        if !fate.delay.is_zero() {
            tracing::info!("fault on {method} {path} ({name}): a delay of {:?}", fate.delay);
        }
        if let Some((position, action)) = fate.action {
            tracing::info!("fault `{}` on {method} {path} ({name}): {action:?}", plan.rule(position));
        }
        if expired {
            fate.action = Some((usize::MAX, Action::Expire));
        }
        fate
    }

    fn expire(&self, target: String) {
        let mut expired = self.expired.lock().unwrap_or_else(PoisonError::into_inner);
        if !expired.contains(&target) {
            expired.push_back(target);
        }
        if expired.len() > EXPIRED {
            expired.pop_front();
        }
    }
}

/// Lets a call of an API happen as the faults want it.
pub(crate) async fn around<F, Fut>(desk: &Desk, name: &'static str, request: Request, call: F) -> Response
where
    F: FnOnce(Request) -> Fut + Send,
    Fut: Future<Output = Response> + Send,
{
    match &desk.faults {
        None => call(request).await,
        Some(layer) => spoiled(desk, layer, name, request, call).await,
    }
}

/// The same for signed URLs, which are no endpoints of a service. Calls of services pass.
pub(crate) async fn around_store(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    if names::service(request.uri().path()) != STORE {
        return next.run(request).await;
    }
    around(&desk, ARTIFACT, request, |request| next.run(request)).await
}

async fn spoiled<F, Fut>(desk: &Desk, layer: &Layer, name: &'static str, mut request: Request, call: F) -> Response
where
    F: FnOnce(Request) -> Fut + Send,
    Fut: Future<Output = Response> + Send,
{
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let path = request.uri().path().to_owned();
    let service = names::service(&path);
    let described =
        Described { method: request.method(), service, name, path: &path, body_bytes: request.body().size_hint().exact() };
    let fate = layer.decide(&described, &target);
    if !fate.delay.is_zero() {
        // Closing first: a delay never keeps the server open.
        tokio::select! {
            biased;
            () = desk.closing.cancelled() => {}
            () = tokio::time::sleep(fate.delay) => {}
        }
    }
    let Some((_, action)) = fate.action else { return call(request).await };
    if action.breaks_the_answer() {
        // A client that has to ask again may do so with the same signature.
        request.extensions_mut().insert(Unanswered);
    }
    match action {
        Action::DropRequest => Breach::Silence.answer(),
        Action::DropAnswer => {
            drop(call(request).await);
            Breach::Silence.answer()
        }
        Action::Refuse(refused) => {
            if refused.late {
                drop(call(request).await);
            } else {
                drain(request.into_body()).await;
            }
            refusal(desk, service, name, refused)
        }
        Action::Garbage => {
            drop(call(request).await);
            ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], GARBAGE).into_response()
        }
        Action::NoHttp => {
            drop(call(request).await);
            Breach::Raw { head: GARBAGE.into(), limit: Some(0) }.answer()
        }
        Action::CutRequest(bytes) => cut_request(request, bytes, call).await,
        Action::CutAnswer(after) => {
            let response = call(request).await;
            let length = response.body().size_hint().exact().or_else(|| content_length(&response));
            let limit = match after {
                After::Bytes(bytes) => bytes,
                After::Half => length.unwrap_or_default() / 2,
            };
            // What ends before the cut is left alone.
            if length.is_some_and(|length| length <= limit && length > 0) {
                response
            } else {
                Breach::cut(response, length, limit)
            }
        }
        Action::WrongLength { larger } => {
            let response = call(request).await;
            let length = response.body().size_hint().exact().or_else(|| content_length(&response)).unwrap_or_default();
            let wrong = if larger || length == 0 { length + 1 + length / 2 } else { length - 1 - length / 3 };
            Breach::with_length(response, wrong)
        }
        Action::Expire => {
            layer.expire(target);
            drain(request.into_body()).await;
            StoreError::new(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired").into_response()
        }
        Action::Steal if name == "claimWork" => steal_claims(desk, call(request).await).await,
        Action::Steal => {
            steal(desk, run_in(&path));
            call(request).await
        }
    }
}

fn content_length(response: &Response) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads what a client sends before it is refused, so that it hears the refusal and may use the connection again.
async fn drain(body: Body) {
    let mut body = std::pin::pin!(body);
    while let Ok(Some(Ok(_))) = tokio::time::timeout(DRAIN, body.frame()).await {}
}

/// A refusal in the format of the service.
fn refusal(desk: &Desk, service: &str, name: &'static str, refused: Refused) -> Response {
    let Refused { status, retry_after_secs, .. } = refused;
    let mut response = if service == STORE {
        let code = match status.as_u16() {
            503 => "SlowDown",
            500.. => "InternalError",
            _ => "InvalidRequest",
        };
        StoreError::new(status, code, "this server was told to fail").into_response()
    } else {
        let fault = Fault::new(Code::of(status), "this server was told to fail").with_status(status);
        fault.reply(name, &[], None, desk.now()).into_response()
    };
    if let Some(secs) = retry_after_secs {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
    }
    response
}

/// The endpoint sees a request that ends early; the client sees a connection that ends.
async fn cut_request<F, Fut>(request: Request, bytes: u64, call: F) -> Response
where
    F: FnOnce(Request) -> Fut + Send,
    Fut: Future<Output = Response> + Send,
{
    let reached = Arc::new(AtomicBool::new(false));
    let (head, body) = request.into_parts();
    let body = Body::new(Cut { body, left: bytes, reached: reached.clone() });
    let response = call(Request::from_parts(head, body)).await;
    if reached.load(Ordering::Relaxed) { Breach::Silence.answer() } else { response }
}

/// A body that breaks after some bytes.
struct Cut {
    body: Body,
    left: u64,
    reached: Arc<AtomicBool>,
}

impl hyper::body::Body for Cut {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.reached.load(Ordering::Relaxed) {
            return Poll::Ready(Some(Err(axum::Error::new("the connection was cut on purpose"))));
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        let Ok(mut data) = frame.into_data() else { return Poll::Ready(None) };
        let length = data.len() as u64;
        if length > self.left {
            data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.reached.store(true, Ordering::Relaxed);
        }
        self.left = self.left.saturating_sub(length);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
