//! One archive on its way into the engine, with nothing on disk.
//!
//! ```text
//! ImageStream ─chunks─▶ Filter or Mender ─▶ bounded channel ─▶ body of POST /images/load     answer ─▶ Heard
//! ```

use std::{io, pin::pin, time::Duration};

use bollard::query_parameters::ImportImageOptionsBuilder;
use bytes::Bytes;
use futures_util::stream;
use tc_engine::{EngineError, Fault, ImageBytes};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Inner,
    documents::Name,
    failure::Refusal,
    filter::Filter,
    flight::Report,
    heard::{Heard, hear},
    known::Known,
    mend::{Mender, Plan},
    outcome::{ArchiveError, Ending, Learned, Skip},
};

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

/// An archive that is to become an image.
#[derive(Clone, Copy)]
pub struct Archive<'a> {
    /// What is being done to which image, in front of errors.
    pub what: &'a str,
    /// What people call it.
    pub shown: &'a str,
    /// Where it comes from.
    pub bytes: &'a dyn ImageBytes,
    /// Our name for the image, the only one that it brings into the engine.
    pub name: &'a Name,
    /// Who is told how it goes on.
    pub report: &'a Report,
}

/// How one pass over the archive ended.
pub enum Pass {
    /// The engine has the image.
    Loaded(Box<Learned>, Option<[u8; 32]>),
    /// Once more, in another way.
    Again(Way),
    /// The engine does not want it.
    Refused {
        /// What kind of refusal that is.
        refusal: Refusal,
        /// What the engine says.
        message: String,
        /// Whether layers were left out.
        skipping: bool,
        /// What mending the archive would take, if it was read to its end.
        plan: Option<Box<Plan>>,
    },
}

/// How an archive is read.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// As it is, but for what the engine has.
    Filter(Skip),
    /// With layers that the engine does not refuse.
    Mend(Plan),
}

/// What stands between the stream and the engine.
enum Sieve<'a> {
    Filter(Box<Filter<'a>>),
    Mender(Box<Mender>),
}

/// How feeding the engine ended.
enum Fed {
    All(Box<Learned>, Option<[u8; 32]>),
    Again(Way),
    EngineClosed,
}

