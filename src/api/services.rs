//! One deployment: its root URL, and signed calls to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::{
    ApiError, Auth, CredentialsCell, Index, Queue, RetryPolicy, Secret,
    error::ErrorKind,
    hawk,
    transport::{Body, Request, Response, Transport},
};
use crate::seam::{Clock, Random, slugid};

/// Everything but unreserved characters is encoded in a path segment, the slash above all.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A clock that is off by no more than this is not why a signature is refused: services accept a minute and more.
const TOLERATED_SECS: u64 = 30;

/// Encodes one path segment.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// The services of one deployment. Clones are cheap.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

struct Inner {
    /// Without a slash at the end.
    root_url: String,
    /// The path in it; signed with every call. Mostly empty.
    path: String,
    host: String,
    port: u16,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    retry: RetryPolicy,
    /// How far the services' clock is ahead of this machine's, once that was found to matter.
    ahead_secs: AtomicI64,
}

/// One call, before it is signed.
pub struct Call<'a> {
    /// Its name, for instance `queue.claimWork`.
    pub name: &'static str,
    /// Its method.
    pub method: Method,
    /// `/api/<service>/v1/…`, encoded, with the query.
    pub resource: String,
    /// A JSON body.
    pub body: Option<&'a serde_json::Value>,
    /// Longest time for one attempt.
    pub timeout: Duration,
    /// Largest answer that is taken in, in bytes.
    pub answer_bytes: usize,
}

impl Services {
    /// The deployment at `root_url`.
    ///
    /// # Errors
    /// When that is no http or https URL.
    pub fn new(
        root_url: &str,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, String> {
        let url = reqwest::Url::parse(root_url).map_err(|e| format!("not a URL: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("scheme {:?} is neither http nor https", url.scheme()));
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err("it has no host".to_owned());
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err("it has more than scheme, host, port and path".to_owned());
        }
        Ok(Self(Arc::new(Inner {
            host: host.to_ascii_lowercase(),
            port,
            path: url.path().trim_end_matches('/').to_owned(),
            root_url: root_url.trim_end_matches('/').to_owned(),
            transport,
            clock,
            random,
            retry: RetryPolicy::default(),
            ahead_secs: AtomicI64::new(0),
        })))
    }

    /// The same services with other patience.
    #[must_use]
    pub fn with_retry(&self, retry: RetryPolicy) -> Self {
        let inner = &self.0;
        Self(Arc::new(Inner {
            root_url: inner.root_url.clone(),
            path: inner.path.clone(),
            host: inner.host.clone(),
            port: inner.port,
            transport: Arc::clone(&inner.transport),
            clock: Arc::clone(&inner.clock),
            random: Arc::clone(&inner.random),
            retry,
            ahead_secs: AtomicI64::new(inner.ahead_secs.load(Ordering::Relaxed)),
        }))
    }

    /// The queue, called with these credentials.
    pub fn queue(&self, credentials: CredentialsCell) -> Queue {
        Queue::new(self.clone(), credentials)
    }

    /// The auth service, called with these credentials.
    pub fn auth(&self, credentials: CredentialsCell) -> Auth {
        Auth::new(self.clone(), credentials)
    }

    /// The index, called with these credentials.
    pub fn index(&self, credentials: CredentialsCell) -> Index {
        Index::new(self.clone(), credentials)
    }

    /// The root URL, without a slash at the end.
    pub fn root_url(&self) -> &str {
        &self.0.root_url
    }

    /// What sends requests.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.0.transport
    }

    /// Both clocks.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// The source of randomness.
    pub fn random(&self) -> &Arc<dyn Random> {
        &self.0.random
    }

    /// How patiently calls are repeated.
    pub fn retry(&self) -> RetryPolicy {
        self.0.retry
    }

    /// One attempt, with a signature of its own. Redirects count as success and are not followed.
    ///
    /// A service that refuses a signature and shows another time than this machine is asked once more, with its own time.
    pub async fn attempt(&self, call: &Call<'_>, credentials: &CredentialsCell) -> Result<Response, ApiError> {
        let ahead = || self.0.ahead_secs.load(Ordering::Relaxed);
        let before = ahead();
        match self.once(call, credentials).await {
            Err(error) if error.status() == Some(401) && ahead() != before => self.once(call, credentials).await,
            result => result,
        }
    }

    async fn once(&self, call: &Call<'_>, credentials: &CredentialsCell) -> Result<Response, ApiError> {
        let inner = &*self.0;
        let (url, resource) = self.address(call)?;
        let mut headers = HeaderMap::new();
        if let Some(credentials) = credentials.get() {
            let sign = || -> Result<HeaderValue, String> {
                let ext = hawk::ext(&credentials, None).map_err(|e| e.to_string())?;
                let (now, nonce) = (self.now(), slugid(inner.random.as_ref()));
                let target = self.target(&call.method, &resource);
                let mut value = HeaderValue::try_from(hawk::header(target, &credentials, now, &nonce, &ext))
                    .map_err(|_| "the client id cannot stand in a header".to_owned())?;
                value.set_sensitive(true);
                Ok(value)
            };
            headers.insert(header::AUTHORIZATION, sign().map_err(|why| unsigned(call, &why))?);
        }
        let body = match call.body {
            None => Body::Empty,
            Some(json) => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Body::Bytes(json.to_string().into())
            }
        };
        let request =
            Request { method: call.method.clone(), url, headers, body, timeout: call.timeout, answer_bytes: call.answer_bytes };
        let response = inner.transport.send(request).await.map_err(|e| ApiError::new(call.name, ErrorKind::Transport(e)))?;
        if (200..400).contains(&response.status) {
            return Ok(response);
        }
        if response.status == 401 {
            self.learn_time(&response);
        }
        Err(ApiError::refused(call.name, &response))
    }

