//! Objects, and artifacts that are objects.

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

const OBJECT: &str = "/api/object/v1";
const FAR: &str = "2099-01-01T00:00:00.000Z";

fn hex(algorithm: &'static digest::Algorithm, bytes: &[u8]) -> String {
    object::bytes::hex(digest::digest(algorithm, bytes).as_ref())
}

fn upload(id: &str, methods: impl Into<Value>) -> Value {
    let methods = methods.into();
    json!({ "projectId": "p", "uploadId": id, "expires": FAR, "proposedUploadMethods": methods })
}

fn inline(bytes: &[u8]) -> Value {
    json!({ "dataInline": { "contentType": "text/plain", "objectData": BASE64_STANDARD.encode(bytes) } })
}

fn put_url(length: u64) -> Value {
    json!({ "putUrl": { "contentType": "text/plain", "contentLength": length } })
}

/// Where an answer without JSON leads.
fn location(answer: &Answer) -> String {
    assert_eq!(answer.body, Value::Null, "clients that find JSON do not follow");
    answer.headers["location"].to_str().expect("a URL").to_owned()
}

impl Rig {
    async fn object(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.root(method, &format!("{OBJECT}{path}"), body).await
    }

    async fn finish(&self, name: &str, id: &str, hashes: Value) -> Answer {
        let body = json!({ "projectId": "p", "uploadId": id, "hashes": hashes });
        self.object(Method::POST, &format!("/finish-upload/{name}"), Some(&body)).await
    }

    async fn fetch(&self, url: impl Into<Value>) -> (u16, Vec<u8>) {
        let url = url.into();
        let response = self.http.get(url.as_str().expect("a URL")).send().await.expect("an answer");
        (response.status().as_u16(), response.bytes().await.expect("a body").to_vec())
    }
}

#[tokio::test]
async fn an_object_is_uploaded_inline_or_by_url_and_downloaded() {
    let rig = Rig::start().await;
    for (name, methods) in [("in%2Fline", inline(b"12345")), ("by/url", put_url(5))] {
        let id = slugid(&SystemRandom);
        let answer = rig.object(Method::PUT, &format!("/upload/{name}"), Some(&upload(&id, methods))).await.ok();
        assert_eq!((&answer["uploadId"], &answer["projectId"], &answer["expires"]), (&json!(id), &json!("p"), &json!(FAR)));
        match answer["uploadMethod"].get("putUrl") {
            None => assert_eq!(answer["uploadMethod"], json!({ "dataInline": true })),
            Some(put) => {
                assert_eq!(put["headers"], json!({ "Content-Type": "text/plain", "Content-Length": "5" }));
                let request =
                    rig.http.put(put["url"].as_str().expect("a URL")).header("content-type", "text/plain").body("12345");
                assert_eq!(request.send().await.expect("an answer").status(), 200);
            }
        }
        let accept = json!({ "acceptDownloadMethods": { "getUrl": true, "simple": true } });
        let download = async |accept: &Value| rig.object(Method::PUT, &format!("/start-download/{name}"), Some(accept)).await;
        download(&accept).await.refused(404, "ResourceNotFound");
        let hashes = json!({ "sha256": hex(&digest::SHA256, b"12345"), "sha512": hex(&digest::SHA512, b"12345") });
        rig.finish(name, &id, hashes.clone()).await.ok();
        rig.finish(name, &id, hashes.clone()).await.ok();
        let answer = download(&accept).await.ok();
        assert_eq!((&answer["method"], &answer["hashes"]), (&json!("getUrl"), &hashes));
        assert_eq!(rig.fetch(answer["url"].clone()).await, (200, b"12345".to_vec()));
        let simple = download(&json!({ "acceptDownloadMethods": { "simple": true } })).await.ok();
        assert_eq!((&simple["method"], rig.fetch(simple["url"].clone()).await.0), (&json!("simple"), 200));
        download(&json!({ "acceptDownloadMethods": {} })).await.refused(406, "NoMatchingMethod");
        let metadata = rig.object(Method::GET, &format!("/metadata/{name}"), None).await.ok();
        assert_eq!(metadata, json!({ "projectId": "p", "expires": FAR, "hashes": hashes }));
        let redirect = rig.object(Method::GET, &format!("/download/{name}"), None).await;
        assert_eq!(redirect.status, StatusCode::SEE_OTHER);
        assert_eq!(rig.fetch(location(&redirect)).await.1, b"12345");
        rig.object(Method::PUT, &format!("/upload/{name}"), Some(&upload(&id, inline(b"x"))))
            .await
            .refused(409, "RequestConflict");
    }
}

