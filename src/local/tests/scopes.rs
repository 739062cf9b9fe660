//! Expanding scopes.

use super::*;

/// Posts this body to `expandScopes`, unsigned: everybody may call it.
async fn expand(rig: &Rig, body: &Value) -> Answer {
    let url = format!("{}/api/auth/v1/scopes/expand", rig.server.root_url());
    let response = rig.http.post(url).header("content-type", "application/json").body(body.to_string());
    let response = response.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.expect("a body");
    Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

#[tokio::test]
async fn a_server_without_roles_gives_the_set_back_in_its_shortest_form() {
    let rig = Rig::start().await;
    let answer = expand(&rig, &json!({ "scopes": ["b", "assume:repo:x", "a:b", "a:*"] })).await.ok();
    assert_eq!(answer, json!({ "scopes": ["a:*", "assume:repo:x", "b"] }));
    assert_eq!(expand(&rig, &json!({ "scopes": [] })).await.ok(), json!({ "scopes": [] }));
}

#[tokio::test]
async fn what_is_no_set_of_scopes_is_refused() {
    let rig = Rig::start().await;
    for (body, problem) in [
        (json!({}), "scopes is required"),
        (json!([]), "must be an object"),
        (json!({ "scopes": "a" }), "must be a list"),
        (json!({ "scopes": ["a", "a"] }), "scopes[1] is there twice"),
        (json!({ "scopes": ["ä"] }), "scopes[0] must be printable ASCII"),
        (json!({ "scopes": [], "x": 1 }), "x is not a field here"),
    ] {
        let message = expand(&rig, &body).await.refused(400, "InputValidationError");
        assert!(message.contains(problem), "{problem:?} is not in {message}");
    }
}
