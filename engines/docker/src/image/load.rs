//! The image of an archive: there already, or brought, by which road and in how many passes.

use std::collections::HashSet;

use bollard::query_parameters::ListImagesOptionsBuilder;
use tc_engine::{EngineError, Fault, Image, ImageBytes};

use super::{
    Inner,
    documents::{Name, hex, sha256_hex},
    failure::{self, Refusal},
    feed::{Archive, Pass, Way},
    flight::Report,
    known::{Known, LayerMember, Store},
    outcome::{Learned, Skip},
    past::Written,
    table::{ImageRow, KeyRow, Rows},
};

/// Repository of the images that came as archives. The top-level domain is reserved, so no registry ever has it.
pub const OWN_REPOSITORY: &str = "tc-worker.invalid/artifact";
/// Most images that are looked into for their layers.
const IMAGES_LOOKED_INTO: usize = 500;

/// The name under which the engine has the image of an artifact.
pub fn own_name(key: &str) -> Name {
    let mut tag = sha256_hex(key.as_bytes());
    tag.truncate(40);
    Name { repository: OWN_REPOSITORY.to_owned(), tag }
}

impl Inner {
    /// The image of an artifact: there already, or loaded.
    pub(super) async fn artifact(
        &self,
        key: &str,
        shown: &str,
        bytes: &dyn ImageBytes,
        report: &Report,
    ) -> Result<Image, EngineError> {
        let what = format!("load image {shown}");
        let row = self.table.rows().keys.get(key).cloned();
        if let Some(row) = row {
            if self.inspect(&row.id, &what).await?.is_some() {
                self.touch(&row.id);
                let artifact_sha256 = row.sha256.as_deref().and_then(unhex);
                let name = Some(own_name(key).full());
                return Ok(Image { id: row.id, name, artifact_sha256, was_there: true });
            }
            self.table.change(|rows| rows.forget(&row.id));
        }
        let name = own_name(key);
        let archive = Archive { what: &what, shown, bytes, name: &name, report };
        let (before, mut known) = self.known(&what).await?;
        if self.options.past_the_engine
            && known.store() == Store::Containerd
            && let Some(written) = self.past_the_engine(archive).await?
        {
            let Written { id, bytes, sha256 } = written;
            let members = Vec::new();
            self.table.change(|rows| record(rows, key, shown, (&id, bytes), sha256, members, &before, self.now_secs()));
            return Ok(Image { id, name: Some(name.full()), artifact_sha256: sha256, was_there: false });
        }
        let mut way = Way::Filter(Skip::Guess);
        loop {
            let (nothing, mending) = (way == Way::Filter(Skip::Nothing), matches!(way, Way::Mend(_)));
            if nothing || mending {
                known = Known::nothing(known.store());
            }
            match self.pass(archive, &known, way).await? {
                Pass::Loaded(learned, sha256) => match self.loaded(&what, &name, &learned, known.store()).await {
                    Ok((id, size)) => {
                        if let Some(warning) = learned.mended.warning(shown) {
                            report.warn(&warning).await;
                        }
                        let members = learned.members.clone();
                        self.table
                            .change(|rows| record(rows, key, shown, (&id, size), sha256, members, &before, self.now_secs()));
                        return Ok(Image { id, name: Some(name.full()), artifact_sha256: sha256, was_there: false });
                    }
                    Err(error) if learned.skipped.0 > 0 && error.fault == Fault::Task => {
                        way = Way::Filter(Skip::Nothing);
                    }
                    Err(error) => {
                        self.discard(&name.full()).await;
                        return Err(error);
                    }
                },
                // Each of these is reached once: a guess leads to an exact list or to nothing, an exact list to nothing; what
                // has to be mended may lead to the same with all sizes.
                Pass::Again(next) => way = next,
                Pass::Refused { refusal: Refusal::Final, message, plan: Some(plan), .. }
                    if !mending && plan.answers(&message) =>
                {
                    tracing::info!("{what}: {message}; once more with layers that it may like better");
                    self.discard(&name.full()).await;
                    way = Way::Mend(*plan);
                }
                Pass::Refused { refusal: Refusal::Final, message, skipping: true, .. } if !nothing => {
                    tracing::info!("{what}: {message}; once more with all layers");
                    self.discard(&name.full()).await;
                    way = Way::Filter(Skip::Nothing);
                }
                Pass::Refused { refusal, message, .. } => {
                    if refusal != Refusal::Gone {
                        self.discard(&name.full()).await;
                    }
                    return Err(failure::error(&what, refusal, &message));
                }
            }
        }
    }

