//! Loading an archive: its stream through the filter into the engine, with nothing on disk.
//!
//! ```text
//! ImageStream ─chunks─▶ Filter ─▶ bounded channel ─▶ body of POST /images/load     answer ─▶ Heard
//! ```

use std::{collections::HashSet, io, pin::pin, time::Duration};

use bollard::query_parameters::{ImportImageOptionsBuilder, ListImagesOptionsBuilder};
use bytes::Bytes;
use futures_util::stream;
use tc_engine::{EngineError, Fault, Image, ImageBytes};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Inner,
    answer::{Heard, hear},
    documents::{Name, hex, sha256_hex},
    failure::{self, Refusal},
    filter::{Ending, Filter, Learned, Skip},
    flight::Report,
    known::{Known, LayerMember, Store},
    past::Written,
    table::{ImageRow, KeyRow, Rows},
};

/// Repository of the images that came as archives. The top-level domain is reserved, so no registry ever has it.
pub const OWN_REPOSITORY: &str = "tc-worker.invalid/artifact";
/// Chunks between the filter and the engine.
const CHUNKS: usize = 8;
/// Longest without a byte from the archive, a byte into the engine, or a sign of life while it unpacks.
pub const STALL: Duration = Duration::from_secs(15 * 60);
/// Bound of a whole load by the client, which would otherwise give up after two minutes. What hangs is seen by [`STALL`], and by
/// `deaf` when the engine has all and answers nothing.
const LOAD_BOUND: Duration = Duration::from_secs(24 * 3600);
/// Longest that the engine may take for what it has wholly got. Some say nothing until it is done.
const UNPACK: Duration = Duration::from_secs(2 * 3600);
/// Longest that the engine may take to say why it closed the stream.
const LAST_WORDS: Duration = Duration::from_secs(30);
/// Most images that are looked into for their layers.
const IMAGES_LOOKED_INTO: usize = 500;

/// The name under which the engine has the image of an artifact.
pub fn own_name(key: &str) -> Name {
    let mut tag = sha256_hex(key.as_bytes());
    tag.truncate(40);
    Name { repository: OWN_REPOSITORY.to_owned(), tag }
}

/// How one pass over the archive ended.
enum Pass {
    Loaded(Box<Learned>, Option<[u8; 32]>),
    Again(Skip),
    Refused { refusal: Refusal, message: String, skipping: bool },
}

/// How feeding the engine ended.
enum Fed {
    All(Box<Learned>, Option<[u8; 32]>),
    Again(Skip),
    EngineClosed,
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
        let (before, mut known) = self.known(&what).await?;
        if self.options.past_the_engine
            && known.store() == Store::Containerd
            && let Some(written) = self.past_the_engine(&what, shown, bytes, &name, report).await?
        {
            let Written { id, bytes, sha256 } = written;
            let members = Vec::new();
            self.table.change(|rows| record(rows, key, shown, (&id, bytes), sha256, members, &before, self.now_secs()));
            return Ok(Image { id, name: Some(name.full()), artifact_sha256: sha256, was_there: false });
        }
        let mut skip = Skip::Guess;
        loop {
            let nothing = skip == Skip::Nothing;
            if nothing {
                known = Known::nothing(known.store());
            }
            match self.pass(&what, shown, bytes, (&known, skip, &name), report).await? {
                Pass::Loaded(learned, sha256) => match self.loaded(&what, &name, &learned, known.store()).await {
                    Ok((id, size)) => {
                        let members = learned.members.clone();
                        self.table
                            .change(|rows| record(rows, key, shown, (&id, size), sha256, members, &before, self.now_secs()));
                        return Ok(Image { id, name: Some(name.full()), artifact_sha256: sha256, was_there: false });
                    }
                    Err(error) if learned.skipped.0 > 0 && error.fault == Fault::Task => skip = Skip::Nothing,
                    Err(error) => {
                        self.discard(&name.full()).await;
                        return Err(error);
                    }
                },
                // Each of these is reached once: a guess leads to an exact list or to nothing, an exact list to nothing.
                Pass::Again(next) => skip = next,
                Pass::Refused { refusal: Refusal::Final, message, skipping: true } if !nothing => {
                    tracing::info!("{what}: {message}; once more with all layers");
                    self.discard(&name.full()).await;
                    skip = Skip::Nothing;
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

    async fn pass(
        &self,
        what: &str,
        shown: &str,
        bytes: &dyn ImageBytes,
        (known, skip, name): (&Known, Skip, &Name),
        report: &Report,
    ) -> Result<Pass, EngineError> {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(CHUNKS);
        let body = stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|chunk| (chunk, receiver)) });
        let docker = self.connection.docker().clone().with_timeout(LOAD_BOUND);
        let answer = docker.import_image_stream(ImportImageOptionsBuilder::default().quiet(false).build(), body, None);
        let mut heard = pin!(hear(answer, report, shown));
        let may_skip = skip != Skip::Nothing;
        let fed = {
            let mut feeding = pin!(self.feed(what, shown, bytes, (known, skip, name), report, sender));
            tokio::select! {
                // What the engine has against the archive outranks what it does to the feeding of it, and all of that its silence.
                biased;
                heard = &mut heard => {
                    let (refusal, message) = heard.failure.unwrap_or((Refusal::Final, "the engine did not want all of it".to_owned()));
                    return Ok(Pass::Refused { refusal, message, skipping: may_skip });
                }
                end = &mut feeding => end?,
                why = self.deaf() => return Ok(Pass::Refused { refusal: Refusal::Gone, message: why, skipping: may_skip }),
            }
        };
        let (learned, sha256) = match fed {
            Fed::Again(skip) => return Ok(Pass::Again(skip)),
            Fed::All(learned, sha256) => (learned, sha256),
            Fed::EngineClosed => {
                let words = timeout(LAST_WORDS, heard).await.ok().and_then(|heard| heard.failure);
                let (refusal, message) = words.unwrap_or((Refusal::Gone, "it closed the stream".to_owned()));
                return Ok(Pass::Refused { refusal, message, skipping: may_skip });
            }
        };
        report.now(format!("image {shown}: the engine unpacks it"));
        let heard = tokio::select! {
            biased; // As above.
            heard = timeout(UNPACK, heard) => heard.unwrap_or_else(|_| Heard::stalled(UNPACK)),
            why = self.deaf() => return Ok(Pass::Refused { refusal: Refusal::Gone, message: why, skipping: may_skip }),
        };
        let skipping = learned.skipped.0 > 0;
        if let Some((refusal, message)) = heard.failure {
            return Ok(Pass::Refused { refusal, message, skipping });
        }
        if let Some(other) = heard.names.iter().find(|loaded| **loaded != name.full()) {
            let message = format!("it brought the name {other:?}, which it must not");
            return Ok(Pass::Refused { refusal: Refusal::Final, message, skipping });
        }
        Ok(Pass::Loaded(learned, sha256))
    }