#[tokio::test]
async fn only_what_was_declared_is_taken() {
    let rig = Rig::start().await;
    let id = slugid(&SystemRandom);
    let create = async |id: &str, methods: Value| rig.object(Method::PUT, "/upload/a", Some(&upload(id, methods))).await;
    let url = create(&id, put_url(5)).await.ok()["uploadMethod"]["putUrl"]["url"].as_str().expect("a URL").to_owned();
    let put = async |content_type: &'static str, body: &'static str| {
        rig.http.put(&url).header("content-type", content_type).body(body).send().await.expect("an answer").status().as_u16()
    };
    for (content_type, body) in [("text/plain", "1234"), ("text/plain", "123456"), ("text/html", "12345")] {
        assert_eq!(put(content_type, body).await, 403, "{content_type} {body:?}");
    }
    // A body that ends before its length.
    let address = rig.server.address();
    let path = url.split_once(&address.to_string()).expect("the address").1;
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!("PUT {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n12");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.shutdown().await.expect("half closed");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    rig.finish("a", &id, json!({})).await.refused(400, "InputError");
    assert_eq!(put("text/plain", "12345").await, 200);

    let other = slugid(&SystemRandom);
    create(&other, put_url(5)).await.refused(409, "RequestConflict");
    rig.finish("a", &other, json!({})).await.refused(409, "RequestConflict");
    let message = rig.finish("a", &id, json!({ "sha256": hex(&digest::SHA256, b"54321") })).await.refused(400, "InputError");
    assert!(message.contains(&hex(&digest::SHA256, b"12345")), "{message}");
    rig.finish("a", &id, json!({ "sha256": hex(&digest::SHA256, b"12345") })).await.ok();
    // What was stated at the beginning counts at the end.
    let mut stated = upload(&other, inline(b"12345"));
    stated["hashes"] = json!({ "sha512": hex(&digest::SHA512, b"54321") });
    rig.object(Method::PUT, "/upload/c", Some(&stated)).await.ok();
    rig.finish("c", &other, json!({})).await.refused(400, "InputError");
    rig.finish("c", &other, json!({ "sha512": hex(&digest::SHA512, b"12345") })).await.refused(409, "RequestConflict");
    rig.finish("b", &id, json!({})).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn wrong_bodies_and_names_are_refused() {
    let rig = Rig::start().await;
    let id = slugid(&SystemRandom);
    let mut hashed = upload(&id, json!({}));
    hashed["hashes"] = json!({ "sha256": "short" });
    let mut past = upload(&id, json!({}));
    past["expires"] = json!("2020-01-01T00:00:00.000Z");
    for (body, code) in [
        (upload("no-slugid", json!({})), "InputValidationError"),
        (upload(&id, json!({ "other": {} })), "InputValidationError"),
        (upload(&id, json!({ "putUrl": { "contentType": "t" } })), "InputValidationError"),
        (upload(&id, json!({ "putUrl": { "contentType": "t\r\nx: y", "contentLength": 1 } })), "InputValidationError"),
        (upload(&id, json!({ "dataInline": { "contentType": "t", "objectData": "???" } })), "InputValidationError"),
        (upload(&id, inline(&[0; 8193])), "InputValidationError"),
        (hashed, "InputValidationError"),
        (past, "InputError"),
    ] {
        rig.object(Method::PUT, "/upload/x", Some(&body)).await.refused(400, code);
    }
    for name in ["a%00", "a%0A", "%C3%A4", &"x".repeat(2049)] {
        let body = upload(&id, json!({}));
        rig.object(Method::PUT, &format!("/upload/{name}"), Some(&body)).await.refused(400, "InvalidRequestArguments");
    }
    let body = upload(&id, inline(b"x"));
    let path = format!("{OBJECT}/upload/x");
    rig.call_as(As::Nobody, Method::PUT, &path, Some(&body)).await.refused(403, "InsufficientScopes");
    for name in ["..%2F..%2Fx", "%2Fabsolute", "a%2F%2Fb"] {
        let id = slugid(&SystemRandom);
        rig.object(Method::PUT, &format!("/upload/{name}"), Some(&upload(&id, inline(b"x")))).await.ok();
        rig.finish(name, &id, json!({})).await.ok();
        let redirect = rig.object(Method::GET, &format!("/download/{name}"), None).await;
        assert_eq!(rig.fetch(location(&redirect)).await, (200, b"x".to_vec()), "{name}");
    }
    let objects = rig.store.path().join("artifacts/objects");
    assert_eq!(std::fs::read_dir(objects).expect("a directory").count(), 3);
}

#[tokio::test]
async fn artifacts_can_be_objects() {
    let rig = Rig::start().await;
    let (task, claim) = rig.running().await;
    let credentials = &claim["credentials"];
    let path = format!("/task/{task}/runs/0/artifacts/public%2Fo");
    let body = json!({ "storageType": "object", "contentType": "text/plain", "contentLength": 5, "expires": claim["task"]["expires"] });
    let create = async || rig.call_as(As::Task(credentials), Method::POST, &path, Some(&body)).await.ok();
    let made = create().await;
    assert_eq!(create().await["uploadId"], made["uploadId"], "the same call again");
    let finish =
        async |id: &Value| rig.call_as(As::Task(credentials), Method::PUT, &path, Some(&json!({ "uploadId": id }))).await;
    let content = format!("/task/{task}/artifact-content/public%2Fo");
    rig.get(&content).await.refused(404, "ResourceNotFound");

    let (name, upload_id) = (made["name"].as_str().expect("a name"), made["uploadId"].as_str().expect("an id"));
    let mut upload = upload(upload_id, inline(b"12345"));
    upload["projectId"] = made["projectId"].clone();
    let of_object = As::Task(&made["credentials"]);
    rig.call_as(of_object, Method::PUT, &format!("{OBJECT}/upload/{name}"), Some(&upload)).await.ok();
    let done = json!({ "projectId": made["projectId"], "uploadId": upload_id, "hashes": {} });
    let path_of_end = format!("{OBJECT}/finish-upload/{name}");
    rig.call_as(As::Task(&made["credentials"]), Method::POST, &path_of_end, Some(&done)).await.ok();
    finish(&json!(slugid(&SystemRandom))).await.refused(400, "InputError");
    assert_eq!(finish(&made["uploadId"]).await.status, StatusCode::NO_CONTENT);
    assert_eq!(finish(&made["uploadId"]).await.status, StatusCode::NO_CONTENT);

    let found = rig.call_as(As::Nobody, Method::GET, &path, None).await;
    assert_eq!((found.status, &found.body["storageType"]), (StatusCode::SEE_OTHER, &json!("object")));
    assert_eq!(found.headers["x-taskcluster-artifact-storage-type"], "object");
    assert_eq!(rig.fetch(found.body["url"].clone()).await, (200, b"12345".to_vec()));
    let found = rig.get(&content).await.ok();
    assert_eq!((&found["storageType"], &found["name"]), (&json!("object"), &made["name"]));
    let accept = json!({ "acceptDownloadMethods": { "simple": true } });
    let start = format!("{OBJECT}/start-download/{name}");
    let download = rig.call_as(As::Task(&found["credentials"]), Method::PUT, &start, Some(&accept)).await.ok();
    assert_eq!(rig.fetch(download["url"].clone()).await.1, b"12345");
    rig.call_as(As::Task(&found["credentials"]), Method::PUT, &format!("{OBJECT}/upload/{name}"), Some(&upload))
        .await
        .refused(403, "InsufficientScopes");
    let published = rig.server.published(&task);
    assert_eq!((published[0].storage_type, published[0].bytes), ("object", Some(5)));
    assert_eq!(std::fs::read(published[0].path.as_ref().expect("a path")).expect("a file"), b"12345");

    // What is not an object is not finished, and names of objects are ASCII.
    let link = json!({ "storageType": "link", "artifact": "public/o", "expires": claim["task"]["expires"] });
    let to_link = format!("/task/{task}/runs/0/artifacts/l");
    rig.call_as(As::Task(credentials), Method::POST, &to_link, Some(&link)).await.ok();
    let end = json!({ "uploadId": upload_id });
    rig.call_as(As::Task(credentials), Method::PUT, &to_link, Some(&end)).await.refused(400, "InputError");
    let umlaut = format!("/task/{task}/runs/0/artifacts/%C3%A4");
    rig.call_as(As::Task(credentials), Method::POST, &umlaut, Some(&body)).await.refused(400, "InputError");
}
