//! Calls about roles. Those of the roster are read only.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{DESCRIPTION, SCOPE, body, expanded};
use crate::local::{
    auth::{
        Clients, Need,
        client::is_role_id,
        covers,
        roles::{Role, Roles},
    },
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    page::Page,
    reply::Reply,
    view::Date,
};

fn role_id(call: &Call) -> Result<&str, Fault> {
    let id = call.param("roleId");
    is_role_id(id)
        .then_some(id)
        .ok_or_else(|| Fault::new(Code::InvalidRequestArguments, format!("roleId `{id}` must be printable ASCII")))
}

fn missing(id: &str) -> Fault {
    Fault::new(Code::ResourceNotFound, format!("role \"{id}\" does not exist"))
}

fn shown(desk: &Desk, id: &str, role: &Role) -> Value {
    let assumed = [format!("assume:{id}")];
    json!({
        "roleId": id, "scopes": role.scopes, "description": role.description, "created": Date(role.created),
        "lastModified": Date(role.last_modified), "expandedScopes": expanded(desk, &assumed).unwrap_or_default(),
    })
}

impl Clients {
    fn all_roles(&self) -> BTreeMap<String, Role> {
        self.book().roles.0.clone()
    }
}

/// `role`
pub(crate) async fn get(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = role_id(&call)?;
    call.authorize(&Need::scope(format!("auth:get-role:{id}")))?;
    let role = desk.clients.all_roles().remove(id).ok_or_else(|| missing(id))?;
    Ok(Reply::json(&shown(&desk, id, &role)))
}

/// `listRoles`
pub(crate) async fn list(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    call.authorize(&Need::scope("auth:list-roles"))?;
    let roles = desk.clients.all_roles();
    Ok(Reply::json(&roles.iter().map(|(id, role)| shown(&desk, id, role)).collect::<Vec<_>>()))
}

/// `listRoles2`
pub(crate) async fn list_pages(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    call.authorize(&Need::scope("auth:list-roles"))?;
    let page = Page::of(&call)?;
    let roles = page.cut(desk.clients.all_roles(), |(id, _)| id);
    Ok(Reply::json(&page.answer("roles", roles, |(id, _)| id, |(id, role)| shown(&desk, id, role))))
}

/// `listRoleIds`
pub(crate) async fn list_ids(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    call.authorize(&Need::scope("auth:list-roles"))?;
    let page = Page::of(&call)?;
    let ids = page.cut(desk.clients.all_roles().into_keys(), |id| id);
    Ok(Reply::json(&page.answer("roleIds", ids, |id| id, |id| json!(id))))
}

fn read(method: &str, call: &Call) -> Result<(Vec<String>, String), Fault> {
    body(method, &call.body, |fields| {
        fields.only(&["scopes", "description"]);
        fields.required("scopes");
        let scopes = fields.texts("scopes", &SCOPE, 10_000, true);
        (scopes, fields.text("description", &DESCRIPTION).unwrap_or_default().to_owned())
    })
}

/// A role may not make anything endless, neither itself nor others.
fn check_end(roles: &Roles) -> Result<(), Fault> {
    let endless = roles.0.keys().find_map(|id| Some((id, roles.endless(id)?)));
    endless.map_or(Ok(()), |(id, endless)| Err(Fault::new(Code::InputError, format!("role \"{id}\": {endless}"))))
}

/// `createRole`. Repeating the call changes nothing.
pub(crate) async fn create(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = role_id(&call)?;
    let (scopes, description) = read("createRole", &call)?;
    let mut need = vec![Need::scope(format!("auth:create-role:{id}"))];
    need.extend(scopes.iter().map(Need::scope));
    call.authorize(&Need::All(need))?;
    let new = Role { scopes, description, created: call.now, last_modified: call.now };
    if let Some(known) = desk.clients.all_roles().remove(id) {
        if (&known.scopes, &known.description) == (&new.scopes, &new.description) {
            return Ok(Reply::json(&shown(&desk, id, &known)));
        }
        return Err(Fault::new(
            Code::RequestConflict,
            format!("role \"{id}\" exists with other scopes or another description"),
        ));
    }
    check_end(&desk.clients.roles_with(id, new.clone()))?;
    desk.clients.put_role(id, new.clone());
    Ok(Reply::json(&shown(&desk, id, &new)))
}

/// `updateRole`
pub(crate) async fn update(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = role_id(&call)?;
    let (scopes, description) = read("updateRole", &call)?;
    let update = format!("auth:update-role:{id}");
    call.authorize(&Need::scope(&*update))?;
    let known = desk.clients.all_roles().remove(id).ok_or_else(|| missing(id))?;
    let had = expanded(&desk, &known.scopes)?;
    let added = scopes.iter().filter(|scope| !had.iter().any(|had| covers(had, scope)));
    call.authorize(&Need::All(std::iter::once(Need::scope(update)).chain(added.map(Need::scope)).collect()))?;
    desk.clients.may_change_role(id)?;
    let new = Role { scopes, description, created: known.created, last_modified: call.now };
    check_end(&desk.clients.roles_with(id, new.clone()))?;
    desk.clients.put_role(id, new.clone());
    Ok(Reply::json(&shown(&desk, id, &new)))
}

/// `deleteRole`. That there was none is no error.
pub(crate) async fn delete(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = role_id(&call)?;
    call.authorize(&Need::scope(format!("auth:delete-role:{id}")))?;
    desk.clients.may_change_role(id)?;
    desk.clients.remove_role(id);
    Ok(Reply::json(&json!({})))
}

impl Clients {
    fn may_change_role(&self, id: &str) -> Result<(), Fault> {
        if self.fixed_roles.contains_key(id) {
            let message = format!("role \"{id}\" is one that this server was started with; calls cannot change it");
            return Err(Fault::new(Code::RequestConflict, message));
        }
        Ok(())
    }

    fn put_role(&self, id: &str, role: Role) {
        self.made_roles.put(id, role);
        self.read_roles();
    }

    fn remove_role(&self, id: &str) {
        self.made_roles.remove(id);
        self.read_roles();
    }
}
