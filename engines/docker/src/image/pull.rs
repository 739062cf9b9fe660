//! Images that registries have: whether the one that is there will do, and pulling what will not.
//!
//! ```text
//!             absent ──▶ pull
//!  pinned by digest, or taken as it is ──▶ there
//!             tag, compared less than the time-to-live ago ──▶ there
//!             tag, longer ago ──▶ pull: the engine compares the manifest, and loads nothing if it is the same
//!                                  └─ too often, or nobody answers ──▶ there, with a warning
//! ```

use std::{collections::HashMap, fmt::Write as _, io::Read, path::Path, pin::pin, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use bollard::query_parameters::{CreateImageOptionsBuilder, TagImageOptionsBuilder};
use futures_util::StreamExt;
use serde_json::json;
use tc_engine::{EngineError, Fault, Image};
use tokio::time::timeout;

use super::{
    Inner, Login, Username,
    failure::{self, Refusal},
    flight::Report,
    load::OWN_REPOSITORY,
    reference::{DEFAULT_REGISTRY, Reference},
    table::{ImageRow, KeyRow},
};

/// Longest that a pull may stay without a sign of life.
const STALL: Duration = Duration::from_secs(10 * 60);
/// Bound of a whole pull by the client. What hangs is seen by [`STALL`].
const PULL_BOUND: Duration = Duration::from_secs(24 * 3600);
/// After a comparison that failed, the next one is due this much later, so that not every task waits for it.
const COMPARED_IN_VAIN: Duration = Duration::from_secs(5 * 60);
/// Bound of a file with a password.
const SECRET_BYTES: u64 = 64 << 10;
/// Layers whose progress is followed.
const LAYERS: usize = 256;

/// What to do about an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Take,
    Compare,
    Bring,
}

/// Decides. `fixed` says that the name means what is there: it has a digest, or is to be taken as it is. `age` tells how long ago
/// the image that is there was compared with the registry; none if that was never done, or was another image.
fn decide(there: bool, fixed: bool, age: Option<Duration>, ttl: Duration) -> Verdict {
    match (there, fixed) {
        (false, _) => Verdict::Bring,
        (true, true) => Verdict::Take,
        (true, false) if age.is_some_and(|age| age < ttl) => Verdict::Take,
        (true, false) => Verdict::Compare,
    }
}

impl Inner {
    /// The image of a registry, by the name that all its names stand for. Messages call it `what`.
    pub(super) async fn registry(&self, name: &str, what: &str, as_it_is: bool, report: &Report) -> Result<Image, EngineError> {
        let reference = Reference::parse(name).filter(|reference| reference.repository() != OWN_REPOSITORY);
        let reference =
            reference.ok_or_else(|| EngineError::new(Fault::Task, format!("{what}: no name that a registry could have")))?;
        let key = format!("registry:{reference}");
        let row = self.table.rows().keys.get(&key).cloned();
        let there = self.present(&reference, row.as_ref(), what).await?;
        let checked = row.filter(|row| Some(&row.id) == there.as_ref()).and_then(|row| row.checked);
        let age = checked.map(|checked| Duration::from_secs(self.now_secs().saturating_sub(checked)));
        let fixed = as_it_is || reference.digest.is_some();
        match (decide(there.is_some(), fixed, age, self.options.manifest_ttl), there) {
            (Verdict::Take, Some(id)) => Ok(self.take(&reference, id)),
            (Verdict::Compare, Some(id)) => match self.bring(&reference, what, 1, report).await {
                Ok(new) => {
                    let was_there = new == id;
                    self.note(&key, &reference, &new, self.now_secs(), !was_there);
                    Ok(Image { id: new, name: Some(reference.to_string()), artifact_sha256: None, was_there })
                }
                Err((Refusal::Limited | Refusal::Passing, message)) => {
                    tracing::warn!("{what}: compare with the registry: {message}; the local copy is used");
                    report
                        .warn(&format!("{what}: the registry cannot be asked ({message}); the copy that is here is used"))
                        .await;
                    let ttl = self.options.manifest_ttl;
                    let as_if = (self.now_secs() + COMPARED_IN_VAIN.min(ttl).as_secs()).saturating_sub(ttl.as_secs());
                    self.note(&key, &reference, &id, as_if, false);
                    Ok(self.take(&reference, id))
                }
                Err((refusal, message)) => Err(failure::error(what, refusal, &message)),
            },
            _ => {
                let brought = self.bring(&reference, what, self.options.pull_attempts, report).await;
                let id = brought.map_err(|(refusal, message)| failure::error(what, refusal, &message))?;
                self.note(&key, &reference, &id, self.now_secs(), true);
                Ok(Image { id, name: Some(reference.to_string()), artifact_sha256: None, was_there: false })
            }
        }
    }

