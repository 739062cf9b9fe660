//! Who may call: the roster, clients made by calls, verified requests, tokens, and signatures that come twice.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::*;

const AUTH: &str = "/api/auth/v1";
const OTHER: &str = "no-real-secret-no-real-secret-no-real-secret";

fn roster() -> Roster {
    let text = format!(
        "clients:\n  - {{clientId: some/one, accessToken: {OTHER}, scopes: ['assume:repo:me/*', 'auth:websocktunnel-token:*']}}\n\
         \x20 - {{clientId: late, accessToken: {OTHER}, scopes: [], expires: 2020-01-01T00:00:00Z}}\n\
         \x20 - {{clientId: barred, accessToken: {OTHER}, scopes: [], disabled: true}}\n\
         roles:\n  - {{roleId: 'repo:*', scopes: ['secrets:get:<..>']}}\nwebsocktunnelSecret: {OTHER}\n"
    );
    Roster::parse("roster", text.as_bytes()).map_err(|problems| problems[0].to_string()).expect("a roster")
}

async fn current(rig: &Rig, who: As<'_>) -> Answer {
    rig.call_as(who, Method::GET, &format!("{AUTH}/scopes/current"), None).await
}

#[tokio::test]
async fn clients_of_the_roster_sign_with_what_their_roles_give() {
    let rig = Rig::with(|options| options.roster = roster()).await;
    let scopes = current(&rig, As::Client("some/one", OTHER)).await.ok()["scopes"].clone();
    let has = |scope: &str| scopes.as_array().expect("a list").iter().any(|have| have == scope);
    assert!(has("secrets:get:me/*") && has("assume:repo:me/*") && has("assume:anonymous") && has("queue:status:*"), "{scopes}");
    assert!(!has("*"));
    let secret = rig.call_as(As::Client("some/one", OTHER), Method::GET, "/api/secrets/v1/secret/me%2Fx", None).await;
    secret.refused(404, "ResourceNotFound");
    let secret = rig.call_as(As::Client("some/one", OTHER), Method::GET, "/api/secrets/v1/secret/you%2Fx", None).await;
    assert!(secret.refused(403, "InsufficientScopes").contains("secrets:get:you/x"));
    for (id, token, why) in [
        ("late", OTHER, "expired at 2020"),
        ("barred", OTHER, "is disabled"),
        ("some/one", "another-token-another-token", "signature does not belong"),
        ("stranger", OTHER, "does not exist"),
    ] {
        let message = current(&rig, As::Client(id, token)).await.refused(401, "AuthenticationFailed");
        assert!(message.contains(why), "{why:?} is not in {message}");
    }
}

#[tokio::test]
async fn of_one_signature_sent_by_two_only_one_is_answered() {
    let rig = Rig::start().await;
    let url = rig.url("/claim-work/p%2Fw");
    let header = sign(("root", TOKEN), None, &Method::POST, &url);
    let body = json!({ "workerGroup": "g", "workerId": "w", "tasks": 1 });
    let send = || Answer::of(rig.http.post(url.clone()).header("authorization", &header).body(body.to_string()));
    let work = async {
        eventually("one of them is in line", async || rig.server.desk.waiting() == 1).await;
        // Time for the other one, which must not get there.
        for _ in 0..10 {
            rig.get("/ping").await.ok();
            assert_eq!(rig.server.desk.waiting(), 1);
        }
        rig.create(|_| {}).await
    };
    let (one, other, id) = tokio::join!(send(), send(), work);
    let (served, refused) = if one.status == 200 { (one, other) } else { (other, one) };
    assert_eq!(served.ok()["tasks"][0]["status"]["taskId"], json!(id));
    assert!(refused.refused(401, "AuthenticationFailed").contains("used before"));
}

