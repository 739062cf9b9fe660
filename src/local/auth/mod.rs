//! Who calls, and what may they do.
//!
//! ```text
//!  roster (a file) ─▶ clients, roles ─▶ verify (Hawk headers, bewits, certificates, authorizedScopes) ─▶ Caller
//!                          ▲               └─ replay: signatures that have done their work
//!                          └─ calls: the auth service
//! ```
//! It owns the clients and roles of this server, verifies signatures (with the `hawk` crate: signing and verifying share no code), and
//! issues temporary credentials. As in a deployment, everybody has the scopes of the role `anonymous`, which a roster may replace.

pub(crate) mod calls;
mod certificate;
mod client;
mod crypto;
mod ext;
mod replay;
mod roles;
mod roster;
mod scope;
mod tunnel;
mod verify;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};

pub(crate) use certificate::TemporaryCredentials;
pub(crate) use crypto::install;
pub(crate) use replay::{Receipt, Replayed, Signature, Spent, Unanswered};
pub use roster::{Roster, RosterError};
pub(crate) use scope::{Need, covers, is_scope, without_covered};

use super::{ledger::Ledger, shelf::Shelf};
use crate::{
    local::state::Claim,
    seam::{Random, SystemRandom, slugid},
};
use certificate::Certificate;
use client::Client;
use roles::{ANONYMOUS, Role, Roles};

/// How long before it is issued a temporary credential begins to be valid.
const HEAD_START: SignedDuration = SignedDuration::from_mins(15);
/// The client that issues the credentials of runs and workers.
pub(crate) const QUEUE_CLIENT: &str = "static/taskcluster/queue";

/// What everybody may do, unless a roster says otherwise.
const ANONYMOUS_SCOPES: &[&str] = &[
    "auth:current-scopes",
    "auth:expand-scopes",
    "index:find-task:*",
    "index:list-namespaces:*",
    "index:list-tasks:*",
    "queue:get-artifact:public/*",
    "queue:get-task:*",
    "queue:list-artifacts:*",
    "queue:list-dependent-tasks:*",
    "queue:list-task-group:*",
    "queue:pending-count:*",
    "queue:claimed-count:*",
    "queue:status:*",
];

/// The request as it was signed.
#[derive(Clone, Copy)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    /// Path and query, as they were sent.
    pub(crate) resource: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) authorization: Option<&'a str>,
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    client_id: Option<String>,
    /// With all that roles add.
    scopes: Vec<String>,
    anonymous: Arc<[String]>,
    /// When its credentials end.
    pub(crate) expires: Timestamp,
    /// Digest that the caller signed for the body, if it did.
    pub(crate) body_hash: Option<Vec<u8>>,
    /// What it signed with, unless that may be used repeatedly.
    pub(crate) signature: Option<Signature>,
}

impl Caller {
    fn new(client_id: Option<String>, scopes: Vec<String>, expires: Timestamp, book: &Book) -> Self {
        Self { client_id, scopes, anonymous: Arc::clone(&book.anonymous), expires, body_hash: None, signature: None }
    }

    /// Whether the caller has this scope.
    pub(crate) fn has(&self, want: &str) -> bool {
        self.scopes().any(|have| covers(have, want))
    }

    /// The client, if the call was signed.
    pub(crate) fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// The name to use in messages.
    pub(crate) fn name(&self) -> &str {
        self.client_id.as_deref().unwrap_or("anonymous")
    }

    /// The signed digest of the body as the header has it.
    pub(crate) fn signed_hash(&self) -> Option<String> {
        self.body_hash.as_ref().map(|hash| BASE64_STANDARD.encode(hash))
    }

    /// All scopes.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().chain(&*self.anonymous).map(String::as_str)
    }

    /// All scopes in their shortest form.
    pub(crate) fn scope_set(&self) -> Vec<String> {
        without_covered(&self.scopes().map(str::to_owned).collect::<Vec<_>>())
    }
}

/// The roles, and what follows from them.
struct Book {
    roles: Roles,
    /// What everybody has.
    anonymous: Arc<[String]>,
}

impl Book {
    /// What the anonymous role stands for. Should that never end, it stands for what it says itself.
    fn new(roles: Roles) -> Self {
        let assumed = vec![format!("assume:{ANONYMOUS}")];
        let anonymous = roles.expand(&assumed).unwrap_or(assumed);
        Self { roles, anonymous: anonymous.into() }
    }
}

/// All clients and roles.
pub(crate) struct Clients {
    /// Those that the server was started with.
    fixed: BTreeMap<String, Client>,
    fixed_roles: BTreeMap<String, Role>,
    /// Those that were made by calls.
    made: Shelf<Client>,
    made_roles: Shelf<Role>,
    book: RwLock<Arc<Book>>,
    tunnel_secret: Option<String>,
    queue_token: String,
    spent: Arc<Spent>,
    random: Arc<dyn Random>,
}

