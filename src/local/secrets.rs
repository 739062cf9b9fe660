//! The secrets service: values by name, until they expire. Values are in no log, no refusal and no `Debug`.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    auth::Need,
    check::Fields,
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    page::Page,
    reply::Reply,
    shelf::Shelf,
    view::Date,
};

/// How long it is known that a secret has expired, without its value.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
/// Longest name.
const MOST_NAME: usize = 1024;

/// A secret as it is kept.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secret {
    /// Nothing once it has expired.
    value: Option<Value>,
    expires: Timestamp,
}

/// Forgets values that have expired, and later that they were there.
pub(crate) fn sweep(secrets: &Shelf<Secret>, now: Timestamp) {
    let expired = secrets.all().into_iter().filter(|(_, secret)| secret.expires <= now);
    for (name, secret) in expired {
        if now.duration_since(secret.expires) > REMEMBERED {
            secrets.remove(&name);
        } else if secret.value.is_some() {
            secrets.put(&name, Secret { value: None, ..secret });
        }
    }
}

fn name(call: &Call) -> Result<&str, Fault> {
    let name = call.param("name");
    let fine = (1..=MOST_NAME).contains(&name.len()) && name.bytes().all(|b| (b' '..=b'~').contains(&b));
    fine.then_some(name).ok_or_else(|| {
        let rule = "a secret's name must have 1 to 1024 characters of printable ASCII";
        Fault::new(Code::InvalidRequestArguments, rule)
    })
}

/// `set`
pub(crate) async fn set(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let name = name(&call)?;
    let mut problems = Vec::new();
    let secret = Fields::of(&call.body, "", &mut problems).and_then(|mut fields| {
        fields.only(&["secret", "expires"]);
        let value = fields.required("secret").cloned();
        if value.as_ref().is_some_and(|value| !value.is_object()) {
            fields.problem("secret", "must be an object");
        }
        let expires = fields.date("expires");
        Some(Secret { value: Some(value?), expires: expires? })
    });
    let Some(secret) = secret.filter(|_| problems.is_empty()) else { return Err(Fault::invalid_body("set", &problems)) };
    call.authorize(&Need::scope(format!("secrets:set:{name}")))?;
    desk.secrets.put(name, secret);
    Ok(Reply::json(&json!({})))
}

/// `remove`. That there was none is no error.
pub(crate) async fn remove(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let name = name(&call)?;
    call.authorize(&Need::scope(format!("secrets:set:{name}")))?;
    desk.secrets.remove(name);
    Ok(Reply::json(&json!({})))
}

/// `get`
pub(crate) async fn get(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let name = name(&call)?;
    call.authorize(&Need::scope(format!("secrets:get:{name}")))?;
    let missing = || Fault::new(Code::ResourceNotFound, format!("secret \"{name}\" does not exist"));
    let Secret { value, expires } = desk.secrets.get(name).ok_or_else(missing)?;
    match value.filter(|_| expires > call.now) {
        Some(value) => Ok(Reply::json(&json!({ "secret": value, "expires": Date(expires) }))),
        None => Err(Fault::new(Code::ResourceExpired, format!("secret \"{name}\" expired at {expires:.3}"))),
    }
}

/// `list`
pub(crate) async fn list(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    call.authorize(&Need::scope("secrets:list-secrets"))?;
    let page = Page::of(&call)?;
    let secrets = desk.secrets.page(page.after.as_deref(), page.collect(), |_, secret| secret.expires > call.now);
    Ok(Reply::json(&page.answer("secrets", secrets, |(name, _)| name, |(name, _)| json!(name))))
}