#[tokio::test]
async fn a_signature_works_until_it_was_answered_and_then_no_more() {
    let rig = Rig::start().await;
    let url = rig.url(&format!("{AUTH}/scopes/current"));
    let send = async |header: &str| rig.http.get(url.clone()).header("authorization", header).send().await.expect("an answer");
    let header = sign(("root", TOKEN), None, &Method::GET, &url);
    assert_eq!(send(&header).await.status(), 200);
    let again = send(&header).await;
    assert_eq!(again.status(), 401);
    assert!(again.text().await.expect("a body").contains("used before"));
    assert_eq!(send(&sign(("root", TOKEN), None, &Method::GET, &url)).await.status(), 200);
    // Refusals are answers, too; a client that was told so has no reason to say the same again.
    let missing = rig.url("/task/fN1SbArXTPSVFNUvaOlinQ");
    let header = sign(("root", TOKEN), None, &Method::GET, &missing);
    let send =
        async || rig.http.get(missing.clone()).header("authorization", &header).send().await.expect("an answer").status();
    assert_eq!((send().await.as_u16(), send().await.as_u16()), (404, 401));
}

#[tokio::test]
async fn a_request_without_an_answer_may_be_sent_again_as_it_was_signed() {
    use tokio::io::AsyncWriteExt as _;
    let rig = Rig::start().await;
    let url = rig.url("/claim-work/p%2Fw");
    let header = sign(("root", TOKEN), None, &Method::POST, &url);
    let body = json!({ "workerGroup": "g", "workerId": "w", "tasks": 1 }).to_string();
    // A long poll whose client goes away, as one that lost its connection does.
    let mut stream = tokio::net::TcpStream::connect(rig.server.address()).await.expect("a connection");
    let request = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\nauthorization: {header}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        url.path(),
        rig.server.address(),
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    eventually("the worker is not in line", async || rig.server.desk.waiting() == 1).await;
    drop(stream);
    eventually("the worker is still in line", async || rig.server.desk.waiting() == 0).await;
    let id = rig.create(|_| {}).await;
    let again = rig.http.post(url).header("authorization", header).header("content-type", "application/json").body(body);
    let claims = Answer::of(again).await.ok();
    assert_eq!(claims["tasks"][0]["status"]["taskId"], json!(id), "{claims}");
}

#[tokio::test]
async fn clients_are_made_changed_and_forgotten_by_calls() {
    let rig = Rig::with(|options| options.roster = roster()).await;
    let path = format!("{AUTH}/clients/made%2Fone");
    let body =
        json!({ "expires": "2099-01-01T00:00:00.000Z", "description": "d", "scopes": ["auth:create-client:made/*", "x:*"] });
    let made = rig.root(Method::PUT, &path, Some(&body)).await.ok();
    let token = made["accessToken"].as_str().expect("a token").to_owned();
    assert_eq!(rig.root(Method::PUT, &path, Some(&body)).await.ok()["accessToken"], json!(token), "the same call again");
    let mut other = body.clone();
    other["description"] = json!("another");
    rig.root(Method::PUT, &path, Some(&other)).await.refused(409, "RequestConflict");
    let shown = rig.root(Method::GET, &path, None).await.ok();
    assert!(shown.get("accessToken").is_none() && shown["disabled"] == false, "{shown}");
    assert_eq!(shown["expandedScopes"], json!(["auth:create-client:made/*", "x:*"]));
    current(&rig, As::Client("made/one", &token)).await.ok();
    // It hands on what it has, and nothing else.
    let child = |scopes: Value| json!({ "expires": "2099-01-01T00:00:00.000Z", "description": "", "scopes": scopes });
    let create = async |id: &str, scopes: Value| {
        let path = format!("{AUTH}/clients/{id}");
        rig.call_as(As::Client("made/one", &token), Method::PUT, &path, Some(&child(scopes))).await
    };
    create("made%2Ftwo", json!(["x:y"])).await.ok();
    create("made%2Fthree", json!(["y"])).await.refused(403, "InsufficientScopes");
    create("other", json!([])).await.refused(403, "InsufficientScopes");
    rig.root(Method::POST, &format!("{path}/disable"), None).await.ok();
    current(&rig, As::Client("made/one", &token)).await.refused(401, "AuthenticationFailed");
    rig.root(Method::POST, &format!("{path}/enable"), None).await.ok();
    current(&rig, As::Client("made/one", &token)).await.ok();
    let reset = rig.root(Method::POST, &format!("{path}/reset"), None).await.ok()["accessToken"].clone();
    current(&rig, As::Client("made/one", &token)).await.refused(401, "AuthenticationFailed");
    current(&rig, As::Client("made/one", reset.as_str().expect("a token"))).await.ok();
    rig.root(Method::DELETE, &path, None).await.ok();
    rig.root(Method::GET, &path, None).await.refused(404, "ResourceNotFound");

    let page = rig.root(Method::GET, &format!("{AUTH}/clients/?limit=1&prefix=made"), None).await.ok();
    assert_eq!((page["clients"][0]["clientId"].clone(), page.get("continuationToken")), (json!("made/two"), None));
    let page = rig.root(Method::GET, &format!("{AUTH}/clients/?limit=2"), None).await.ok();
    let next = format!("{AUTH}/clients/?continuationToken={}", page["continuationToken"].as_str().expect("more"));
    let second = rig.root(Method::GET, &next, None).await.ok();
    let ids =
        |page: &Value| page["clients"].as_array().expect("a list").iter().map(|c| c["clientId"].clone()).collect::<Vec<_>>();
    assert_eq!(
        [ids(&page), ids(&second)].concat(),
        ["barred", "late", "made/two", "root", "some/one", "static/taskcluster/queue"]
    );

    let fixed = rig.root(Method::DELETE, &format!("{AUTH}/clients/some%2Fone"), None).await.refused(409, "RequestConflict");
    assert!(fixed.contains("started with"), "{fixed}");
    rig.root(Method::PUT, &format!("{AUTH}/clients/static%2Fx"), Some(&child(json!([])))).await.refused(400, "InputError");
    rig.root(Method::PUT, &format!("{AUTH}/clients/a%20b"), Some(&child(json!([]))))
        .await
        .refused(400, "InvalidRequestArguments");
}

