//! A container that is ready to start, or the engine's reason why there is none.

use std::sync::Arc;

use async_trait::async_trait;
use tc_engine::{Quiet, RunHandle, Sandbox, Sink};

use crate::{
    container::{end::Watch, output::Ear, refusal::Refusal},
    quiet::DockerQuiet,
    run::Running,
};

/// How far it came.
pub(crate) enum Prepared {
    /// Created, heard and watched.
    Ready { id: String, ear: Ear, watch: Watch },
    /// The author finds out when the command is run: it "exits" with a code of Docker's command line.
    Refused(Refusal),
}

/// Ready to start.
pub(crate) struct DockerSandbox {
    pub(crate) run: String,
    pub(crate) prepared: Prepared,
    pub(crate) quiet: DockerQuiet,
}

#[async_trait]
impl Sandbox for DockerSandbox {
    fn start(self: Box<Self>, sink: Arc<dyn Sink>) -> Box<dyn RunHandle> {
        let Self { run, prepared, quiet } = *self;
        Box::new(Running::new(&run, prepared, quiet, sink))
    }

    async fn quiesce(self: Box<Self>) -> Box<dyn Quiet> {
        // It was never started, so nothing can run.
        Box::new(self.quiet)
    }
}