    /// The services' time, in seconds since 1970, as far as it is known to differ from this machine's.
    fn now(&self) -> i64 {
        self.0.clock.wall().as_second().saturating_add(self.0.ahead_secs.load(Ordering::Relaxed))
    }

    /// Takes a service's time over if it differs enough from the one that was signed with.
    fn learn_time(&self, response: &Response) {
        let Some(date) = response.date() else { return };
        if date.as_second().abs_diff(self.now()) > TOLERATED_SECS {
            let ahead = date.as_second().saturating_sub(self.0.clock.wall().as_second());
            tracing::warn!("The clock of {} is ahead of this machine's by {ahead} s", self.0.host);
            self.0.ahead_secs.store(ahead, Ordering::Relaxed);
        }
    }

    /// URL of a call, and its path and query as they are signed.
    fn address(&self, call: &Call<'_>) -> Result<(String, String), ApiError> {
        let url = format!("{}{}", self.0.root_url, call.resource);
        let resource = format!("{}{}", self.0.path, call.resource);
        if arrives_as(&url, &resource) {
            Ok((url, resource))
        } else {
            Err(ApiError::new(call.name, ErrorKind::Request(format!("{resource:?} cannot stand in a URL"))))
        }
    }

    fn target<'a>(&'a self, method: &'a Method, resource: &'a str) -> hawk::Target<'a> {
        hawk::Target { method: method.as_str(), resource, host: &self.0.host, port: self.0.port }
    }

    /// The URL of a `GET` call with its signature in it, good for as long as `valid`. Without credentials it is the bare URL.
    pub fn signed_url(&self, call: &Call<'_>, credentials: &CredentialsCell, valid: Duration) -> Result<Secret, ApiError> {
        let (url, resource) = self.address(call)?;
        let Some(credentials) = credentials.get() else { return Ok(Secret::new(url)) };
        let ext = hawk::ext(&credentials, None).map_err(|e| unsigned(call, &e.to_string()))?;
        let expires = self.now().saturating_add_unsigned(valid.as_secs());
        let bewit = hawk::bewit(self.target(&Method::GET, &resource), &credentials, expires, &ext);
        let separator = if url.contains('?') { '&' } else { '?' };
        Ok(Secret::new(format!("{url}{separator}bewit={bewit}")))
    }

    /// Attempts until one succeeds or patience ends.
    pub async fn call(&self, call: &Call<'_>, credentials: &CredentialsCell) -> Result<Response, ApiError> {
        self.0.retry.run(self.0.random.as_ref(), || self.attempt(call, credentials)).await
    }

    /// As [`Services::call`], for an answer in JSON. One that is not what it should be is tried again, too.
    pub async fn call_json<T: DeserializeOwned>(&self, call: &Call<'_>, credentials: &CredentialsCell) -> Result<T, ApiError> {
        self.0
            .retry
            .run(self.0.random.as_ref(), move || async move {
                let response = self.attempt(call, credentials).await?;
                parse(call.name, &response)
            })
            .await
    }
}

fn unsigned(call: &Call<'_>, why: &str) -> ApiError {
    ApiError::new(call.name, ErrorKind::Request(format!("sign the request: {why}")))
}

/// Whether a URL reaches the server with this path and query. It does not if it holds a segment `.` or `..`, which no
/// encoding protects, and then the call would be another one.
fn arrives_as(url: &str, resource: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| match url.query() {
        None => url.path() == resource,
        Some(query) => resource.strip_prefix(url.path()).and_then(|rest| rest.strip_prefix('?')) == Some(query),
    })
}

/// Reads an answer in JSON.
pub fn parse<T: DeserializeOwned>(call: &'static str, response: &Response) -> Result<T, ApiError> {
    serde_json::from_slice(&response.body).map_err(|e| ApiError::new(call, ErrorKind::Garbage(e.to_string())))
}