    /// The identifier of the image that the engine has under this name.
    async fn present(&self, reference: &Reference, row: Option<&KeyRow>, what: &str) -> Result<Option<String>, EngineError> {
        let found = self.inspect(&reference.to_string(), what).await?.and_then(|image| image.id);
        match (found, row) {
            // What came from a mirror has no name with this digest, but what a digest stands for never changes.
            (None, Some(row)) if reference.digest.is_some() => {
                Ok(self.inspect(&row.id, what).await?.and_then(|image| image.id))
            }
            (found, _) => Ok(found),
        }
    }

    fn take(&self, reference: &Reference, id: String) -> Image {
        self.touch(&id);
        Image { id, name: Some(reference.to_string()), artifact_sha256: None, was_there: true }
    }

    fn note(&self, key: &str, reference: &Reference, id: &str, checked: u64, brought: bool) {
        let used = self.now_secs();
        self.table.change(|rows| {
            rows.keys.insert(key.to_owned(), KeyRow { id: id.to_owned(), sha256: None, checked: Some(checked) });
            let row = rows.images.entry(id.to_owned()).or_insert_with(ImageRow::default);
            row.brought |= brought;
            row.used = used;
            row.shown = reference.to_string();
        });
    }

    /// Pulls from a mirror or from the registry itself, and returns the identifier.
    async fn bring(
        &self,
        reference: &Reference,
        what: &str,
        attempts: u32,
        report: &Report,
    ) -> Result<String, (Refusal, String)> {
        let mirrors = self.options.registries.get(&reference.registry).map(|access| access.mirrors.clone());
        for mirror in mirrors.unwrap_or_default() {
            match self.pull_through(&reference.at(&mirror), reference, report).await {
                Ok(id) => return Ok(id),
                Err((refusal @ (Refusal::Gone | Refusal::Room), message)) => return Err((refusal, message)),
                Err((_, message)) => tracing::info!("{what}: not from the mirror {mirror}: {message}"),
            }
        }
        let mut wait = self.options.first_wait;
        for attempt in 1.. {
            match self.pull(reference, report).await {
                Ok(()) => break,
                Err((Refusal::Limited | Refusal::Passing, message)) if attempt < attempts => {
                    report.now(format!("{what}: attempt {attempt} of {attempts} failed: {message}"));
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(60));
                }
                Err(error) => return Err(error),
            }
        }
        self.identifier(reference).await
    }

    async fn pull_through(&self, there: &Reference, here: &Reference, report: &Report) -> Result<String, (Refusal, String)> {
        self.pull(there, report).await?;
        let id = self.identifier(there).await?;
        // Under its digest the image keeps the name of the mirror: a digest cannot be given as a name.
        if here.digest.is_none() {
            let options = TagImageOptionsBuilder::default().repo(&here.repository()).tag(here.version()).build();
            let tagged = self.ask(|| self.connection.docker().tag_image(&id, Some(options.clone()))).await;
            tagged.map_err(|error| failure::of_engine(&error))?;
            if let Err(error) = self.remove(&there.to_string()).await {
                tracing::warn!("remove the name {there}: {error}");
            }
        }
        Ok(id)
    }

    async fn identifier(&self, reference: &Reference) -> Result<String, (Refusal, String)> {
        let name = reference.to_string();
        let found = self.ask(|| self.connection.docker().inspect_image(&name)).await;
        match found {
            Ok(found) => {
                self.declared.note(&found);
                found.id.ok_or_else(|| (Refusal::Garbage, "the engine told no identifier".to_owned()))
            }
            // Removed meanwhile, or the pull did not bring what is missing.
            Err(error) if failure::is_missing(&error) || failure::is_half_there(&error) => {
                Err((Refusal::Passing, "the engine says that it has the image, and has not all of it".to_owned()))
            }
            Err(error) => Err(failure::of_engine(&error)),
        }
    }

    /// One pull, as long as the engine is there.
    async fn pull(&self, reference: &Reference, report: &Report) -> Result<(), (Refusal, String)> {
        tokio::select! {
            biased; // What is pulled is pulled.
            pulled = self.pull_now(reference, report) => pulled,
            why = self.deaf() => Err((Refusal::Gone, why)),
        }
    }

    async fn pull_now(&self, reference: &Reference, report: &Report) -> Result<(), (Refusal, String)> {
        let mut docker = self.connection.docker().clone().with_timeout(PULL_BOUND);
        if let Some(header) = self.authorization(&reference.registry).map_err(|message| (Refusal::Garbage, message))? {
            docker = docker.with_request_modifier(move |mut request| {
                // Made of the alphabet of base64, so it always is a value of a header.
                if let Ok(value) = header.parse() {
                    request.headers_mut().insert("X-Registry-Auth", value);
                }
                request
            });
        }
        let options = CreateImageOptionsBuilder::default().from_image(&reference.repository()).tag(reference.version()).build();
        let mut answer = pin!(docker.create_image(Some(options), None, None));
        let mut layers: HashMap<String, (u64, u64)> = HashMap::new();
        loop {
            let item = match timeout(STALL, answer.next()).await {
                Ok(Some(item)) => item.map_err(|error| failure::of_pull(&error))?,
                Ok(None) => return Ok(()),
                Err(_) => return Err((Refusal::Passing, format!("the engine said nothing for {} s", STALL.as_secs()))),
            };
            let Some(id) = item.id.filter(|_| item.status.as_deref() == Some("Downloading")) else { continue };
            let Some(detail) = item.progress_detail else { continue };
            let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
            if layers.len() < LAYERS || layers.contains_key(&id) {
                layers.insert(id, (number(detail.current), number(detail.total)));
            }
            let sum = |of: fn(&(u64, u64)) -> u64| layers.values().map(of).sum::<u64>() / 1_000_000;
            let mut text = format!("image {reference}: {}", sum(|layer| layer.0));
            let _ = write!(text, " of {} MB downloaded", sum(|layer| layer.1.max(layer.0)));
            report.now(text);
        }
    }

    /// The header that says who we are to a registry. The file with the password is read each time, so that it can be renewed.
    /// (The client's own encoding has characters that the engine does not take.)
    fn authorization(&self, registry: &str) -> Result<Option<String>, String> {
        let Some(login) = self.options.registries.get(registry).and_then(|access| access.login.as_ref()) else {
            return Ok(None);
        };
        let read = |what: &str, path: &Path| {
            secret(path).map_err(|error| format!("read the {what} for {registry} in {}: {error}", path.display()))
        };
        let server = if registry == DEFAULT_REGISTRY { "https://index.docker.io/v1/" } else { registry };
        let login = match login {
            Login::Password { username, password_file } => {
                let username = match username {
                    Username::Given(name) => name.clone(),
                    Username::File(path) => read("user name", path)?,
                };
                json!({ "username": username, "password": read("password", password_file)?, "serveraddress": server })
            }
            Login::Token { token_file } => json!({ "registrytoken": read("token", token_file)?, "serveraddress": server }),
        };
        Ok(Some(URL_SAFE.encode(login.to_string())))
    }
}

fn secret(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(SECRET_BYTES).read_to_string(&mut text)?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_compared_only_when_it_could_be_another_one() {
        let hour = Duration::from_secs(3600);
        let ago = |secs| Some(Duration::from_secs(secs));
        assert_eq!(decide(false, true, None, hour), Verdict::Bring);
        assert_eq!(decide(true, true, None, hour), Verdict::Take, "a digest never changes");
        assert_eq!(decide(true, false, ago(10), hour), Verdict::Take);
        assert_eq!(decide(true, false, ago(3600), hour), Verdict::Compare, "too old");
        assert_eq!(decide(true, false, None, hour), Verdict::Compare, "never compared, or another image");
    }
}
