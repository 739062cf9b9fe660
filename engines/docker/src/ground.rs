//! What exists of a run before its container: a directory on the host and perhaps a network.

use std::{net::IpAddr, path::Path, sync::Arc};

use async_trait::async_trait;
use tc_engine::{EngineError, Environment, Fault, Ground, Identity, Quiet, Sandbox, SandboxPlan};
use tokio::time::Instant;

use crate::{
    connection::Failure,
    container::{
        birth::{self, Birth},
        end::{Until, Watch},
        output::Ear,
        refusal::Refusal,
        removal, spec, volume,
    },
    directory::Directory,
    engine::Shared,
    labels::name_of,
    network,
    quiet::{DockerQuiet, Made},
    sandbox::{DockerSandbox, Prepared},
};

/// A reserved run.
pub(crate) struct DockerGround {
    shared: Arc<Shared>,
    run: String,
    directory: Directory,
    network: Option<String>,
}

impl DockerGround {
    pub(crate) fn new(shared: Arc<Shared>, run: String, directory: Directory, network: Option<String>) -> Self {
        Self { shared, run, directory, network }
    }

    fn into_quiet(self, made: Made) -> DockerQuiet {
        let network = self.network.is_some();
        DockerQuiet::new(self.shared, self.run, self.directory, Made { network, ..made })
    }

    /// Creates the container and opens everything that has to be open before it starts.
    async fn prepare(&self, plan: &SandboxPlan, made: &mut Made) -> Result<Prepared, EngineError> {
        let (Some(container), 1) = (&plan.container, plan.commands.len()) else {
            let count = plan.commands.len();
            return Err(EngineError::new(Fault::Worker, format!("a plan with {count} commands is no plan of a container")));
        };
        let shared = &*self.shared;
        let labels = shared.owner.labels(&self.run);
        let body = |covered: &[_]| {
            spec::body(plan, &self.run, self.network.as_deref(), &labels, covered)
                .map_err(|why| EngineError::new(Fault::Payload, why))
        };
        // What cannot be asked for is said before anything is made.
        body(&[])?;
        shared.connection.version().await.map_err(|failure| failure.because(Fault::Lost, "create a container"))?;
        // From here on there may be a container and volumes.
        *made = Made { container: true, volumes: !container.volumes.is_empty(), uncertain: true, ..*made };
        if let Some(refusal) = volume::named(shared, &self.run, container).await? {
            made.uncertain = false;
            return Ok(Prepared::Refused(refusal));
        }
        let mut covered = volume::covered(shared, &self.run, container, &self.directory.spool()).await?;
        let id = loop {
            let id = match birth::create(shared, &self.run, &body(&covered)?).await? {
                Birth::Created(id) => id,
                Birth::Refused(refusal) => {
                    made.uncertain = false;
                    return Ok(Prepared::Refused(refusal));
                }
            };
            // False once at most: then nothing is left to be settled.
            if volume::settle(shared, &container.image, &id, &mut covered).await? {
                break id;
            }
            let removed = removal::container(shared, &name_of(&self.run), Instant::now() + shared.bounds.kill).await;
            removed.map_err(|left| EngineError::new(Fault::Lost, left))?;
        };
        (made.uncertain, made.files) = (false, true);
        let opened = tokio::join!(
            Ear::attach(&shared.connection, shared.bounds.call, &id),
            Watch::begin(&shared.connection, shared.bounds.call, &id, Until::NextExit),
        );
        match opened {
            (Ok(ear), Ok(watch)) => Ok(Prepared::Ready { id, ear, watch }),
            (Err(failure), _) | (_, Err(failure)) => match failure {
                Failure::Answer { message, .. } => Ok(Prepared::Refused(Refusal::new(&message))),
                failure => Err(failure.because(Fault::Lost, "attach to the container")),
            },
        }
    }
}

#[async_trait]
impl Ground for DockerGround {
    fn task_dir(&self) -> &Path {
        self.directory.path()
    }

    fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    fn base_environment(&self) -> Environment {
        // Below everything else is the environment of the image, which the engine adds.
        Environment::new()
    }

    async fn host_address(&self) -> Result<Option<IpAddr>, EngineError> {
        network::host_address(&self.shared, self.network.as_deref()).await
    }

    async fn create(self: Box<Self>, plan: SandboxPlan) -> Result<Box<dyn Sandbox>, (EngineError, Box<dyn Quiet>)> {
        let mut made = Made::default();
        match self.prepare(&plan, &mut made).await {
            Ok(prepared) => {
                let run = self.run.clone();
                Ok(Box::new(DockerSandbox { run, prepared, quiet: self.into_quiet(made) }))
            }
            Err(error) => Err((error, Box::new(self.into_quiet(made)))),
        }
    }

    async fn quiesce(self: Box<Self>) -> Box<dyn Quiet> {
        Box::new(self.into_quiet(Made::default()))
    }
}
