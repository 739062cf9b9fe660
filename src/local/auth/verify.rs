//! Verifying signatures: the `hawk` crate checks them, this server's clock checks their dates.

use std::{
    str::FromStr as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hawk::{
    Bewit, Header, Key, RequestBuilder,
    mac::{Mac, MacType},
};
use jiff::Timestamp;

use super::{
    Caller, Clients, Signed,
    certificate::Certificate,
    ext, is_scope,
    replay::{Replayed, Signature},
};

/// How far a client's clock may be off, as the services have it.
const SKEW: Duration = Duration::from_secs(15 * 60);
/// Seconds since 1970 with more digits are no dates, and would overflow inside `hawk`.
const MOST_DIGITS: usize = 11;

impl Clients {
    /// Finds out who calls. No credentials at all are fine; wrong ones are not, and neither are signatures that have done their work.
    pub(crate) fn authenticate(&self, now: Timestamp, request: Signed<'_>) -> Result<Caller, String> {
        let caller = self.verify(now, request)?;
        if caller.signature.as_ref().is_some_and(|signature| self.spent.knows(signature)) {
            return Err(Replayed::Spent.to_string());
        }
        Ok(caller)
    }

    /// Finds out who signed a request, whether or not it was sent before.
    pub(crate) fn verify(&self, now: Timestamp, request: Signed<'_>) -> Result<Caller, String> {
        let query = request.resource.split_once('?').map_or("", |(_, query)| query);
        let has_bewit = query.split('&').any(|pair| pair.starts_with("bewit="));
        match request.authorization {
            Some(_) if has_bewit => Err("the request has a bewit and an authorization header".to_owned()),
            Some(header) => self.by_header(now, request, header),
            None if has_bewit => self.by_bewit(now, request),
            None => Ok(self.nobody(now)),
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
        let until = now.as_second().saturating_add(2 * SKEW.as_secs().cast_signed());
        caller.signature = header.mac.as_ref().and_then(|mac| Signature::new(mac, until));
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
        let ext = ext.filter(|text| !text.is_empty()).map(ext::parse).transpose()?;
        let (certificate, authorized) = ext.map_or((None, None), |ext| (ext.certificate, ext.authorized_scopes));
        let issuer_id = certificate.as_ref().and_then(Certificate::issuer);
        if issuer_id == Some(client_id) {
            return Err("the certificate's issuer must not be its own client id".to_owned());
        }
        let issuer_id = issuer_id.unwrap_or(client_id).to_owned();
        let issuer = self.client(&issuer_id).ok_or_else(|| format!("client \"{issuer_id}\" does not exist"))?;
        if let Some(refusal) = issuer.refusal(&issuer_id, now) {
            return Err(refusal);
        }
        let book = self.book();
        let expand = |scopes: &[String]| book.roles.expand(scopes).map_err(|endless| endless.to_string());
        let mut access_token = issuer.access_token;
        let mut caller = Caller::new(Some(client_id.to_owned()), expand(&issuer.scopes)?, issuer.expires, &book);
        if let Some(certificate) = certificate {
            let granted = certificate.verify(client_id, &access_token, now)?;
            if issuer_id != client_id && !caller.has(&format!("auth:create-client:{client_id}")) {
                return Err(format!("the certificate's issuer may not create a client \"{client_id}\""));
            }
            if !granted.scopes.iter().all(|scope| caller.has(scope)) {
                return Err("the certificate has scopes that its issuer does not have".to_owned());
            }
            access_token = granted.access_token;
            caller.expires = caller.expires.min(granted.expires);
            caller.scopes = expand(&granted.scopes)?;
        }
        if let Some(authorized) = authorized {
            if let Some(wrong) = authorized.iter().find(|scope| !is_scope(scope) || !caller.has(scope)) {
                return Err(format!("authorizedScopes has `{wrong}`, which the credentials do not have"));
            }
            caller.scopes = expand(&authorized)?;
        }
        let key = Key::new(access_token, hawk::SHA256).map_err(|error| error.to_string())?;
        Ok((key, caller))
    }
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
    ext::decode_any_base64(bewit)
        .is_some_and(|bytes| bytes.split(|b| *b == b'\\').nth(1).is_some_and(|exp| exp.len() > MOST_DIGITS))
}