impl Inner {
    /// Reads the archive once.
    pub(super) async fn pass(&self, archive: Archive<'_>, known: &Known, way: Way) -> Result<Pass, EngineError> {
        let Archive { shown, name, report, .. } = archive;
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(CHUNKS);
        let body = stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|chunk| (chunk, receiver)) });
        let docker = self.connection.docker().clone().with_timeout(LOAD_BOUND);
        let answer = docker.import_image_stream(ImportImageOptionsBuilder::default().quiet(false).build(), body, None);
        let mut heard = pin!(hear(answer, report, shown));
        let may_skip = !matches!(way, Way::Filter(Skip::Nothing) | Way::Mend(_));
        let fed = {
            let mut feeding = pin!(self.feed(archive, known, way, sender));
            tokio::select! {
                // What the engine has against the archive outranks what it does to the feeding of it, and all of that its silence.
                biased;
                heard = &mut heard => {
                    let (refusal, message) = heard.failure.unwrap_or((Refusal::Final, "the engine did not want all of it".to_owned()));
                    return Ok(Pass::Refused { refusal, message, skipping: may_skip, plan: None });
                }
                end = &mut feeding => end?,
                why = self.deaf() => {
                    return Ok(Pass::Refused { refusal: Refusal::Gone, message: why, skipping: may_skip, plan: None });
                }
            }
        };
        let (learned, sha256) = match fed {
            Fed::Again(way) => return Ok(Pass::Again(way)),
            Fed::All(learned, sha256) => (learned, sha256),
            Fed::EngineClosed => {
                let words = timeout(LAST_WORDS, heard).await.ok().and_then(|heard| heard.failure);
                let (refusal, message) = words.unwrap_or((Refusal::Gone, "it closed the stream".to_owned()));
                return Ok(Pass::Refused { refusal, message, skipping: may_skip, plan: None });
            }
        };
        report.now(format!("image {shown}: the engine unpacks it"));
        let heard = tokio::select! {
            biased; // As above.
            heard = timeout(UNPACK, heard) => heard.unwrap_or_else(|_| Heard::stalled(UNPACK)),
            why = self.deaf() => {
                return Ok(Pass::Refused { refusal: Refusal::Gone, message: why, skipping: may_skip, plan: None });
            }
        };
        let skipping = learned.skipped.0 > 0;
        if let Some((refusal, message)) = heard.failure {
            return Ok(Pass::Refused { refusal, message, skipping, plan: learned.plan.map(Box::new) });
        }
        if let Some(other) = heard.names.iter().find(|loaded| **loaded != name.full()) {
            let message = format!("it brought the name {other:?}, which it must not");
            return Ok(Pass::Refused { refusal: Refusal::Final, message, skipping, plan: None });
        }
        Ok(Pass::Loaded(learned, sha256))
    }

    async fn feed(
        &self,
        Archive { what, shown, bytes, name, report }: Archive<'_>,
        known: &Known,
        way: Way,
        sender: mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<Fed, EngineError> {
        let stalled = |where_: &str| EngineError::new(Fault::Resource, format!("{what}: {where_} for {} s", STALL.as_secs()));
        let refused = |error: ArchiveError| EngineError::new(Fault::Task, format!("{what}: {error}"));
        let mut source = timeout(STALL, bytes.open()).await.map_err(|_| stalled("the archive did not open"))??;
        let bounds = self.options.bounds;
        let mut sieve = match way {
            Way::Filter(skip) => Sieve::Filter(Box::new(Filter::new(known, skip, name, bounds))),
            Way::Mend(plan) => Sieve::Mender(Box::new(Mender::new(plan, bounds))),
        };
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
            sieve = match sieve {
                Sieve::Filter(mut filter) => {
                    filter.take(chunk, &mut out).map_err(refused)?;
                    left_out += taken.saturating_sub(out.iter().map(|bytes| bytes.len() as u64).sum());
                    Sieve::Filter(filter)
                }
                Sieve::Mender(mender) => {
                    let work = tokio::task::spawn_blocking(mend(mender, chunk, sender.clone()));
                    let done = timeout(STALL, work).await.map_err(|_| stalled("the engine took nothing"))?;
                    let (mender, taken) =
                        done.map_err(|error| EngineError::new(Fault::Worker, format!("{what}: mend it: {error}")))?;
                    taken.map_err(refused)?;
                    if sender.is_closed() {
                        return Ok(Fed::EngineClosed);
                    }
                    Sieve::Mender(mender)
                }
            };
            for chunk in out.drain(..).filter(|chunk| !chunk.is_empty()) {
                match timeout(STALL, sender.send(Ok(chunk))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(Fed::EngineClosed),
                    Err(_) => return Err(stalled("the engine took nothing")),
                }
            }
            report.now(progress(shown, source.downloaded(), left_out));
        }
        let ending = match sieve {
            Sieve::Filter(filter) => filter.finish(),
            Sieve::Mender(mender) => mender.finish(name),
        };
        match ending.map_err(refused)? {
            Ending::Again(skip) => Ok(Fed::Again(Way::Filter(skip))),
            Ending::Mend(plan) => Ok(Fed::Again(Way::Mend(plan))),
            Ending::Complete(tail, learned) => match timeout(STALL, sender.send(Ok(tail.into()))).await {
                Ok(Ok(())) => Ok(Fed::All(learned, source.sha256())),
                Ok(Err(_)) => Ok(Fed::EngineClosed),
                Err(_) => Err(stalled("the engine took nothing")),
            },
        }
    }
}

/// Mends what came of an archive and gives it to the engine, in a thread where both may take their time.
fn mend(
    mut mender: Box<Mender>,
    chunk: Bytes,
    to: mpsc::Sender<io::Result<Bytes>>,
) -> impl FnOnce() -> (Box<Mender>, Result<(), ArchiveError>) + Send + 'static {
    move || {
        let taken = mender.take(chunk, &mut |bytes| bytes.is_empty() || to.blocking_send(Ok(bytes)).is_ok());
        (mender, taken)
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
