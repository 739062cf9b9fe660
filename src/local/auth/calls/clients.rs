//! Calls about clients. Those of the roster are read only. Access tokens are shown once, when they are made.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{DESCRIPTION, SCOPE, body, expanded};
use crate::local::{
    auth::{
        Clients, Need,
        client::{Client, is_client_id},
        covers,
    },
    desk::Desk,
    endpoint::Call,
    fault::{Code, Fault},
    page::Page,
    reply::Reply,
    view::Date,
};

/// Client ids that belong to the deployment itself.
const RESERVED: &str = "static/";

fn client_id(call: &Call) -> Result<&str, Fault> {
    let id = call.param("clientId");
    is_client_id(id).then_some(id).ok_or_else(|| {
        let rule = "must be made of letters, digits and `!@/:.+|_-`";
        Fault::new(Code::InvalidRequestArguments, format!("clientId `{id}` {rule}"))
    })
}

fn missing(id: &str) -> Fault {
    Fault::new(Code::ResourceNotFound, format!("client \"{id}\" does not exist"))
}

fn shown(desk: &Desk, id: &str, client: &Client) -> Value {
    json!({
        "clientId": id, "expires": Date(client.expires), "description": client.description, "created": Date(client.created),
        "lastModified": Date(client.last_modified), "lastDateUsed": Date(client.last_modified),
        "lastRotated": Date(client.last_rotated), "scopes": client.scopes,
        "expandedScopes": expanded(desk, &client.scopes).unwrap_or_default(), "disabled": client.disabled,
        "deleteOnExpiration": client.delete_on_expiration,
    })
}

fn shown_with_token(desk: &Desk, id: &str, client: &Client) -> Value {
    let mut shown = shown(desk, id, client);
    shown["accessToken"] = json!(client.access_token);
    shown
}

/// `listClients`
pub(crate) async fn list(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    call.authorize(&Need::scope("auth:list-clients"))?;
    let page = Page::of(&call)?;
    let prefix = call.query("prefix").unwrap_or_default();
    let all = desk.clients.all_clients().into_iter().filter(|(id, _)| id.starts_with(&prefix));
    let clients = page.cut(all, |(id, _)| id);
    Ok(Reply::json(&page.answer("clients", clients, |(id, _)| id, |(id, client)| shown(&desk, id, client))))
}

/// `client`
pub(crate) async fn get(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = client_id(&call)?;
    call.authorize(&Need::scope(format!("auth:get-client:{id}")))?;
    let client = desk.clients.client(id).ok_or_else(|| missing(id))?;
    Ok(Reply::json(&shown(&desk, id, &client)))
}

struct Wanted {
    expires: Timestamp,
    description: String,
    scopes: Option<Vec<String>>,
    delete_on_expiration: bool,
}

fn read(method: &str, call: &Call) -> Result<Wanted, Fault> {
    let wanted = body(method, &call.body, |fields| {
        fields.only(&["expires", "description", "scopes", "deleteOnExpiration"]);
        let expires = fields.date("expires");
        let description = fields.text("description", &DESCRIPTION).map(str::to_owned);
        let scopes = fields.optional("scopes").map(|_| fields.texts("scopes", &SCOPE, 10_000, true));
        let delete_on_expiration = fields.optional("deleteOnExpiration").is_some_and(|flag| flag == true);
        if fields.optional("deleteOnExpiration").is_some_and(|flag| !flag.is_boolean()) {
            fields.problem("deleteOnExpiration", "must be true or false");
        }
        Some(Wanted { expires: expires?, description: description?, scopes, delete_on_expiration })
    })?;
    wanted.ok_or_else(|| Fault::invalid_body(method, &[]))
}

