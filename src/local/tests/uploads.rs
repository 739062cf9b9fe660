use std::path::Path;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

fn s3(claim: &Value) -> Value {
    json!({ "storageType": "s3", "contentType": "text/plain", "contentLength": 5, "expires": claim["task"]["expires"] })
}

async fn put_url(rig: &Rig, id: &str, name: &str, claim: &Value) -> String {
    let path = format!("/task/{id}/runs/0/artifacts/{name}");
    let answer = rig.call_as(As::Task(&claim["credentials"]), Method::POST, &path, Some(&s3(claim))).await.ok();
    answer["putUrl"].as_str().expect("a URL").to_owned()
}

async fn put(rig: &Rig, url: &str, body: &'static [u8]) -> StatusCode {
    rig.http.put(url).header("content-type", "text/plain").body(body).send().await.expect("an answer").status()
}

async fn content(rig: &Rig, id: &str, name: &str) -> (StatusCode, http::HeaderMap, Vec<u8>) {
    let found = rig.get(&format!("/task/{id}/artifacts/{name}")).await;
    assert_eq!(found.status, StatusCode::SEE_OTHER);
    assert_eq!(found.headers["location"].to_str().ok(), found.body["url"].as_str());
    let response = rig.http.get(found.body["url"].as_str().expect("a URL")).send().await.expect("an answer");
    (response.status(), response.headers().clone(), response.bytes().await.expect("a body").to_vec())
}

fn header<'a>(headers: &'a http::HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).expect("a list").count()
}

#[tokio::test]
async fn an_upload_is_served_as_it_came_and_replaced_as_a_whole() {
    let rig = Rig::start().await;
    let (id, claim) = rig.running().await;
    let url = put_url(&rig, &id, "public%2Fa%20b.txt", &claim).await;
    assert_eq!(content(&rig, &id, "public/a%20b.txt").await.0, StatusCode::NOT_FOUND);
    let upload = rig.http.put(&url).header("content-type", "text/plain").header("content-encoding", "gzip").body(&b"first"[..]);
    assert!(upload.send().await.expect("an answer").status().is_success());
    let (status, headers, bytes) = content(&rig, &id, "public%2Fa%20b.txt").await;
    assert_eq!((status, &*bytes), (StatusCode::OK, &b"first"[..]));
    assert_eq!((header(&headers, "content-type"), header(&headers, "content-encoding")), ("text/plain", "gzip"));
    assert!(put(&rig, &url, b"second").await.is_success());
    let (_, headers, bytes) = content(&rig, &id, "public%2Fa%20b.txt").await;
    assert_eq!(bytes, b"second");
    assert!(!headers.contains_key("content-encoding"));
    let published = rig.server.published(&id);
    assert_eq!(published.len(), 1);
    assert_eq!((&*published[0].name, published[0].bytes, published[0].run_id), ("public/a b.txt", Some(6), 0));
    assert_eq!(std::fs::read(published[0].path.as_ref().expect("a path")).expect("a file"), b"second");
    let dir = rig.store.path().join("artifacts");
    eventually("the replaced upload is still there", async || files(&dir) == 1).await;
}