    async fn feed(
        &self,
        what: &str,
        shown: &str,
        bytes: &dyn ImageBytes,
        (known, skip, name): (&Known, Skip, &Name),
        report: &Report,
        sender: mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<Fed, EngineError> {
        let stalled = |where_: &str| EngineError::new(Fault::Resource, format!("{what}: {where_} for {} s", STALL.as_secs()));
        let refused = |error: super::filter::ArchiveError| EngineError::new(Fault::Task, format!("{what}: {error}"));
        let mut source = timeout(STALL, bytes.open()).await.map_err(|_| stalled("the archive did not open"))??;
        let mut filter = Filter::new(known, skip, name, self.options.bounds);
        let mut out = Vec::new();
        let mut left_out = 0u64;
        loop {
            let next = match timeout(STALL, source.next()).await {
                Ok(Ok(next)) => next,
                Ok(Err(error)) => {
                    // An aborted body, so that the engine does not take what came for all there is.
                    let _ = sender.try_send(Err(io::Error::other("the archive broke off")));
                    return Err(error);
                }
                Err(_) => return Err(stalled("nothing came of the archive")),
            };
            let Some(chunk) = next else { break };
            let taken = chunk.len() as u64;
            filter.take(chunk, &mut out).map_err(refused)?;
            left_out += taken.saturating_sub(out.iter().map(|bytes| bytes.len() as u64).sum());
            for chunk in out.drain(..).filter(|chunk| !chunk.is_empty()) {
                match timeout(STALL, sender.send(Ok(chunk))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(Fed::EngineClosed),
                    Err(_) => return Err(stalled("the engine took nothing")),
                }
            }
            report.now(progress(shown, source.downloaded(), left_out));
        }
        match filter.finish().map_err(refused)? {
            Ending::Again(skip) => Ok(Fed::Again(skip)),
            Ending::Complete(tail, learned) => match timeout(STALL, sender.send(Ok(tail.into()))).await {
                Ok(Ok(())) => Ok(Fed::All(Box::new(learned), source.sha256())),
                Ok(Err(_)) => Ok(Fed::EngineClosed),
                Err(_) => Err(stalled("the engine took nothing")),
            },
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
        let images = self.ask(self.connection.docker().list_images(Some(options))).await;
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

/// How far an archive has come.
pub fn progress(shown: &str, (now, all): (u64, Option<u64>), left_out: u64) -> String {
    let mega = |bytes: u64| bytes / 1_000_000;
    let of = all.map(|all| format!(" of {}", mega(all))).unwrap_or_default();
    let spared =
        if mega(left_out) > 0 { format!(", {} MB of layers are there already", mega(left_out)) } else { String::new() };
    format!("image {shown}: {}{of} MB downloaded{spared}", mega(now))
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
