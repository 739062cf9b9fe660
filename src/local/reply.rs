//! Answers.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;

use super::auth::Receipt;

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// An answer, mostly with a JSON body.
pub(crate) struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    content_type: &'static str,
    body: Bytes,
    receipt: Option<Receipt>,
}

impl Reply {
    fn new(status: StatusCode, body: Bytes) -> Self {
        Self { status, headers: Vec::new(), content_type: JSON, body, receipt: None }
    }

    /// `200` with this value.
    pub(crate) fn json(value: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::new(StatusCode::OK, body.into()),
            // Our own types only have string keys and finite numbers; if one ever does not, the caller sees it.
            Err(error) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into()),
        }
    }

    /// `204`, which has no body.
    pub(crate) fn nothing() -> Self {
        Self::new(StatusCode::NO_CONTENT, Bytes::new())
    }

    /// `303` to there, for calls whose answers are no JSON: clients that find none follow the redirect.
    pub(crate) fn see_other(url: &str) -> Self {
        let reply = Self::new(StatusCode::SEE_OTHER, format!("See Other: {url}\n").into());
        Self { content_type: TEXT, ..reply }.with_header(header::LOCATION, url)
    }

    /// A redirect that says nothing but where it leads; any other answer as it is.
    pub(crate) fn without_json(self) -> Self {
        let to = self.headers.iter().find(|(name, _)| *name == header::LOCATION).and_then(|(_, to)| to.to_str().ok());
        match to {
            Some(url) => Self { headers: self.headers.clone(), ..Self::see_other(url) },
            None => self,
        }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds a header; a value that no header can hold is left out.
    pub(crate) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).map(|value| (name, value)));
        self
    }

    /// Signs this when the answer has been handed out.
    pub(crate) fn with_receipt(mut self, receipt: Option<Receipt>) -> Self {
        self.receipt = receipt;
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let Self { status, headers, content_type, body, receipt } = self;
        let body = match receipt {
            // Who was told that the server failed may send the same request again.
            Some(receipt) if !status.is_server_error() => {
                if body.is_empty() {
                    // Nobody asks for a body that has nothing.
                    receipt.sign();
                    Body::empty()
                } else {
                    Body::new(Receipted { body: body.into(), receipt: Some(receipt) })
                }
            }
            _ => Body::from(body),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        if status != StatusCode::NO_CONTENT {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        response.headers_mut().extend(headers);
        response
    }
}

/// A body whose receipt is signed when its bytes have been taken. Who breaks an answer on its way drops it before.
struct Receipted {
    body: Full<Bytes>,
    receipt: Option<Receipt>,
}

impl HttpBody for Receipted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(receipt) = self.receipt.take() {
            receipt.sign();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;
    use jiff::Timestamp;

    use super::*;
    use crate::local::auth::{Signature, Spent};

    /// Whether a signature is spent after its answer of that status was taken or dropped.
    async fn spent(status: StatusCode, body: &str, taken: bool) -> bool {
        let known = Arc::new(Spent::default());
        let signature = Signature::new(&[7; 32], i64::MAX).expect("a signature");
        let receipt = known.receipt(signature, Timestamp::UNIX_EPOCH).await.expect("a receipt");
        let reply = Reply::new(status, body.to_owned().into()).with_receipt(Some(receipt));
        let response = reply.into_response();
        assert_eq!(hyper::body::Body::size_hint(response.body()).exact(), Some(body.len() as u64));
        if taken {
            assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), body);
        } else {
            drop(response);
        }
        known.knows(&signature)
    }

    #[tokio::test]
    async fn only_an_answer_that_went_out_spends_a_signature() {
        assert!(spent(StatusCode::OK, "{}", true).await);
        assert!(spent(StatusCode::FORBIDDEN, "{}", true).await);
        assert!(spent(StatusCode::NO_CONTENT, "", true).await);
        assert!(!spent(StatusCode::OK, "{}", false).await);
        assert!(!spent(StatusCode::SERVICE_UNAVAILABLE, "{}", true).await);
    }
}
