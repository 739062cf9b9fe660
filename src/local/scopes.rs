//! The one call of the auth service that workers need: expanding scopes. This server has no roles, so no scope stands for others.

use std::sync::Arc;

use serde_json::json;

use super::{
    auth::{Need, is_scope, without_covered},
    check::{Fields, Text},
    desk::Desk,
    endpoint::Call,
    fault::Fault,
    reply::Reply,
};

/// A scope as this call takes it.
const SCOPE: Text = Text { min: 0, max: usize::MAX, is: is_scope, shape: "printable ASCII" };

pub(crate) async fn expand(_desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let mut problems = Vec::new();
    let mut scopes = Vec::new();
    if let Some(mut fields) = Fields::of(&call.body, "", &mut problems) {
        fields.only(&["scopes"]);
        fields.required("scopes");
        scopes = fields.texts("scopes", &SCOPE, usize::MAX, true);
    }
    if !problems.is_empty() {
        return Err(Fault::invalid_body("expandScopes", &problems));
    }
    call.authorize(&Need::scope("auth:expand-scopes"))?;
    Ok(Reply::json(&json!({ "scopes": without_covered(&scopes) })))
}
