//! The transport over real sockets: answers that are cut, too large, late, or tell to go elsewhere.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::api::{Body, HttpTransport, Request, Response, Transport as _, TransportError};

/// A server that reads one request at a time, and answers each with these bytes. Returns its URL and how many connections it
/// has had.
async fn server(answer: impl Into<Vec<u8>>, closes: bool) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/x", listener.local_addr().expect("an address"));
    let connections = Arc::new(AtomicUsize::new(0));
    let (answer, counter) = (answer.into(), Arc::clone(&connections));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            tokio::spawn(async move {
                while read_request(&mut stream).await {
                    if stream.write_all(&answer).await.is_err() || closes {
                        return;
                    }
                }
            });
        }
    });
    (url, connections)
}

/// Reads until the end of a request whose body ends with `.`, or has none.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return false,
            Ok(got) => request.extend_from_slice(&piece[..got]),
        }
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && (head.starts_with("get") || head.contains("content-length: 0") || body.ends_with('.'))
        {
            return true;
        }
    }
}

fn get(url: &str, timeout: Duration) -> Request {
    Request { method: Method::GET, url: url.to_owned(), headers: HeaderMap::new(), body: Body::Empty, timeout }
}

async fn ask(url: &str) -> Result<Response, TransportError> {
    HttpTransport::new(None, true).expect("a transport").send(get(url, Duration::from_secs(30))).await
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn connections_are_used_again() {
    let (url, connections) = server(ok("hello"), false).await;
    let transport = HttpTransport::new(None, true).expect("a transport");
    for _ in 0..5 {
        let response = transport.send(get(&url, Duration::from_secs(30))).await.expect("an answer");
        assert_eq!((response.status, &response.body[..]), (200, &b"hello"[..]));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn redirects_are_answers() {
    let (url, connections) = server("HTTP/1.1 303 See Other\r\nLocation: /y\r\nContent-Length: 2\r\n\r\n{}", false).await;
    let response = ask(&url).await.expect("an answer");
    assert_eq!((response.status, &response.body[..]), (303, &b"{}"[..]));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn half_an_answer_is_no_answer() {
    for half in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 2",
        "",
    ] {
        let (url, _) = server(half, true).await;
        let error = ask(&url).await.expect_err("half an answer");
        assert!(matches!(error, TransportError::Connection(_)), "{half:?}: {error:?}");
        assert!(!error.to_string().contains("127.0.0.1"), "the URL may hold a secret: {error}");
    }
    let error = ask("http://127.0.0.1:1/secret").await.expect_err("nobody listens");
    assert!(error.to_string().contains("refused") && !error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_refusal_counts_even_if_its_body_is_cut_or_endless() {
    let (url, _) = server("HTTP/1.1 403 Forbidden\r\nContent-Length: 90\r\n\r\n{\"code\"", true).await;
    assert_eq!(ask(&url).await.expect("an answer").status, 403);
    let long = "x".repeat(1 << 20);
    let (url, _) = server(format!("HTTP/1.1 500 Oops\r\nContent-Length: 99999999\r\n\r\n{long}"), false).await;
    let response = ask(&url).await.expect("an answer");
    assert_eq!((response.status, response.body.len()), (500, 64 << 10));
}

#[tokio::test]
async fn a_success_without_end_is_not_taken_in() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/x", listener.local_addr().expect("an address"));
    let endless = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
        let piece = vec![b'x'; 1 << 20];
        let mut sent = 0_usize;
        while stream.write_all(&piece).await.is_ok() {
            sent += piece.len();
        }
        sent
    });
    let error = ask(&url).await.expect_err("too much");
    assert!(matches!(error, TransportError::TooLarge), "{error:?}");
    assert!(endless.await.expect("ended") < 64 << 20);
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"] {
        let (url, _) = server(answer, false).await;
        let transport = HttpTransport::new(None, true).expect("a transport");
        let error = transport.send(get(&url, Duration::from_millis(300))).await.expect_err("silence");
        assert!(matches!(error, TransportError::Timeout(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_stream_has_its_exact_length_or_is_broken_off() {
    let transport = HttpTransport::new(None, true).expect("a transport");
    let put = |url: &str, pieces: Vec<std::io::Result<Bytes>>, length: u64| Request {
        method: Method::PUT,
        url: url.to_owned(),
        headers: HeaderMap::new(),
        body: Body::Stream { stream: Box::pin(futures_util::stream::iter(pieces)), length },
        timeout: Duration::from_secs(30),
    };
    let (url, _) = server(ok(""), false).await;
    let whole = vec![Ok(Bytes::from_static(b"1234")), Ok(Bytes::from_static(b"567."))];
    assert_eq!(transport.send(put(&url, whole, 8)).await.expect("stored").status, 200);
    let nothing = transport.send(put(&url, Vec::new(), 0)).await.expect("stored");
    assert_eq!(nothing.status, 200);
    let failing = vec![Ok(Bytes::from_static(b"1234")), Err(std::io::Error::other("it shrank"))];
    assert!(transport.send(put(&url, failing, 8)).await.is_err());
    let short = vec![Ok(Bytes::from_static(b"123"))];
    assert!(transport.send(put(&url, short, 8)).await.is_err());
}

#[test]
fn a_file_without_certificates_is_an_error_that_names_it() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"no certificate").expect("written");
    let error = HttpTransport::new(Some(file.path()), true).err().expect("an error");
    assert!(error.contains(file.path().to_str().expect("UTF-8")), "{error}");
    assert!(HttpTransport::new(Some(std::path::Path::new("/nonexistent.pem")), true).is_err());
}
