//! Large bodies, and bodies that do not come to their end.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

/// JSON of about this many bytes.
fn padded(bytes: usize) -> Value {
    json!({ "taskIds": [], "padding": "x".repeat(bytes) })
}

#[tokio::test]
async fn who_shows_no_credentials_does_not_send_much() {
    let rig = Rig::start().await;
    let large = padded(crate::local::bodies::MOST_UNSIGNED_BYTES);
    let message = rig.call_as(As::Nobody, Method::POST, "/tasks/status", Some(&large)).await.refused(413, "InputTooLarge");
    assert!(message.contains("no credentials"), "{message}");
    rig.call_as(As::Client("root", "wrong"), Method::POST, "/tasks/status", Some(&large))
        .await
        .refused(401, "AuthenticationFailed");
    let message = rig.post("/tasks/status", &large).await.refused(400, "InputValidationError");
    assert!(message.contains("padding"), "{message}");
    let message = rig.post("/tasks/status", &padded(crate::local::bodies::MOST_BYTES)).await.refused(413, "InputTooLarge");
    assert!(message.contains(&crate::local::bodies::MOST_BYTES.to_string()), "{message}");
    // The most that everybody may ask.
    let names: Vec<_> = (0..1000).map(|n| format!("{n:0>255}")).collect();
    let asked = json!({ "indexes": names });
    rig.call_as(As::Nobody, Method::POST, "/api/index/v1/tasks/indexes", Some(&asked)).await.ok();
}

#[tokio::test]
async fn a_large_body_waits_for_room_and_nothing_else_does() {
    let rig = Rig::start().await;
    let (id, claim) = rig.running().await;
    let (texts, all) = rig.server.desk.bodies.texts();
    let taken = texts.acquire_many(u32::try_from(all - 1000).expect("a number")).await.expect("all but a little");
    let large = padded(1 << 20);
    let waiting = rig.post("/tasks/status", &large);
    let meanwhile = async {
        // What is free is promised to the first who waits.
        eventually("a body waits for room", async || texts.available_permits() == 0).await;
        assert_eq!(rig.state_of(&id).await, "running", "small calls go on");
        let url = upload_url(&rig, &id, &claim).await;
        let put = rig.http.put(url).header("content-type", "t").body(vec![b'x'; 12 << 20]).send();
        assert!(put.await.expect("an answer").status().is_success(), "uploads go to files");
        drop(taken);
    };
    let (answer, ()) = tokio::join!(waiting, meanwhile);
    answer.refused(400, "InputValidationError");
    assert_eq!(texts.available_permits(), all, "all room is free again");
}

/// Where an artifact of this run is uploaded.
async fn upload_url(rig: &Rig, id: &str, claim: &Value) -> Url {
    let body = json!({ "storageType": "s3", "contentType": "t", "expires": claim["task"]["expires"] });
    let path = format!("/task/{id}/runs/0/artifacts/a");
    let made = rig.call_as(As::Task(&claim["credentials"]), Method::POST, &path, Some(&body)).await.ok();
    made["putUrl"].as_str().expect("a URL").parse().expect("a URL")
}

/// A connection on which these bytes have been sent.
async fn sent(rig: &Rig, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(rig.server.address()).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("sent");
    stream
}

/// What comes until the connection ends.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    // A connection that is reset has ended, too.
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_server_that_closes_does_not_wait_for_half_a_request() {
    let rig = Rig::start().await;
    let url = rig.url("/tasks/status");
    let head = format!("POST {} HTTP/1.1\r\nhost: {}\r\n", url.path(), rig.server.address());
    let signed = format!("authorization: {}\r\n", signed(&Method::POST, &url));
    let halves = [
        sent(&rig, "").await,
        sent(&rig, &head).await,
        sent(&rig, &format!("{head}content-length: 100\r\n\r\n{{")).await,
        sent(&rig, &format!("{head}{signed}content-length: 100000\r\n\r\n{{")).await,
        sent(&rig, &format!("{head}content-length: 300000\r\n\r\n{{")).await,
    ];
    // One that rests after its first request, of which the second is half there.
    let mut resting = sent(&rig, "GET /api/queue/v1/ping HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert!(resting.read_buf(&mut answer).await.expect("an answer") > 0);
    }
    resting.write_all(head.as_bytes()).await.expect("sent");
    eventually("the server has a large body", async || {
        rig.server.desk.bodies.texts().0.available_permits() < rig.server.desk.bodies.texts().1
    })
    .await;
    let start = tokio::time::Instant::now();
    rig.server.shutdown().await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    for stream in halves.into_iter().chain([resting]) {
        let text = rest(stream).await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 503") || text.starts_with("HTTP/1.1 413"), "{text}");
    }
}

#[tokio::test]
async fn an_upload_that_has_begun_still_ends_when_the_server_closes() {
    let rig = Rig::start().await;
    let (id, claim) = rig.running().await;
    let url = upload_url(&rig, &id, &claim).await;
    let path = format!("{}?{}", url.path(), url.query().expect("a query"));
    let head =
        format!("PUT {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: t\r\ncontent-length: 4\r\n\r\nab", rig.server.address());
    let mut stream = sent(&rig, &head).await;
    let partial = async || {
        let names = std::fs::read_dir(rig.store.path().join("artifacts")).expect("a directory").flatten();
        names.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(store::PARTIAL))
    };
    eventually("the upload has begun", partial).await;
    let end = async {
        rig.server.desk.closing.cancelled().await;
        stream.write_all(b"cd").await.expect("sent");
        rest(stream).await
    };
    let ((), answer) = tokio::join!(rig.server.shutdown(), end);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
