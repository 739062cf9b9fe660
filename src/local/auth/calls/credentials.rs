//! Calls that verify signatures, and those that give out what opens something else.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{ANY_SCOPE, body};
use crate::local::{
    auth::{Caller, Clients, Need, Signed, tunnel},
    check::Text,
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    reply::Reply,
    view::Date,
};

/// What `testAuthenticateGet` gives its caller.
const TESTER_SCOPES: &[&str] = &["test:*", "auth:create-client:test:*"];
/// And what it wants it to have.
const TESTER_NEEDS: &str = "test:authenticate-get";

const METHODS: &[&str] = &[
    "get",
    "post",
    "put",
    "head",
    "delete",
    "options",
    "trace",
    "copy",
    "lock",
    "mkcol",
    "move",
    "purge",
    "propfind",
    "proppatch",
    "unlock",
    "report",
    "mkactivity",
    "checkout",
    "merge",
    "m-search",
    "notify",
    "subscribe",
    "unsubscribe",
    "patch",
    "search",
    "connect",
];

/// `authenticateHawk`: verifies a request that somebody else got. Whether it was sent before is that somebody's affair.
pub(crate) async fn hawk(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    const METHOD: Text = Text { min: 1, max: 16, is: |word| METHODS.contains(&word), shape: "a method in lower case" };
    const HOST: Text = Text {
        min: 1,
        max: 253,
        is: |host| host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b)),
        shape: "a host name",
    };
    const ANY: Text = Text::up_to(usize::MAX);
    let read = body("authenticateHawk", &call.body, |fields| {
        fields.only(&["method", "resource", "host", "port", "authorization", "sourceIp"]);
        fields.optional_text("sourceIp", &ANY);
        let (method, resource) = (fields.text("method", &METHOD), fields.text("resource", &ANY).map(str::to_owned));
        let host = fields.text("host", &HOST);
        fields.required("port");
        let port = fields.optional_integer("port", 0..=u64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok());
        let authorization = fields.optional_text("authorization", &ANY).map(str::to_owned);
        Some((method?.to_ascii_uppercase(), resource?, host?.to_ascii_lowercase(), port?, authorization))
    })?;
    let Some((method, resource, host, port, authorization)) = read else {
        return Err(Fault::invalid_body("authenticateHawk", &[]));
    };
    let signed = Signed { method: &method, resource: &resource, host: &host, port, authorization: authorization.as_deref() };
    Ok(Reply::json(&match desk.clients.verify(call.now, signed) {
        Ok(caller) => verified(&caller),
        Err(message) => json!({ "status": "auth-failed", "message": message }),
    }))
}

fn verified(caller: &Caller) -> Value {
    let mut answer = json!({ "scopes": caller.scope_set(), "expires": Date(caller.expires) });
    match caller.client_id() {
        None => {
            answer["status"] = json!("no-auth");
            answer["scheme"] = json!("none");
        }
        Some(client_id) => {
            answer["status"] = json!("auth-success");
            answer["scheme"] = json!("hawk");
            answer["clientId"] = json!(client_id);
        }
    }
    if let Some(hash) = caller.signed_hash() {
        answer["hash"] = json!(hash);
    }
    answer
}

/// `testAuthenticate`: any scopes for a client that everybody knows, to try out signatures.
pub(crate) async fn test(_desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (has, needs) = body("testAuthenticate", &call.body, |fields| {
        fields.only(&["clientScopes", "requiredScopes"]);
        fields.required("clientScopes");
        fields.required("requiredScopes");
        let mut scopes = |name| fields.texts(name, &ANY_SCOPE, 10_000, true);
        (scopes("clientScopes"), scopes("requiredScopes"))
    })?;
    tested(&call, has, &Need::all(needs))
}

/// `testAuthenticateGet`: the same for bewits.
pub(crate) async fn test_get(_desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    tested(&call, TESTER_SCOPES.iter().map(|&scope| scope.to_owned()).collect(), &Need::scope(TESTER_NEEDS))
}

fn tested(call: &Call, has: Vec<String>, need: &Need) -> Result<Reply, Fault> {
    let failed = |why: String| Fault::new(Code::AuthenticationFailed, why);
    let caller = Clients::tester(has).verify(call.now, call.signed()).map_err(failed)?;
    let Some(client_id) = caller.client_id() else { return Err(failed("the request is not signed".to_owned())) };
    if let Some(missing) = need.missing(&|scope: &str| caller.has(scope)) {
        return Err(Fault::insufficient_scopes(&caller, need, &missing));
    }
    Ok(Reply::json(&json!({ "clientId": client_id, "scopes": caller.scope_set() })))
}

/// `websocktunnelToken`
pub(crate) async fn tunnel_token(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let (audience, client) = (call.param("wstAudience"), call.param("wstClient"));
    let word = |text: &str, more: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b));
    if !(1..=38).contains(&audience.len()) || !word(audience, b"_-") || client.is_empty() || !word(client, b"_~.%-") {
        return Err(Fault::new(
            Code::InvalidRequestArguments,
            "wstAudience must be a word of up to 38 characters, and wstClient one of letters, digits and `_~.%-`",
        ));
    }
    call.authorize(&Need::scope(format!("auth:websocktunnel-token:{audience}/{client}")))?;
    let Some(secret) = desk.clients.tunnel_secret() else {
        let message = "tokens for websocktunnel are not offered: this server was started without a websocktunnelSecret";
        return Err(Fault::new(Code::ResourceNotFound, message));
    };
    let (token, expires) = tunnel::token(secret, call.now, call.caller().name(), audience, client);
    Ok(Reply::json(&json!({ "wstClient": client, "wstAudience": audience, "token": token, "expires": Date(expires) })))
}

/// `sentryDSN`
pub(crate) async fn sentry(_desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let project = call.param("project");
    call.authorize(&Need::scope(format!("auth:sentry:{project}")))?;
    Err(Fault::new(Code::ResourceNotFound, format!("project \"{project}\" has no DSN: this server reports nothing to Sentry")))
}
