//! One request and the beginning of its answer, over a connection of its own.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Body, Incoming},
    client::conn::http1,
    header,
    http::uri::PathAndQuery,
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::time::timeout;

use super::{Connection, Failure, RawStream, Version, Way, failure, stream::Metered};

/// Longest answer that is a document: listings of a machine with thousands of containers stay below.
const DOCUMENT_BYTES: u64 = 32 * 1024 * 1024;
/// Longest document that is read by ourselves: the description of one container, or an error.
const OWN_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;
/// Ends of paths whose answers are streams without an end that we could know.
const STREAMS: [&str; 8] = ["/archive", "/export", "/get", "/load", "/images/create", "/events", "/logs", "/stats"];

/// Sends bollard's requests.
pub(super) async fn send<B>(way: &Way, request: Request<B>) -> Result<Response<Incoming>, bollard::errors::Error>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = request.uri().path();
    let bound = if STREAMS.iter().any(|end| path.ends_with(end)) { u64::MAX } else { DOCUMENT_BYTES };
    let stream = way.host.connect().await.map_err(|err| bollard::errors::Error::IOError { err })?;
    Ok(exchange(way, Metered::new(stream, bound), request).await?)
}

/// Sends a request in the agreed version of the API and waits until the engine begins to answer.
async fn exchange<B>(way: &Way, stream: Metered, mut request: Request<B>) -> Result<Response<Incoming>, hyper::Error>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Some(uri) = versioned(request.uri(), way.agreed()) {
        *request.uri_mut() = uri;
    }
    request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("docker"));
    let (mut sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
    // Its owner is the answer: the connection ends when the answer was read or dropped, and its errors come up there.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await
}

/// The path with the agreed version in front, without a host. The question for the version itself goes without one, as an
/// engine refuses everything in a version that it does not speak.
fn versioned(uri: &Uri, agreed: Option<Version>) -> Option<Uri> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    match agreed {
        Some(version) if uri.path() != "/version" => format!("/v{version}{path}").parse().ok(),
        _ => path.parse().ok(),
    }
}

/// The sentence in an answer that is an error.
#[derive(Deserialize)]
struct ErrorDocument {
    message: String,
}

/// An answer whose beginning has come.
#[derive(Debug)]
pub(crate) struct Exchange {
    response: Response<Incoming>,
}

impl Exchange {
    /// Reads the rest of an answer that is one document.
    pub(crate) async fn document(self) -> Result<Bytes, Failure> {
        match Limited::new(self.response.into_body(), OWN_DOCUMENT_BYTES).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(match error.downcast_ref::<hyper::Error>() {
                Some(error) => failure::hyper(error),
                None => Failure::Garbage(error.to_string()),
            }),
        }
    }

    /// Takes the stream over, with what came beyond the head of the answer.
    pub(crate) async fn into_stream(self) -> Result<(RawStream, Bytes), Failure> {
        let upgraded: Upgraded = hyper::upgrade::on(self.response).await.map_err(|error| failure::hyper(&error))?;
        let parts = upgraded
            .downcast::<TokioIo<Metered>>()
            .map_err(|_| Failure::Garbage("the connection is not the one that was opened".to_owned()))?;
        Ok((parts.io.into_inner().into_stream(), parts.read_buf))
    }
}

impl Connection {
    /// Sends a request without a body and returns when the engine has begun to answer that it obeys.
    ///
    /// With `upgrade` the engine is asked to leave HTTP; [`Exchange::into_stream`] then gives the stream.
    pub(crate) async fn exchange(
        &self,
        bound: Duration,
        method: Method,
        path: &str,
        upgrade: bool,
    ) -> Result<Exchange, Failure> {
        let exchanged = async {
            let mut request = Request::builder().method(method).uri(path);
            if upgrade {
                request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "tcp");
            }
            let request = request.body(Empty::<Bytes>::new()).map_err(|error| Failure::Garbage(format!("{path}: {error}")))?;
            let stream = self.raw().await.map_err(|error| failure::io(&error))?;
            let bound = if upgrade { u64::MAX } else { DOCUMENT_BYTES };
            let response = exchange(&self.way, Metered::new(stream, bound), request).await;
            let exchange = Exchange { response: response.map_err(|error| failure::hyper(&error))? };
            let status = exchange.response.status();
            if if upgrade { status == StatusCode::SWITCHING_PROTOCOLS } else { status.is_success() } {
                return Ok(exchange);
            }
            if status.is_success() || status.is_informational() {
                return Err(Failure::Garbage(format!("{path} was answered with status {status}")));
            }
            let text = exchange.document().await?;
            let message = serde_json::from_slice::<ErrorDocument>(&text)
                .map_or_else(|_| String::from_utf8_lossy(&text).into_owned(), |document| document.message);
            Err(Failure::answer(status.as_u16(), &message))
        };
        self.noted(timeout(bound, exchanged).await.unwrap_or(Err(Failure::TimedOut(bound))))
    }

    /// Asks for one document.
    pub(crate) async fn document(&self, bound: Duration, path: &str) -> Result<Bytes, Failure> {
        let document = async { self.exchange(bound, Method::GET, path, false).await?.document().await };
        timeout(bound, document).await.unwrap_or(Err(Failure::TimedOut(bound)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_carry_the_agreed_version() {
        let of = |uri: &str, version| versioned(&uri.parse().expect("a uri"), version).expect("a uri").to_string();
        assert_eq!(of("http://docker/containers/x/json?a=b", Some(Version(41))), "/v1.41/containers/x/json?a=b");
        assert_eq!(of("http://docker/containers/json", None), "/containers/json");
        assert_eq!(of("http://docker/version", Some(Version(41))), "/version");
    }
}