/// `createClient`. Repeating the call changes nothing and shows the token once more.
pub(crate) async fn create(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = client_id(&call)?;
    let wanted = read("createClient", &call)?;
    let scopes = wanted.scopes.unwrap_or_default();
    let mut need = vec![Need::scope(format!("auth:create-client:{id}"))];
    need.extend(scopes.iter().map(Need::scope));
    call.authorize(&Need::All(need))?;
    if id.starts_with(RESERVED) {
        return Err(Fault::new(
            Code::InputError,
            format!("client ids that begin with `{RESERVED}` cannot be created by calls"),
        ));
    }
    desk.clients.may_change_client(id)?;
    let mut new = Client::lasting(desk.clients.new_secret(), scopes, &wanted.description, call.now);
    new.expires = wanted.expires;
    new.delete_on_expiration = wanted.delete_on_expiration;
    let created = desk.clients.made.change(id, |place| match place {
        None => {
            *place = Some(new.clone());
            Ok(new)
        }
        Some(known) => {
            let same = known.created.duration_since(call.now).abs() < REPEATED
                && (&known.scopes, &known.description, known.expires) == (&new.scopes, &new.description, new.expires);
            same.then(|| known.clone()).ok_or_else(|| {
                Fault::new(Code::RequestConflict, format!("client \"{id}\" exists already; updateClient changes it"))
            })
        }
    })?;
    Ok(Reply::json(&shown_with_token(&desk, id, &created)))
}

/// A call that is made again within that time is the same call, whose answer got lost.
const REPEATED: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);

/// `updateClient`
pub(crate) async fn update(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = client_id(&call)?;
    let wanted = read("updateClient", &call)?;
    let update = format!("auth:update-client:{id}");
    call.authorize(&Need::scope(&*update))?;
    let known = desk.clients.client(id).ok_or_else(|| missing(id))?;
    let had = expanded(&desk, &known.scopes)?;
    let scopes = wanted.scopes.unwrap_or(known.scopes);
    let added = scopes.iter().filter(|scope| !had.iter().any(|had| covers(had, scope)));
    call.authorize(&Need::All(std::iter::once(Need::scope(update)).chain(added.map(Need::scope)).collect()))?;
    change(&desk, &call, id, |client| {
        client.scopes = scopes;
        client.description = wanted.description;
        client.expires = wanted.expires;
        client.delete_on_expiration = wanted.delete_on_expiration;
    })
    .map(|client| Reply::json(&shown(&desk, id, &client)))
}

fn change(desk: &Desk, call: &Call, id: &str, change: impl FnOnce(&mut Client)) -> Result<Client, Fault> {
    desk.clients.may_change_client(id)?;
    desk.clients.made.change(id, |place| {
        let client = place.as_mut().ok_or_else(|| missing(id))?;
        change(client);
        client.last_modified = call.now;
        Ok(client.clone())
    })
}

/// `enableClient`
pub(crate) async fn enable(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = client_id(&call)?;
    call.authorize(&Need::scope(format!("auth:enable-client:{id}")))?;
    let client = change(&desk, &call, id, |client| client.disabled = false)?;
    Ok(Reply::json(&shown(&desk, id, &client)))
}

/// `disableClient`
pub(crate) async fn disable(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = client_id(&call)?;
    call.authorize(&Need::scope(format!("auth:disable-client:{id}")))?;
    let client = change(&desk, &call, id, |client| client.disabled = true)?;
    Ok(Reply::json(&shown(&desk, id, &client)))
}

/// `resetAccessToken`
pub(crate) async fn reset(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = client_id(&call)?;
    call.authorize(&Need::scope(format!("auth:reset-access-token:{id}")))?;
    let token = desk.clients.new_secret();
    let client = change(&desk, &call, id, |client| {
        client.access_token = token;
        client.last_rotated = call.now;
    })?;
    Ok(Reply::json(&shown_with_token(&desk, id, &client)))
}

/// `deleteClient`. That there was none is no error.
pub(crate) async fn delete(desk: Arc<Desk>, call: Call) -> Result<Reply, Fault> {
    let id = client_id(&call)?;
    call.authorize(&Need::scope(format!("auth:delete-client:{id}")))?;
    desk.clients.may_change_client(id)?;
    desk.clients.made.remove(id);
    Ok(Reply::json(&json!({})))
}

impl Clients {
    fn all_clients(&self) -> BTreeMap<String, Client> {
        let mut all: BTreeMap<String, Client> = self.made.all().into_iter().collect();
        all.extend(self.fixed.clone());
        all
    }

    fn may_change_client(&self, id: &str) -> Result<(), Fault> {
        if self.fixed.contains_key(id) {
            let message = format!("client \"{id}\" is one that this server was started with; calls cannot change it");
            return Err(Fault::new(Code::RequestConflict, message));
        }
        Ok(())
    }
}