#[tokio::test]
async fn requests_are_verified_for_others() {
    let rig = Rig::with(|options| options.roster = roster()).await;
    let url: Url = "http://tasks.example:8080/a/b?c=d".parse().expect("a URL");
    let ask = async |change: &dyn Fn(&mut Value)| {
        let authorization = sign(("some/one", OTHER), None, &Method::GET, &url);
        let mut body = json!({ "method": "get", "resource": "/a/b?c=d", "host": "tasks.example", "port": 8080, "authorization": authorization });
        change(&mut body);
        rig.call_as(As::Nobody, Method::POST, &format!("{AUTH}/authenticate-hawk"), Some(&body)).await
    };
    let answer = ask(&|_| ()).await.ok();
    assert_eq!(
        (&answer["status"], &answer["scheme"], &answer["clientId"]),
        (&json!("auth-success"), &json!("hawk"), &json!("some/one"))
    );
    assert!(answer["scopes"].as_array().expect("scopes").contains(&json!("secrets:get:me/*")), "{answer}");
    assert!(answer["expires"].as_str().is_some_and(|date| date.starts_with("3000-")), "{answer}");
    for change in [
        &|body: &mut Value| body["method"] = json!("post"),
        &|body: &mut Value| body["resource"] = json!("/a/b"),
        &|body: &mut Value| body["port"] = json!(8081),
    ] as [&dyn Fn(&mut Value); 3]
    {
        let answer = ask(change).await.ok();
        assert_eq!(answer["status"], "auth-failed");
        assert!(answer["message"].as_str().is_some_and(|message| message.contains("signature")), "{answer}");
    }
    let nobody = ask(&|body| drop(body.as_object_mut().expect("an object").remove("authorization"))).await.ok();
    assert_eq!((&nobody["status"], &nobody["scheme"]), (&json!("no-auth"), &json!("none")));
    let key = hawk::Key::new(OTHER, hawk::SHA256).expect("a key");
    let credentials = hawk::Credentials { id: "some/one".into(), key };
    let request = hawk::RequestBuilder::from_url("GET", &url).expect("a request").request();
    let bewit = request.make_bewit_with_ttl(&credentials, Duration::from_secs(60)).expect("a bewit");
    let by_bewit = |body: &mut Value| {
        body.as_object_mut().expect("an object").remove("authorization");
        body["resource"] = json!(format!("/a/b?c=d&bewit={}", bewit.to_str()));
    };
    assert_eq!(ask(&by_bewit).await.ok()["status"], "auth-success");
    ask(&|body| body["method"] = json!("GET")).await.refused(400, "InputValidationError");
    ask(&|body| body["port"] = json!(70_000)).await.refused(400, "InputValidationError");
}

