//! Roles over the wire.

use super::*;

const AUTH: &str = "/api/auth/v1";

async fn create(rig: &Rig, id: &str, scopes: Value) -> Answer {
    let path = format!("{AUTH}/roles/{}", percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC));
    rig.root(Method::PUT, &path, Some(&json!({ "scopes": scopes, "description": "d" }))).await
}

#[tokio::test]
async fn roles_are_made_changed_listed_and_expanded() {
    let rig = Rig::start().await;
    create(&rig, "repo:*", json!(["queue:route:index.<..>.*", "assume:all"])).await.ok();
    create(&rig, "repo:*", json!(["queue:route:index.<..>.*", "assume:all"])).await.ok();
    create(&rig, "repo:*", json!([])).await.refused(409, "RequestConflict");
    create(&rig, "all", json!(["x", "assume:repo:all"])).await.ok();
    let expand = async |method: Method, scopes: Value| {
        let answer = rig.root(method, &format!("{AUTH}/scopes/expand"), Some(&json!({ "scopes": scopes }))).await.ok();
        answer["scopes"].clone()
    };
    let expected =
        json!(["assume:all", "assume:repo:all", "assume:repo:me", "queue:route:index.all.*", "queue:route:index.me.*", "x"]);
    assert_eq!(expand(Method::POST, json!(["assume:repo:me"])).await, expected);
    assert_eq!(expand(Method::GET, json!(["assume:repo:me"])).await, expected);
    let role = rig.root(Method::GET, &format!("{AUTH}/roles/all"), None).await.ok();
    assert_eq!((&role["roleId"], &role["scopes"]), (&json!("all"), &json!(["x", "assume:repo:all"])));
    let update = json!({ "scopes": ["y"], "description": "" });
    rig.root(Method::POST, &format!("{AUTH}/roles/all"), Some(&update)).await.ok();
    assert_eq!(expand(Method::POST, json!(["assume:all"])).await, json!(["assume:all", "y"]));

    let ids = rig.root(Method::GET, &format!("{AUTH}/roleids/?limit=2"), None).await.ok();
    assert_eq!(ids["roleIds"], json!(["all", "anonymous"]));
    let next = format!("{AUTH}/roles2/?continuationToken={}", ids["continuationToken"].as_str().expect("more"));
    let rest = rig.root(Method::GET, &next, None).await.ok();
    assert_eq!((rest["roles"][0]["roleId"].clone(), rest.get("continuationToken")), (json!("repo:*"), None));
    assert_eq!(rig.root(Method::GET, &format!("{AUTH}/roles/"), None).await.ok().as_array().map(Vec::len), Some(3));
    rig.root(Method::DELETE, &format!("{AUTH}/roles/all"), None).await.ok();
    rig.root(Method::GET, &format!("{AUTH}/roles/all"), None).await.refused(404, "ResourceNotFound");
    assert_eq!(expand(Method::POST, json!(["assume:all"])).await, json!(["assume:all"]));
}

#[tokio::test]
async fn roles_that_never_end_are_refused_and_so_are_scopes_that_nobody_has() {
    let rig = Rig::start().await;
    let message = create(&rig, "a*", json!(["assume:a<..>x"])).await.refused(400, "InputError");
    assert!(message.contains("without end"), "{message}");
    // Two of them, each fine alone.
    create(&rig, "b*", json!(["assume:c<..>1"])).await.ok();
    create(&rig, "c*", json!(["assume:b<..>2"])).await.refused(400, "InputError");
    create(&rig, "d", json!(["ä"])).await.refused(400, "InputValidationError");
    create(&rig, "d", json!(["a**"])).await.refused(400, "InputValidationError");
    create(&rig, "anonymous", json!(["*"])).await.refused(409, "RequestConflict");
    let body = json!({ "scopes": [], "description": "" });
    rig.call_as(As::Nobody, Method::PUT, &format!("{AUTH}/roles/x"), Some(&body)).await.refused(403, "InsufficientScopes");
}

#[tokio::test]
async fn the_anonymous_role_can_be_another_one() {
    let roster = Roster::parse("roster", b"roles: [{roleId: anonymous, scopes: ['secrets:get:public']}]").map_err(drop);
    let rig = Rig::with(|options| options.roster = roster.expect("a roster")).await;
    let id = rig.create(|_| {}).await;
    let ask = async |path: &str| rig.call_as(As::Nobody, Method::GET, path, None).await;
    ask(&format!("/task/{id}/status")).await.refused(403, "InsufficientScopes");
    ask("/api/secrets/v1/secret/public").await.refused(404, "ResourceNotFound");
}
