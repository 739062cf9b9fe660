//! Calls about scopes.

use std::sync::Arc;

use serde_json::json;

use super::{ANY_SCOPE, body, expanded};
use crate::local::{auth::Need, desk::Desk, endpoint::Call, fault::Fault, reply::Reply};

/// `expandScopes`, with POST or, as older clients call it, with GET and a body.
pub(crate) async fn expand(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let scopes = body("expandScopes", &call.body, |fields| {
        fields.only(&["scopes"]);
        fields.required("scopes");
        fields.texts("scopes", &ANY_SCOPE, usize::MAX, true)
    })?;
    call.authorize(&Need::scope("auth:expand-scopes"))?;
    Ok(Reply::json(&json!({ "scopes": expanded(&desk, &scopes)? })))
}

/// `currentScopes`
pub(crate) async fn current(_desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    call.authorize(&Need::scope("auth:current-scopes"))?;
    Ok(Reply::json(&json!({ "scopes": call.caller().scope_set() })))
}
