//! Downloads over real sockets, from a server that does what a test wants, and real archives.

mod archives;
mod broken;
mod server;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use tc_engine::Fault;

use self::server::{Reply, Server};
use super::{ContentError, Packing, Stream, open};

/// Bytes that no codec can do much about, the same for each call.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(count).collect()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("32 bytes")
}

async fn read(mut stream: Stream) -> Result<(Vec<u8>, [u8; 32]), ContentError> {
    let mut whole = Vec::new();
    while let Some(piece) = stream.next().await? {
        whole.extend_from_slice(&piece);
    }
    assert_eq!(stream.next().await, Ok(None), "the end stays the end");
    Ok((whole, stream.sha256().expect("known at the end")))
}

async fn fetch(server: &Server, packing: Packing) -> Result<(Vec<u8>, [u8; 32]), ContentError> {
    let bounded = tokio::time::timeout(std::time::Duration::from_secs(60), read(open(Arc::new(server.artifact()), packing)));
    bounded.await.expect("a download that ends")
}

#[tokio::test]
async fn content_comes_whole_with_its_digest() {
    let body = noise(3_000_000);
    let server = Server::files(body.clone()).await;
    let mut stream = open(Arc::new(server.artifact()), Packing::Unpack);
    let mut whole = Vec::new();
    while let Some(piece) = stream.next().await.expect("bytes") {
        whole.extend_from_slice(&piece);
    }
    assert!(whole == body);
    assert_eq!(stream.sha256(), Some(sha256(&body)));
    assert_eq!(stream.fetched(), (3_000_000, Some(3_000_000)));
    assert_eq!(server.count("/store/"), 1);
}

#[tokio::test]
async fn an_empty_artifact_is_empty() {
    let server = Server::files(Vec::new()).await;
    assert_eq!(fetch(&server, Packing::Unpack).await, Ok((Vec::new(), sha256(b""))));
}

#[tokio::test]
async fn the_encoding_of_the_transport_is_taken_off_before_the_digest() {
    let plain = noise(700_000);
    let gzip = archives::gzip(&plain);
    // The object itself is in gzip: one layer is the transport's, the other is the archive's.
    let twice = archives::gzip(&gzip);
    let server = Server::store(move |_, _| Reply::new(200, twice.clone()).with("content-encoding: gzip")).await;
    assert_eq!(fetch(&server, Packing::Keep).await, Ok((gzip.clone(), sha256(&gzip))));
    assert_eq!(fetch(&server, Packing::Unpack).await, Ok((plain, sha256(&gzip))));
}

#[tokio::test]
async fn a_reference_may_lead_on_but_not_in_circles() {
    let body = noise(100_000);
    let server = Server::start({
        let body = body.clone();
        move |_, request| match request.path.as_str() {
            "/elsewhere" => Reply::new(200, body.clone()),
            path if path.starts_with("/store/") => Reply::new(302, Vec::new()).with("location: /elsewhere"),
            _ => request.locate(),
        }
    })
    .await;
    assert_eq!(fetch(&server, Packing::Keep).await.map(|(bytes, _)| bytes == body), Ok(true));
    let circle = Server::store(|_, _| Reply::new(302, Vec::new()).with("location: /store/again")).await;
    let error = fetch(&circle, Packing::Keep).await.expect_err("no bytes");
    assert_eq!(error.fault, Fault::Task);
    let file = Server::store(|_, _| Reply::new(302, Vec::new()).with("location: file:///etc/passwd")).await;
    assert!(fetch(&file, Packing::Keep).await.expect_err("no bytes").message.contains("\"file\""));
}

#[tokio::test]
async fn what_cannot_be_had_is_said_with_whose_fault_it_is() {
    let cases: [(u16, &str, Fault, &str); 5] = [
        (404, r#"{"code": "ResourceNotFound", "message": "no such artifact"}"#, Fault::Task, "no such artifact"),
        (403, r#"{"code": "InsufficientScopes", "message": "missing scopes"}"#, Fault::Task, "missing scopes"),
        (401, r#"{"code": "AuthenticationFailed", "message": "who"}"#, Fault::Resource, "who"),
        (500, "{}", Fault::Resource, "500"),
        (
            200,
            r#"{"storageType": "error", "reason": "file-missing-on-worker", "message": "Could not read file"}"#,
            Fault::Task,
            "Could not read file: file-missing-on-worker",
        ),
    ];
    for (status, body, fault, text) in cases {
        let server = Server::start(move |_, _| Reply::new(status, body.as_bytes().to_vec())).await;
        let error = fetch(&server, Packing::Unpack).await.expect_err("no bytes");
        assert!(error.fault == fault && error.message.contains(text), "{status}: {error:?}");
        assert!(error.message.contains("artifact \"private/image.tar\" of task"), "{error}");
    }
    let server = Server::store(|_, _| Reply::new(404, Vec::new())).await;
    assert_eq!(fetch(&server, Packing::Unpack).await.expect_err("no bytes").fault, Fault::Task);
}

#[tokio::test]
async fn an_object_is_checked_against_the_hash_that_its_service_has() {
    let body = noise(200_000);
    for (hash, good) in [(hex(&sha256(&body)), true), (hex(&sha256(b"other")), false)] {
        let body = body.clone();
        let server = Server::start(move |_, request| {
            if request.path.starts_with("/api/object/v1/start-download/t%2Fname") {
                let answer = serde_json::json!({
                    "method": "getUrl", "url": format!("{}/store/o", request.base), "expires": "2050-01-01T00:00:00Z",
                    "hashes": { "sha256": hash, "sha512": "0" },
                });
                return Reply::new(200, answer.to_string().into_bytes());
            }
            if request.is_store() {
                return Reply::new(200, body.clone());
            }
            let answer = serde_json::json!({ "storageType": "object", "name": "t/name", "credentials": {
                "clientId": "object", "accessToken": "hush", "certificate": "{}",
            } });
            Reply::new(200, answer.to_string().into_bytes())
        })
        .await;
        let result = fetch(&server, Packing::Unpack).await;
        assert_eq!(result.is_ok(), good);
        if let Err(error) = result {
            assert!(error.fault == Fault::Task && error.message.contains("SHA-256"), "{error:?}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[tokio::test]
async fn nothing_goes_on_when_nobody_reads_any_more() {
    let server = Server::store(|_, _| Reply::new(200, vec![0; 64 << 20]).slowly()).await;
    let mut stream = open(Arc::new(server.artifact()), Packing::Unpack);
    assert!(stream.next().await.expect("bytes").is_some());
    drop(stream);
    let gone = async {
        while server.open_connections() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.expect("the connection is closed");
}
