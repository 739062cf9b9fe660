//! The calls of the auth service.

pub(crate) mod clients;
pub(crate) mod credentials;
pub(crate) mod roles;
pub(crate) mod scopes;

use serde_json::{Map, Value};

use crate::local::{
    auth::is_scope,
    check::{Fields, SCOPE, Text},
    desk::Desk,
    fault::{Code, Fault},
};

/// A scope in a set, where it need not be one that a task could have.
const ANY_SCOPE: Text = Text { min: 0, max: usize::MAX, is: is_scope, shape: "printable ASCII" };
/// Descriptions of clients and roles.
const DESCRIPTION: Text = Text::up_to(10_240);

/// Reads the body of a call; all problems are found.
fn body<T>(method: &str, body: &Value, read: impl FnOnce(&mut Fields<'_>) -> T) -> Result<T, Fault> {
    let empty = Value::Object(Map::new());
    let mut problems = Vec::new();
    let read = Fields::of(if body.is_null() { &empty } else { body }, "", &mut problems).map(|mut fields| read(&mut fields));
    read.filter(|_| problems.is_empty()).ok_or_else(|| Fault::invalid_body(method, &problems))
}

/// The expanded set; one that never ends is the caller's fault.
fn expanded(desk: &Desk, scopes: &[String]) -> Result<Vec<String>, Fault> {
    desk.clients.expand(scopes).map_err(|endless| Fault::new(Code::InputError, endless))
}
