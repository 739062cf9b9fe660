//! Secrets.

use super::*;

const SECRET: &str = "/api/secrets/v1/secret";

fn body(value: &str, expires: &str) -> Value {
    json!({ "secret": { "password": value }, "expires": expires })
}

#[tokio::test]
async fn secrets_are_set_read_listed_and_removed() {
    let rig = Rig::start().await;
    let far = "2099-01-01T00:00:00.000Z";
    for name in ["b", "project%2Fa%20b", "project/plain"] {
        rig.root(Method::PUT, &format!("{SECRET}/{name}"), Some(&body(name, far))).await.ok();
    }
    rig.root(Method::PUT, &format!("{SECRET}/b"), Some(&body("again", far))).await.ok();
    assert_eq!(rig.root(Method::GET, &format!("{SECRET}/b"), None).await.ok(), body("again", far));
    assert_eq!(
        rig.root(Method::GET, &format!("{SECRET}/project/a%20b"), None).await.ok()["secret"]["password"],
        "project%2Fa%20b"
    );
    let list = async |query: &str| rig.root(Method::GET, &format!("/api/secrets/v1/secrets{query}"), None).await.ok();
    assert_eq!(list("").await, json!({ "secrets": ["b", "project/a b", "project/plain"] }));
    let first = list("?limit=2").await;
    assert_eq!(first["secrets"], json!(["b", "project/a b"]));
    let rest = list(&format!("?limit=2&continuationToken={}", first["continuationToken"].as_str().expect("more"))).await;
    assert_eq!(rest, json!({ "secrets": ["project/plain"] }));
    rig.root(Method::DELETE, &format!("{SECRET}/b"), None).await.ok();
    rig.root(Method::DELETE, &format!("{SECRET}/b"), None).await.ok();
    rig.root(Method::GET, &format!("{SECRET}/b"), None).await.refused(404, "ResourceNotFound");
    rig.get("/api/secrets/v1/secrets?continuationToken=!").await.refused(400, "InvalidRequestArguments");
}

#[tokio::test]
async fn expired_secrets_are_gone_with_their_values() {
    let clock = Arc::new(TestClock::starting_at("2030-01-01T00:00:00Z".parse().expect("a date")));
    let rig = Rig::with(|options| options.clock = clock.clone()).await;
    let set = body("v", "2030-01-01T00:01:00.000Z");
    let at = |path: &str| rig.url(path);
    let call = async |method: Method, path: &str, body: Option<&Value>| {
        // Signed with the machine's clock a request would be too early for this server.
        let ts = std::time::UNIX_EPOCH + Duration::from_secs(rig.server.desk.now().as_second().cast_unsigned());
        let url = at(path);
        let key = hawk::Key::new(TOKEN, hawk::SHA256).expect("a key");
        let request = hawk::RequestBuilder::from_url(method.as_str(), &url).expect("a request").request();
        let nonce = slugid(&SystemRandom);
        let header = request.make_header_full(&hawk::Credentials { id: "root".into(), key }, ts, nonce).expect("a header");
        let mut request = rig.http.request(method, url).header("authorization", format!("Hawk {header}"));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        Answer::of(request).await
    };
    let path = format!("{SECRET}/a");
    call(Method::PUT, &path, Some(&set)).await.ok();
    assert_eq!(call(Method::GET, &path, None).await.ok(), set);
    clock.jump(SignedDuration::from_mins(1));
    let message = call(Method::GET, &path, None).await.refused(410, "ResourceExpired");
    assert!(message.contains("expired at 2030-01-01T00:01"), "{message}");
    assert_eq!(call(Method::GET, "/api/secrets/v1/secrets", None).await.ok(), json!({ "secrets": [] }));
    crate::local::secrets::sweep(&rig.server.desk.secrets, rig.server.desk.now());
    call(Method::GET, &path, None).await.refused(410, "ResourceExpired");
    clock.jump(SignedDuration::from_hours(25));
    crate::local::secrets::sweep(&rig.server.desk.secrets, rig.server.desk.now());
    call(Method::GET, &path, None).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn no_refusal_shows_a_value() {
    let rig = Rig::start().await;
    let far = "2099-01-01T00:00:00.000Z";
    let put = async |who: As<'_>, name: &str, body: Value| {
        rig.call_as(who, Method::PUT, &format!("{SECRET}/{name}"), Some(&body)).await
    };
    let mut wrong = body("hidden-value", far);
    wrong["more"] = json!("hidden-value");
    let refusals = [
        put(As::Nobody, "a", body("hidden-value", far)).await,
        put(As::Root, "a", wrong).await,
        put(As::Root, "a", body("hidden-value", "hidden-value")).await,
        put(As::Root, "a", json!({ "secret": "hidden-value", "expires": far })).await,
        put(As::Root, "a%00", body("hidden-value", far)).await,
        put(As::Root, &"x".repeat(1025), body("hidden-value", far)).await,
    ];
    for refusal in refusals {
        assert!(refusal.status.is_client_error() && refusal.body["requestInfo"].is_object(), "{}", refusal.body);
        assert!(!refusal.body.to_string().contains("hidden-value"), "{}", refusal.body);
    }
    rig.call_as(As::Nobody, Method::GET, &format!("{SECRET}/a"), None).await.refused(403, "InsufficientScopes");
    rig.call_as(As::Nobody, Method::DELETE, &format!("{SECRET}/a"), None).await.refused(403, "InsufficientScopes");
}