    /// Makes sure that the engine has, under our name, what the archive said, and finds out what it calls it.
    async fn loaded(&self, what: &str, name: &Name, learned: &Learned, store: Store) -> Result<(String, u64), EngineError> {
        let refused = |message: &str| failure::error(what, Refusal::Final, message);
        let found = self.inspect(&name.full(), what).await?;
        let found = found.ok_or_else(|| refused("the engine took the archive, but has no image of it"))?;
        let id = found.id.ok_or_else(|| failure::error(what, Refusal::Garbage, "the engine told no identifier"))?;
        if let Some(image) = &learned.image {
            let layers = found.root_fs.and_then(|root| root.layers).unwrap_or_default();
            let other = layers != image.diff_ids || store == Store::Graph && id != format!("sha256:{}", image.config_sha256);
            if other {
                return Err(refused("the engine has another image than the archive says"));
            }
        }
        Ok((id, found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default()))
    }

    /// Removes a name that a failed load may have left. What it stood for goes too, if nobody uses it.
    async fn discard(&self, name: &str) {
        match self.remove(name).await {
            Ok(()) => {}
            Err(error) if failure::is_missing(&error) => {}
            Err(error) => tracing::warn!("remove what a failed load left, {name}: {error}"),
        }
    }

    /// The identifiers of all images, and what is known about their layers.
    async fn known(&self, what: &str) -> Result<(HashSet<String>, Known), EngineError> {
        let store = self.store(what).await?;
        let options = ListImagesOptionsBuilder::default().all(true).build();
        let images = self.ask(|| self.connection.docker().list_images(Some(options.clone()))).await;
        let images = images.map_err(|error| failure::engine_error(what, &error))?;
        let ids: HashSet<String> = images.into_iter().map(|image| image.id).collect();
        let mut chains = Vec::new();
        if store == Store::Graph {
            for id in ids.iter().take(IMAGES_LOOKED_INTO) {
                chains.extend(self.inspect(id, what).await?.and_then(|image| image.root_fs).and_then(|root| root.layers));
            }
        }
        let rows = self.table.rows();
        let there = rows.images.into_iter().filter(|(id, _)| ids.contains(id));
        let members: Vec<_> = there.flat_map(|(_, row)| row.members).collect();
        Ok((ids, Known::new(store, chains, members)))
    }
}

#[expect(clippy::too_many_arguments, reason = "one row has so many columns")]
fn record(
    rows: &mut Rows,
    key: &str,
    shown: &str,
    (id, bytes): (&str, u64),
    sha256: Option<[u8; 32]>,
    members: Vec<LayerMember>,
    before: &HashSet<String>,
    now: u64,
) {
    let earlier = rows.images.get(id);
    let row = ImageRow {
        brought: !before.contains(id) || earlier.is_some_and(|row| row.brought),
        bytes,
        used: now,
        shown: shown.to_owned(),
        members,
    };
    rows.images.insert(id.to_owned(), row);
    rows.keys.insert(key.to_owned(), KeyRow { id: id.to_owned(), sha256: sha256.map(|sha256| hex(&sha256)), checked: None });
}

fn unhex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
mod tests {
    use super::*;

    #[test]
    fn digits_and_bytes() {
        let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 8).unwrap());
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(unhex("12"), None);
        assert_eq!(unhex(&"ü".repeat(32)), None);
    }
}