#[tokio::test]
async fn a_short_a_cut_or_an_unmeasured_upload_stores_nothing() {
    let rig = Rig::start().await;
    let (id, claim) = rig.running().await;
    let url: Url = put_url(&rig, &id, "public%2Fa", &claim).await.parse().expect("a URL");
    let target = format!("{}?{}", url.path(), url.query().expect("a query"));
    let address = rig.server.address();
    for (headers, body) in [
        ("content-length: 100", "short"),
        ("transfer-encoding: chunked", "5\r\nshort\r\n0\r\n\r\n"),
        ("transfer-encoding: chunked", "5\r\nsho"),
        ("x: y", ""),
    ] {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let head = format!(
            "PUT {target} HTTP/1.1\r\nhost: {address}\r\ncontent-type: text/plain\r\nconnection: close\r\n{headers}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("closed");
        let mut answer = Vec::new();
        // The server may also cut the connection: that is no success either.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{headers}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(content(&rig, &id, "public/a").await.0, StatusCode::NOT_FOUND);
    let dir = rig.store.path().join("artifacts");
    eventually("something was left in the store", async || files(&dir) == 0).await;
}

#[tokio::test]
async fn upload_urls_expire_and_are_for_one_thing() {
    let clock = Arc::new(TestClock::starting_at(Timestamp::now()));
    let rig = Rig::with(|options| options.clock = clock.clone()).await;
    let (id, claim) = rig.running().await;
    let url = put_url(&rig, &id, "public%2Fa", &claim).await;
    let other = rig.http.put(&url).header("content-type", "text/html").body("x").send().await.expect("an answer");
    assert_eq!(other.status(), StatusCode::FORBIDDEN);
    assert!(other.text().await.expect("a body").contains("<Code>SignatureDoesNotMatch</Code>"));
    assert_eq!(put(&rig, &url.replace("/public/a?", "/public/b?"), b"x").await, StatusCode::FORBIDDEN);
    assert_eq!(put(&rig, &url.replace(&id, &slugid(&SystemRandom)), b"x").await, StatusCode::FORBIDDEN);
    assert_eq!(rig.http.get(&url).send().await.expect("an answer").status(), StatusCode::FORBIDDEN);
    clock.jump(SignedDuration::from_mins(46));
    assert_eq!(put(&rig, &url, b"x").await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn big_uploads_and_downloads_go_through() {
    let rig = Rig::start().await;
    let (id, claim) = rig.running().await;
    let url = put_url(&rig, &id, "public%2Fbig", &claim).await;
    let body: Vec<u8> = (0..40_000_000_u32).map(|n| (n % 251) as u8).collect();
    let upload = rig.http.put(&url).header("content-type", "text/plain").body(body.clone()).send().await.expect("an answer");
    assert!(upload.status().is_success());
    let (_, headers, bytes) = content(&rig, &id, "public/big").await;
    assert_eq!(headers["content-length"], body.len().to_string());
    assert!(bytes == body);
}

#[tokio::test]
async fn links_are_followed_references_lead_away_and_errors_say_why() {
    let rig = Rig::start().await;
    let (id, claim) = rig.running().await;
    let create = async |name: &str, mut body: Value| {
        body["expires"] = claim["task"]["expires"].clone();
        let path = format!("/task/{id}/runs/0/artifacts/{name}");
        rig.call_as(As::Task(&claim["credentials"]), Method::POST, &path, Some(&body)).await
    };
    let url = put_url(&rig, &id, "public%2Fbacking.log", &claim).await;
    assert!(put(&rig, &url, b"text").await.is_success());
    let reference = json!({ "storageType": "reference", "contentType": "text/plain", "url": "http://10.0.0.1:60023/log/x" });
    create("public%2Flive.log", reference).await.ok();
    let live = format!("/task/{id}/runs/0/artifacts/public%2Flive.log");
    let found = rig.call_as(As::Nobody, Method::GET, &live, None).await;
    assert_eq!(
        (found.status, found.headers["location"].to_str().ok()),
        (StatusCode::SEE_OTHER, Some("http://10.0.0.1:60023/log/x"))
    );
    assert_eq!(found.headers["x-taskcluster-artifact-storage-type"], "reference");
    create(
        "public%2Flive.log",
        json!({ "storageType": "link", "contentType": "text/plain", "artifact": "public/backing.log" }),
    )
    .await
    .ok();
    assert_eq!(content(&rig, &id, "public/live.log").await.2, b"text");
    create("public%2Fto-secret", json!({ "storageType": "link", "artifact": "private/x" })).await.ok();
    create("private%2Fx", json!({ "storageType": "reference", "contentType": "t", "url": "https://x/" })).await.ok();
    for (name, content) in [("to-secret", true), ("to-secret", false)] {
        let path = format!("/task/{id}/{}/public%2F{name}", if content { "artifact-content" } else { "artifacts" });
        rig.call_as(As::Nobody, Method::GET, &path, None).await.refused(403, "InsufficientScopes");
        assert_eq!(rig.get(&path).await.body["url"], "https://x/");
    }
    create("a", json!({ "storageType": "link", "artifact": "b" })).await.ok();
    create("b", json!({ "storageType": "link", "artifact": "a" })).await.ok();
    rig.get(&format!("/task/{id}/artifacts/a")).await.refused(400, "InputError");
    create("e", json!({ "storageType": "error", "reason": "too-large-file-on-worker", "message": "m" })).await.ok();
    let answer = rig.get(&format!("/task/{id}/artifacts/e")).await;
    assert_eq!((answer.status.as_u16(), answer.body), (424, json!({ "reason": "too-large-file-on-worker", "message": "m" })));
    let answer = rig.get(&format!("/task/{id}/artifact-content/e")).await.ok();
    assert_eq!(answer, json!({ "storageType": "error", "reason": "too-large-file-on-worker", "message": "m" }));

    for (name, body) in [
        ("x", json!({ "storageType": "azure", "contentType": "t" })),
        ("x", json!({ "storageType": "s3", "url": "https://x/" })),
        ("x", json!({ "storageType": "reference", "contentType": "t", "url": "no url" })),
        ("x", json!({ "storageType": "reference", "contentType": "t", "url": "https://x/\r\nset-cookie: a" })),
        ("x", json!({ "storageType": "error", "reason": "bad-mood", "message": "m" })),
        ("x", json!({ "storageType": "error", "reason": "too-large-file-on-worker", "message": "m".repeat(4097) })),
    ] {
        create(name, body).await.refused(400, "InputValidationError");
    }
    create("%00", json!({})).await.refused(400, "InvalidRequestArguments");
    create(&"x".repeat(1025), json!({})).await.refused(400, "InvalidRequestArguments");
}

#[tokio::test]
async fn names_that_look_like_paths_are_only_names() {
    let rig = Rig::start().await;
    let (id, claim) = rig.running().await;
    for name in ["..%2F..%2F..%2Fetc%2Fpasswd", "%2Fabsolute", "a%2F%2Fb", "public%2F.%2F.", "%25%2e", "ünï", "a?b#c%3F"] {
        let name = name.replace('?', "%3F").replace('#', "%23");
        let url = put_url(&rig, &id, &name, &claim).await;
        assert!(put(&rig, &url, b"bytes").await.is_success(), "{name} {url}");
        assert_eq!(content(&rig, &id, &name).await.2, b"bytes", "{name}");
    }
    let dir = rig.store.path().join("artifacts");
    assert_eq!(files(&dir), rig.server.published(&id).len());
    assert!(
        rig.server
            .published(&id)
            .iter()
            .all(|artifact| artifact.path.as_ref().is_some_and(|path| path.parent() == Some(&*dir)))
    );
}

#[tokio::test]
async fn the_rest_of_a_download_can_be_asked_for() {
    let rig = Rig::start().await;
    let (id, claim) = rig.running().await;
    let url = put_url(&rig, &id, "public%2Fa", &claim).await;
    assert!(put(&rig, &url, b"0123456789").await.is_success());
    let found = rig.get(&format!("/task/{id}/artifacts/public%2Fa")).await;
    let from = found.body["url"].as_str().expect("a URL").to_owned();
    let get = async |range: &str, version: Option<&str>| {
        let mut request = rig.http.get(&from).header("range", range);
        if let Some(version) = version {
            request = request.header("if-range", version);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.text().await.expect("a body"))
    };
    let (status, headers, rest) = get("bytes=4-", None).await;
    assert_eq!((status, &*rest, header(&headers, "content-range")), (206, "456789", "bytes 4-9/10"));
    let version = header(&headers, "etag").to_owned();
    assert_eq!(get("bytes=9-", Some(&version)).await.2, "9");
    let (status, headers, _) = get("bytes=10-", None).await;
    assert_eq!((status, header(&headers, "content-range")), (416, "bytes */10"));
    assert!(put(&rig, &url, b"abcdefghij").await.is_success());
    let (status, _, whole) = get("bytes=4-", Some(&version)).await;
    assert_eq!((status, &*whole), (200, "abcdefghij"), "another upload is another version");
}
