//! Who calls, and what may they do.
//!
//! It owns the clients of this server, verifies Hawk headers and bewits (with the `hawk` crate: signing and verifying share no code),
//! certificates and `authorizedScopes`, and issues the credentials of runs. As in a deployment, everybody has the scopes of the
//! anonymous role.

mod certificate;
mod crypto;
mod scope;

use std::{
    collections::HashMap,
    str::FromStr as _,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hawk::{
    Bewit, Header, Key, RequestBuilder,
    mac::{Mac, MacType},
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

pub(crate) use certificate::TemporaryCredentials;
pub(crate) use crypto::install;
pub(crate) use scope::{Need, is_scope, without_covered};

use crate::{
    local::state::Claim,
    seam::{Random, slugid},
};
use certificate::Certificate;
use scope::covers;

/// How far a client's clock may be off, as the services have it.
const SKEW: Duration = Duration::from_secs(15 * 60);
/// How long before a claim its credentials begin to be valid.
const HEAD_START: SignedDuration = SignedDuration::from_mins(15);
/// The client that issues the credentials of runs.
const QUEUE_CLIENT: &str = "static/taskcluster/queue";
/// Seconds since 1970 with more digits are no dates, and would overflow inside `hawk`.
const MOST_DIGITS: usize = 11;

/// What everybody may do.
const ANONYMOUS: &[&str] = &[
    "auth:expand-scopes",
    "index:find-task:*",
    "queue:get-artifact:public/*",
    "queue:get-task:*",
    "queue:list-artifacts:*",
    "queue:list-dependent-tasks:*",
    "queue:list-task-group:*",
    "queue:pending-count:*",
    "queue:claimed-count:*",
    "queue:status:*",
];

struct Client {
    access_token: String,
    scopes: Vec<String>,
}

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
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    client_id: Option<String>,
    scopes: Vec<String>,
    /// Digest that the caller signed for the body, if it did.
    pub(crate) body_hash: Option<Vec<u8>>,
}

impl Caller {
    /// Whether the caller has this scope.
    pub(crate) fn has(&self, want: &str) -> bool {
        self.scopes.iter().any(|have| covers(have, want)) || ANONYMOUS.iter().any(|have| covers(have, want))
    }

    /// The name to use in messages.
    pub(crate) fn name(&self) -> &str {
        self.client_id.as_deref().unwrap_or("anonymous")
    }

    /// All scopes, for messages.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(String::as_str).chain(ANONYMOUS.iter().copied())
    }
}

/// What `ext` may hold.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ext {
    certificate: Option<Certificate>,
    authorized_scopes: Option<Vec<String>>,
}

/// All clients.
pub(crate) struct Clients {
    by_id: HashMap<String, Client>,
    queue_token: String,
    random: Arc<dyn Random>,
}

impl Clients {
    /// A client that may do everything, and the queue itself.
    pub(crate) fn new((client_id, access_token): (String, String), random: Arc<dyn Random>) -> Self {
        let queue_token = slugid(&*random) + &slugid(&*random);
        let everything = || vec!["*".to_owned()];
        let queue = Client { access_token: queue_token.clone(), scopes: everything() };
        let mut by_id = HashMap::from([(QUEUE_CLIENT.to_owned(), queue)]);
        by_id.insert(client_id, Client { access_token, scopes: everything() });
        Self { by_id, queue_token, random }
    }

    /// The same with a token of the queue itself that was used before: credentials of runs that were issued with it stay good.
    pub(crate) fn with_queue_token(mut self, token: String) -> Self {
        if let Some(queue) = self.by_id.get_mut(QUEUE_CLIENT) {
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
        let start = now.saturating_sub(HEAD_START).unwrap_or(now);
        Certificate::issue((QUEUE_CLIENT, &self.queue_token), client_id, scopes, (start, until), &*self.random)
    }

    /// Finds out who calls. No credentials at all are fine; wrong ones are not.
    pub(crate) fn authenticate(&self, now: Timestamp, request: Signed<'_>) -> Result<Caller, String> {
        let query = request.resource.split_once('?').map_or("", |(_, query)| query);
        let has_bewit = query.split('&').any(|pair| pair.starts_with("bewit="));
        match request.authorization {
            Some(_) if has_bewit => Err("the request has a bewit and an authorization header".to_owned()),
            Some(header) => self.by_header(now, request, header),
            None if has_bewit => self.by_bewit(now, request),
            None => Ok(Caller::default()),
        }
    }

    fn by_header(&self, now: Timestamp, request: Signed<'_>, authorization: &str) -> Result<Caller, String> {
        let rest =
            authorization.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("hawk ")).and_then(|_| authorization.get(5..));
        let rest = rest.ok_or("the authorization header is not of the scheme Hawk")?;
        if has_absurd_date(rest) {
            return Err("the authorization header has a timestamp that is no date".to_owned());
        }
        let header = Header::from_str(rest).map_err(|error| format!("the authorization header is malformed: {error}"))?;
        let id = header.id.as_deref().ok_or("the authorization header has no id")?;
        let (key, mut caller) = self.credentials(now, id, header.ext.as_deref())?;
        // The crate compares with the machine's clock; this server has its own, so the timestamp is checked below.
        let valid = hosts(request.host).any(|host| {
            let signed = RequestBuilder::new(request.method, host, request.port, request.resource).request();
            signed.validate_header(&header, &key, Duration::MAX)
        });
        if !valid {
            return Err("the signature does not belong to this request and these credentials".to_owned());
        }
        let skew = header.ts.map(|ts| skew(ts, now)).ok_or("the authorization header has no timestamp")?;
        if skew > SKEW {
            return Err(format!(
                "the timestamp is {} s away from the server's clock; {} s are accepted",
                skew.as_secs(),
                SKEW.as_secs()
            ));
        }
        caller.body_hash.clone_from(&header.hash);
        Ok(caller)
    }