impl Clients {
    /// A client that may do everything, those of the roster, and the queue itself.
    pub(crate) fn new(
        (client_id, access_token): (String, String),
        roster: Roster,
        ledger: &Arc<Ledger>,
        random: Arc<dyn Random>,
    ) -> io::Result<Self> {
        let everything = || vec!["*".to_owned()];
        let since = Timestamp::UNIX_EPOCH;
        let queue_token = slugid(&*random) + &slugid(&*random);
        let Roster { clients: mut fixed, roles: mut fixed_roles, tunnel_secret } = roster;
        let queue = Client::lasting(queue_token.clone(), everything(), "the services of this server", since);
        fixed.insert(QUEUE_CLIENT.to_owned(), queue);
        fixed.insert(client_id, Client::lasting(access_token, everything(), "whoever started this server", since));
        fixed_roles.entry(ANONYMOUS.to_owned()).or_insert_with(|| Role {
            scopes: ANONYMOUS_SCOPES.iter().map(|&scope| scope.to_owned()).collect(),
            description: "what everybody may do".to_owned(),
            created: since,
            last_modified: since,
        });
        let mut clients = Self::with(fixed, fixed_roles, tunnel_secret, queue_token, random);
        clients.made = Shelf::open("client", ledger)?;
        clients.made_roles = Shelf::open("role", ledger)?;
        clients.read_roles();
        Ok(clients)
    }

    /// The client that everybody knows, with these scopes, and no roles: for those who try out signatures.
    pub(crate) fn tester(scopes: Vec<String>) -> Self {
        let tester = Client::lasting("no-secret".to_owned(), scopes, "", Timestamp::UNIX_EPOCH);
        let fixed = BTreeMap::from([("tester".to_owned(), tester)]);
        Self::with(fixed, BTreeMap::new(), None, String::new(), Arc::new(SystemRandom))
    }

    fn with(
        fixed: BTreeMap<String, Client>,
        fixed_roles: BTreeMap<String, Role>,
        tunnel_secret: Option<String>,
        queue_token: String,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            fixed,
            made: Shelf::memory("client"),
            made_roles: Shelf::memory("role"),
            book: RwLock::new(Arc::new(Book::new(Roles(fixed_roles.clone())))),
            fixed_roles,
            tunnel_secret,
            queue_token,
            spent: Arc::default(),
            random,
        }
    }

    /// What signs tokens for websocktunnel, if anything.
    pub(crate) fn tunnel_secret(&self) -> Option<&str> {
        self.tunnel_secret.as_deref()
    }

    /// The client of that name.
    fn client(&self, client_id: &str) -> Option<Client> {
        self.fixed.get(client_id).cloned().or_else(|| self.made.get(client_id))
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The roles as they would be with another one.
    fn roles_with(&self, role_id: &str, role: Role) -> Roles {
        let mut roles = self.book().roles.clone();
        roles.0.insert(role_id.to_owned(), role);
        roles
    }

    /// Makes the roles anew out of what the server was started with and what calls have made.
    fn read_roles(&self) {
        let mut roles: BTreeMap<String, Role> = self.made_roles.all().into_iter().collect();
        roles.extend(self.fixed_roles.clone());
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Book::new(Roles(roles)));
    }

    /// A caller that did not sign.
    pub(crate) fn nobody(&self, now: Timestamp) -> Caller {
        // How long others may rely on that answer; the role may change.
        let expires = now.saturating_add(HEAD_START).unwrap_or(now);
        Caller::new(None, Vec::new(), expires, &self.book())
    }

    /// What these scopes stand for.
    pub(crate) fn expand(&self, scopes: &[String]) -> Result<Vec<String>, String> {
        self.book().roles.expand(scopes).map_err(|endless| endless.to_string())
    }

    /// The receipt to sign when an answer to this caller has been handed out, if it signed its request.
    pub(crate) async fn receipt(&self, caller: &Caller, now: Timestamp) -> Result<Option<Receipt>, Replayed> {
        match caller.signature {
            Some(signature) => self.spent.receipt(signature, now).await.map(Some),
            None => Ok(None),
        }
    }

    /// Credentials of the name `client_id`, valid until then.
    pub(crate) fn issue(
        &self,
        now: Timestamp,
        client_id: String,
        scopes: Vec<String>,
        until: Timestamp,
    ) -> TemporaryCredentials {
        let start = now.saturating_sub(HEAD_START).unwrap_or(now);
        Certificate::issue((QUEUE_CLIENT, &self.queue_token), client_id, scopes, (start, until), &*self.random)
    }

    /// The same with a token of the queue itself that was used before: credentials of runs that were issued with it stay good.
    pub(crate) fn with_queue_token(mut self, token: String) -> Self {
        if let Some(queue) = self.fixed.get_mut(QUEUE_CLIENT) {
            queue.access_token.clone_from(&token);
        }
        self.queue_token = token;
        self
    }

    /// Credentials for the run that was claimed. They end with the claim.
    pub(crate) fn run_credentials(&self, now: Timestamp, claim: &Claim) -> TemporaryCredentials {
        let (task, run) = (claim.status.task_id, claim.run_id);
        let until = claim.taken_until;
        let client_id =
            format!("task-client/{task}/{run}/on/{}/{}/until/{}", claim.worker.group, claim.worker.id, until.as_second());
        let mut scopes = vec![
            format!("queue:reclaim-task:{task}/{run}"),
            format!("queue:resolve-task:{task}/{run}"),
            format!("queue:create-artifact:{task}/{run}"),
        ];
        scopes.extend(claim.status.definition.scopes.iter().cloned());
        self.issue(now, client_id, scopes, until)
    }

    /// Forgets clients that wanted to be forgotten when they expire.
    pub(crate) fn sweep(&self, now: Timestamp) {
        self.made.retain(|_, client| !(client.delete_on_expiration && client.expires <= now));
    }

    /// An id that nothing else has.
    pub(crate) fn new_slugid(&self) -> String {
        slugid(&*self.random)
    }

    /// A secret of 44 characters, as access tokens and the secrets of workers are.
    pub(crate) fn new_secret(&self) -> String {
        slugid(&*self.random) + &slugid(&*self.random)
    }
}

#[cfg(test)]
mod tests;
