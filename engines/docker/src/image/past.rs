//! Archives past the engine: where it keeps its images in containerd's store and this process may write there, that is several
//! times faster than giving it the archive. Where it may not, nothing is lost but the question.

use async_trait::async_trait;
use bollard::query_parameters::TagImageOptionsBuilder;
use bytes::Bytes;
use tc_engine::{EngineError, Fault, ImageStream};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::{
    Inner, LeaseOwner, failure,
    feed::{Archive, STALL, progress},
    flight::Report,
};
use crate::containerd::{ContainerdStore, Limits, LoadError, Names};

/// An image that was written past the engine.
pub struct Written {
    pub id: String,
    pub bytes: u64,
    pub sha256: Option<[u8; 32]>,
}

/// A stream whose progress is told, and that does not stall unseen.
struct Watched<'a> {
    inner: Box<dyn ImageStream>,
    report: &'a Report,
    what: &'a str,
    shown: &'a str,
}

#[async_trait]
impl ImageStream for Watched<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        let next = timeout(STALL, self.inner.next()).await.map_err(|_| {
            let why = format!("{}: nothing came of the archive for {} s", self.what, STALL.as_secs());
            EngineError::new(Fault::Resource, why)
        })??;
        self.report.now(progress(self.shown, self.inner.downloaded(), 0));
        Ok(next)
    }

    fn sha256(&self) -> Option<[u8; 32]> {
        self.inner.sha256()
    }

    fn downloaded(&self) -> (u64, Option<u64>) {
        self.inner.downloaded()
    }
}

impl Inner {
    /// Writes an archive into the store behind the engine and gives it our name there. None if this way is closed; then the
    /// archive has to be opened again for the other.
    pub(super) async fn past_the_engine(
        &self,
        Archive { what, shown, bytes, name, report }: Archive<'_>,
    ) -> Result<Option<Written>, EngineError> {
        let docker = self.connection.docker();
        let (LeaseOwner::Alone(owner) | LeaseOwner::Shared(owner)) = &self.options.owner;
        let store = match ContainerdStore::find(docker, owner).await {
            Ok(store) => store,
            Err(why) => {
                debug!("{what}: through the engine, since {why}");
                return Ok(None);
            }
        };
        if matches!(self.options.owner, LeaseOwner::Alone(_)) {
            self.leases_swept.get_or_init(|| sweep(&store)).await;
        }
        let inner = timeout(STALL, bytes.open()).await.map_err(|_| {
            EngineError::new(Fault::Resource, format!("{what}: the archive did not open for {} s", STALL.as_secs()))
        })??;
        let mut stream = Watched { inner, report, what, shown };
        // Archives bring no names of their own into the engine.
        let loaded = match store.load(&mut stream, Names::None, Limits::default()).await {
            Ok(loaded) => loaded,
            Err(LoadError::Final(error)) => return Err(EngineError::new(error.fault, format!("{what}: {}", error.message))),
            Err(LoadError::Fallback(why)) => {
                info!("{what}: once more through the engine, since {why}");
                return Ok(None);
            }
        };
        if let Some((link, target)) = &loaded.lost_links.example {
            let count = loaded.lost_links.count;
            report
                .warn(&format!(
                    "image {shown}: {count} hard links of its layers lead to nothing and were left out, {link:?} to {target:?} \
                     for one"
                ))
                .await;
        }
        let tag = TagImageOptionsBuilder::default().repo(&name.repository).tag(&name.tag).build();
        match self.ask(|| docker.tag_image(&loaded.id, Some(tag.clone()))).await {
            Ok(()) => {}
            // Somebody has removed an image with the same layers at the wrong moment.
            Err(error) if failure::is_missing(&error) => {
                info!("{what}: once more through the engine, since {error}");
                return Ok(None);
            }
            Err(error) => return Err(failure::engine_error(what, &error)),
        }
        let Some(found) = self.inspect(&name.full(), what).await? else {
            info!("{what}: once more through the engine, which does not see what was written");
            return Ok(None);
        };
        let size = found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        Ok(Some(Written { id: found.id.unwrap_or(loaded.id), bytes: size, sha256: stream.sha256() }))
    }
}

/// Removes what loads of a process that is dead left behind.
async fn sweep(store: &ContainerdStore) {
    match store.sweep().await {
        Ok(0) => {}
        Ok(count) => info!("Removed what {count} unfinished loads of images had left in containerd's store"),
        Err(why) => warn!("Could not remove what unfinished loads of images left in containerd's store: {why}"),
    }
}