#[tokio::test]
async fn signatures_can_be_tried_out() {
    let rig = Rig::start().await;
    let url = rig.url(&format!("{AUTH}/test-authenticate"));
    let test = async |header: &str, has: Value, needs: Value| {
        let body = json!({ "clientScopes": has, "requiredScopes": needs });
        let request = rig.http.post(url.clone()).header("authorization", header).header("content-type", "application/json");
        let answer = Answer::of(request.body(body.to_string())).await;
        (answer.status.as_u16(), answer.body)
    };
    let header = sign(("tester", "no-secret"), None, &Method::POST, &url);
    let (status, answer) = test(&header, json!(["a:*"]), json!(["a:b"])).await;
    assert_eq!((status, &answer["clientId"], &answer["scopes"]), (200, &json!("tester"), &json!(["a:*", "assume:anonymous"])));
    assert_eq!(test(&header, json!(["a:*"]), json!(["b"])).await.0, 403);
    assert_eq!(test(&header, json!(["a:*:c"]), json!(["a:b:c"])).await.0, 403, "a star in the middle is a star");
    assert_eq!(test(&sign(("tester", "x"), None, &Method::POST, &url), json!([]), json!([])).await.0, 401);
    assert_eq!(test(&sign(("root", TOKEN), None, &Method::POST, &url), json!([]), json!([])).await.0, 401);
    let get = rig.url(&format!("{AUTH}/test-authenticate-get/"));
    rig.call_at(As::Client("tester", "no-secret"), Method::GET, get, None).await.ok();
}

#[tokio::test]
async fn tunnels_get_tokens_if_there_is_a_secret() {
    let rig = Rig::with(|options| options.roster = roster()).await;
    let path = format!("{AUTH}/websocktunnel/aud/group.id.60098");
    let answer = rig.call_as(As::Client("some/one", OTHER), Method::GET, &path, None).await.ok();
    assert_eq!((&answer["wstAudience"], &answer["wstClient"]), (&json!("aud"), &json!("group.id.60098")));
    let token = answer["token"].as_str().expect("a token");
    let parts: Vec<&str> = token.split('.').collect();
    let decode =
        |part: &str| serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON");
    assert_eq!(decode(parts[0]), json!({ "alg": "HS256", "typ": "JWT" }));
    let claims = decode(parts[1]);
    assert_eq!((&claims["tid"], &claims["aud"], &claims["sub"]), (&json!("group.id.60098"), &json!("aud"), &json!("some/one")));
    assert!(claims["nbf"].as_i64() < claims["iat"].as_i64() && claims["iat"].as_i64() < claims["exp"].as_i64(), "{claims}");
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, OTHER.as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.decode(parts[2]).expect("base64");
    let signed = format!("{}.{}", parts[0], parts[1]);
    assert!(aws_lc_rs::hmac::verify(&key, signed.as_bytes(), &signature).is_ok());
    rig.call_as(As::Nobody, Method::GET, &path, None).await.refused(403, "InsufficientScopes");
    rig.root(Method::GET, &format!("{AUTH}/websocktunnel/a%20b/x"), None).await.refused(400, "InvalidRequestArguments");

    let without = Rig::start().await;
    let message = without.root(Method::GET, &path, None).await.refused(404, "ResourceNotFound");
    assert!(message.contains("not offered"), "{message}");
    without.root(Method::GET, &format!("{AUTH}/sentry/p/dsn"), None).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn every_service_says_that_it_is_there() {
    let rig = Rig::start().await;
    for service in ["queue", "auth", "index", "purge-cache", "secrets", "object", "worker-manager"] {
        for call in ["ping", "__heartbeat__", "__lbheartbeat__", "__version__"] {
            rig.call_as(As::Nobody, Method::GET, &format!("/api/{service}/v1/{call}"), None).await.ok();
        }
    }
    // Some clients leave the slash at the end out.
    for path in ["clients", "clients/", "roles", "roles2", "roleids", "roleids/"] {
        rig.get(&format!("{AUTH}/{path}")).await.ok();
    }
    for path in [
        "/api/github/v1/repository/a/b",
        "/api/auth/v1/azure/accounts",
        "/api/hooks/v1/hooks",
        "/api/worker-manager/v1/worker-pool-errors/stats",
    ] {
        let message = rig.get(path).await.refused(404, "ResourceNotFound");
        assert!(message.contains("not offered"), "{message}");
    }
}
