//! The server over real sockets. Requests are signed with the `hawk` crate here: independent signatures are in `auth::tests` and in the
//! session of the Python client.

mod auth;
mod bodies;
mod calls;
mod fleet;
mod groups;
mod index;
mod line;
mod objects;
mod purge;
mod restart;
mod restarts;
mod roles;
mod scopes;
mod secrets;
mod server;
mod shapes;
mod uploads;
mod workers;

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use serde_json::{Value, json};

use super::*;
use crate::seam::{SystemClock, SystemRandom, TestClock, slugid};

pub(super) const POOL: &str = "p/w";
const TOKEN: &str = "no-real-secret";

/// A server and a client that may do everything.
pub(super) struct Rig {
    pub(super) server: Server,
    pub(super) http: reqwest::Client,
    pub(super) store: tempfile::TempDir,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    /// What is answered to this request.
    pub(super) async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.expect("a body");
        Self { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    /// The body of an answer that is no refusal.
    pub(super) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        self.body
    }

    /// The message of a refusal of this kind.
    pub(super) fn refused(self, status: u16, code: &str) -> String {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert!(self.body["requestInfo"]["time"].is_string(), "{}", self.body);
        self.body["message"].as_str().expect("a message").to_owned()
    }
}

/// Who signs a request.
pub(super) enum As<'a> {
    Root,
    Nobody,
    /// A client with its access token.
    Client(&'a str, &'a str),
    /// Temporary credentials.
    Task(&'a Value),
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let store = tempfile::tempdir().expect("a directory");
        let mut options = Options::new(store.path().join("artifacts"), ("root".into(), TOKEN.into()));
        change(&mut options);
        let server = Server::start(options).await.expect("a server");
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .build()
            .expect("a client");
        Self { server, http, store }
    }

    pub(super) fn url(&self, path: &str) -> Url {
        let service = if path.starts_with("/api/") { "" } else { "/api/queue/v1" };
        format!("{}{service}{path}", self.server.root_url()).parse().expect("a URL")
    }

    pub(super) async fn call_as(&self, who: As<'_>, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.call_at(who, method, self.url(path), body).await
    }

    pub(super) async fn call_at(&self, who: As<'_>, method: Method, url: Url, body: Option<&Value>) -> Answer {
        let mut request = self.http.request(method.clone(), url.clone());
        request = match who {
            As::Nobody => request,
            As::Root => request.header("authorization", sign(("root", TOKEN), None, &method, &url)),
            As::Client(id, token) => request.header("authorization", sign((id, token), None, &method, &url)),
            As::Task(credentials) => {
                let text = |name: &str| credentials[name].as_str().expect("a text");
                let certificate: Value = serde_json::from_str(text("certificate")).expect("a certificate");
                request
                    .header("authorization", sign((text("clientId"), text("accessToken")), Some(&certificate), &method, &url))
            }
        };
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        Answer::of(request).await
    }

    /// A call of some service, by whoever started the server.
    pub(super) async fn root(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.call_as(As::Root, method, path, body).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.call_as(As::Root, Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call_as(As::Root, Method::POST, path, Some(body)).await
    }

    pub(super) async fn create(&self, change: impl FnOnce(&mut Value)) -> String {
        let id = slugid(&SystemRandom);
        let mut body = definition(self.server.desk.now());
        change(&mut body);
        self.call_as(As::Root, Method::PUT, &format!("/task/{id}"), Some(&body)).await.ok();
        id
    }

    pub(super) async fn claim(&self, worker: &str, tasks: u32) -> Vec<Value> {
        let body = json!({ "workerGroup": "g", "workerId": worker, "tasks": tasks });
        let answer = self.post("/claim-work/p%2Fw", &body).await.ok();
        answer["tasks"].as_array().expect("tasks").clone()
    }

    /// A task that runs: its id and its claim.
    pub(super) async fn running(&self) -> (String, Value) {
        let id = self.create(|_| {}).await;
        let claim = self.claim("w", 1).await.pop().expect("a claim");
        (id, claim)
    }

    pub(super) async fn state_of(&self, id: &str) -> String {
        let answer = self.call_as(As::Nobody, Method::GET, &format!("/task/{id}/status"), None).await.ok();
        answer["status"]["state"].as_str().expect("a state").to_owned()
    }
}

pub(super) fn definition(now: Timestamp) -> Value {
    let after = |hours| format!("{:.3}", now.saturating_add(SignedDuration::from_hours(hours)).expect("a date"));
    json!({
        "taskQueueId": POOL, "created": after(0), "deadline": after(1), "expires": after(2), "payload": {}, "scopes": ["own:scope"],
        "metadata": { "name": "n", "description": "d", "owner": "o", "source": "https://example.com" },
    })
}

/// Waits until `holds` says so, for a test's patience.
pub(super) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < patience, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The authorization of a call by the client that may do everything.
pub(super) fn signed(method: &Method, url: &Url) -> String {
    sign(("root", TOKEN), None, method, url)
}

fn sign((id, token): (&str, &str), certificate: Option<&Value>, method: &Method, url: &Url) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let ext = certificate.map(|certificate| BASE64_STANDARD.encode(json!({ "certificate": certificate }).to_string()));
    let key = hawk::Key::new(token, hawk::SHA256).expect("a key");
    let request = hawk::RequestBuilder::from_url(method.as_str(), url).expect("a request").ext(ext.as_deref()).request();
    let header = request.make_header(&hawk::Credentials { id: id.to_owned(), key }).expect("a header");
    format!("Hawk {header}")
}