    fn by_bewit(&self, now: Timestamp, request: Signed<'_>) -> Result<Caller, String> {
        if !matches!(request.method, "GET" | "HEAD") {
            return Err("a bewit is for GET and HEAD only".to_owned());
        }
        let (path, query) = request.resource.split_once('?').unwrap_or((request.resource, ""));
        let (bewits, rest): (Vec<&str>, Vec<&str>) = query.split('&').partition(|pair| pair.starts_with("bewit="));
        let [bewit] = bewits[..] else { return Err("the request has more than one bewit".to_owned()) };
        let text = bewit.trim_start_matches("bewit=");
        if has_absurd_expiry(text) {
            return Err("the bewit is malformed".to_owned());
        }
        let bewit = Bewit::from_str(text).map_err(|error| format!("the bewit is malformed: {error}"))?;
        let (key, caller) = self.credentials(now, bewit.id(), bewit.ext())?;
        let resource = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
        let valid = hosts(request.host).any(|host| {
            Mac::new(MacType::Bewit, &key, bewit.exp(), "", "GET", host, request.port, &resource, None, bewit.ext())
                .is_ok_and(|expected| expected == *bewit.mac())
        });
        if !valid {
            return Err("the bewit does not belong to this request and these credentials".to_owned());
        }
        if bewit.exp() < system_time(now) {
            return Err("the bewit has expired".to_owned());
        }
        Ok(caller)
    }

    /// The key for this client id, and what its holder may do after all that `ext` takes away.
    fn credentials(&self, now: Timestamp, client_id: &str, ext: Option<&str>) -> Result<(Key, Caller), String> {
        let ext: Option<Ext> = match ext {
            None | Some("") => None,
            Some(text) => Some(parse_ext(text)?),
        };
        let (certificate, authorized) = ext.map_or((None, None), |ext| (ext.certificate, ext.authorized_scopes));
        let issuer_id = certificate.as_ref().and_then(Certificate::issuer);
        if issuer_id == Some(client_id) {
            return Err("the certificate's issuer must not be its own client id".to_owned());
        }
        let issuer_id = issuer_id.unwrap_or(client_id).to_owned();
        let issuer = self.by_id.get(&issuer_id).ok_or_else(|| format!("client \"{issuer_id}\" does not exist"))?;
        let mut access_token = issuer.access_token.clone();
        let mut caller = Caller { client_id: Some(client_id.to_owned()), scopes: issuer.scopes.clone(), body_hash: None };
        if let Some(certificate) = certificate {
            let granted = certificate.verify(client_id, &issuer.access_token, now)?;
            if issuer_id != client_id && !caller.has(&format!("auth:create-client:{client_id}")) {
                return Err(format!("the certificate's issuer may not create a client \"{client_id}\""));
            }
            if !granted.scopes.iter().all(|scope| caller.has(scope)) {
                return Err("the certificate has scopes that its issuer does not have".to_owned());
            }
            access_token = granted.access_token;
            caller.scopes = granted.scopes;
        }
        if let Some(authorized) = authorized {
            if let Some(wrong) = authorized.iter().find(|scope| !is_scope(scope) || !caller.has(scope)) {
                return Err(format!("authorizedScopes has `{wrong}`, which the credentials do not have"));
            }
            caller.scopes = authorized;
        }
        let key = Key::new(access_token, hawk::SHA256).map_err(|error| error.to_string())?;
        Ok((key, caller))
    }
}

fn parse_ext(text: &str) -> Result<Ext, String> {
    let bytes = decode_any_base64(text).ok_or("ext is not base64")?;
    let mut value: Value = serde_json::from_slice(&bytes).map_err(|_| "ext is not JSON".to_owned())?;
    // Credentials carry the certificate as a string, and some clients leave it one.
    if let Some(inner) = value.get("certificate").and_then(Value::as_str) {
        value["certificate"] = serde_json::from_str(inner).map_err(|_| "ext.certificate is not JSON".to_owned())?;
    }
    serde_json::from_value(value).map_err(|error| format!("ext is malformed: {error}"))
}

/// The reference decodes both alphabets, padded or not, so clients send all of them.
fn decode_any_base64(text: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [&STANDARD, &URL_SAFE].into_iter().find_map(|alphabet| GeneralPurpose::new(alphabet, lenient).decode(text).ok())
}

/// Clients do not agree whether the address of IPv6 is signed with its brackets.
fn hosts(host: &str) -> impl Iterator<Item = &str> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    std::iter::once(host).chain(bare)
}

fn system_time(now: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0))
}

fn skew(theirs: SystemTime, now: Timestamp) -> Duration {
    let ours = system_time(now);
    ours.duration_since(theirs).or_else(|_| theirs.duration_since(ours)).unwrap_or(Duration::MAX)
}

fn has_absurd_date(header: &str) -> bool {
    let pieces: Vec<&str> = header.split('"').collect();
    pieces.chunks(2).any(|pair| match pair {
        [name, value] => {
            name.trim_matches(|c: char| matches!(c, ',' | '=') || c.is_whitespace()) == "ts" && value.len() > MOST_DIGITS
        }
        _ => false,
    })
}

fn has_absurd_expiry(bewit: &str) -> bool {
    decode_any_base64(bewit).is_some_and(|bytes| bytes.split(|b| *b == b'\\').nth(1).is_some_and(|exp| exp.len() > MOST_DIGITS))
}

#[cfg(test)]
mod tests;
