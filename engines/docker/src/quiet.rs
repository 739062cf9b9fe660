//! After the end of a container: reading what it left, and removing it.

use std::sync::Arc;

use async_trait::async_trait;
use tc_engine::{EngineError, Entry, EntryFault, Fault, Gone, Kind, Quiet};
use tokio::{sync::mpsc, task::spawn_blocking, time::Instant};

use crate::{
    archive::{Archive, clean},
    container::removal::{self, Patience},
    directory::Directory,
    engine::Shared,
    labels::name_of,
};

/// What there may be of a run, so that what was never made is not looked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Made {
    pub(crate) container: bool,
    /// It was created, and what is in it can be read.
    pub(crate) files: bool,
    /// Nobody can say whether the engine is still creating it.
    pub(crate) uncertain: bool,
    pub(crate) volumes: bool,
    pub(crate) network: bool,
}

/// A run in whose container nothing runs.
pub(crate) struct DockerQuiet {
    pub(crate) shared: Arc<Shared>,
    pub(crate) run: String,
    pub(crate) made: Made,
    directory: Directory,
    /// Its files; there is one such value for a container.
    archive: Archive,
}

impl DockerQuiet {
    /// What there may be of this run is not running.
    pub(crate) fn new(shared: Arc<Shared>, run: String, directory: Directory, made: Made) -> Self {
        let archive = Archive::new(shared.connection.clone(), name_of(&run), directory.spool());
        Self { shared, run, made, directory, archive }
    }

    /// Removes everything that the engine has of the run.
    async fn remove(&self) -> Result<(), String> {
        let shared = &*self.shared;
        let deadline = Instant::now() + shared.bounds.removal;
        if self.made.container {
            removal::container(shared, &name_of(&self.run), deadline).await?;
        }
        if self.made.uncertain {
            // A call whose reply did not come may still be carried out. For as long as one kill may take we look whether it
            // is; a sweep finds what comes even later.
            let mut patience = Patience::until(shared, Instant::now() + shared.bounds.late);
            while patience.wait().await {
                removal::container(shared, &name_of(&self.run), deadline).await?;
            }
        }
        let volumes = async { if self.made.volumes { removal::volumes(shared, &self.run, deadline).await } else { Ok(()) } };
        let networks = async { if self.made.network { removal::networks(shared, &self.run, deadline).await } else { Ok(()) } };
        let (volumes, networks) = tokio::join!(volumes, networks);
        volumes.and(networks)
    }
}

#[async_trait]
impl Quiet for DockerQuiet {
    fn read(&self, path: &str, kind: Kind) -> mpsc::Receiver<Entry> {
        if self.made.files {
            return self.archive.read(path, kind);
        }
        let (send, receive) = mpsc::channel(1);
        let missing = Entry { relative: String::new(), shown: clean(path), content: Err(EntryFault::Missing) };
        // There is room for one.
        drop(send.try_send(missing));
        receive
    }

    async fn destroy(self: Box<Self>, keep_files: bool) -> Result<Gone, EngineError> {
        let removed = self.remove().await;
        let Self { shared, directory, .. } = *self;
        let emptied = if keep_files {
            Ok(())
        } else {
            let done = spawn_blocking(move || directory.remove(&shared.bounds)).await;
            done.unwrap_or_else(|error| Err(format!("remove a task directory: {error}")))
        };
        match removed.and(emptied) {
            Ok(()) => Ok(Gone::verified()),
            Err(left) => Err(EngineError::new(Fault::Worker, left)),
        }
    }
}
