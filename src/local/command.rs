//! The `queue` command: the embedded queue in the foreground.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{Options, Server, TlsFiles, ledger::secrets::access_token};
use crate::seam::{Disk as _, Lasting, SystemDisk, SystemRandom, slugid};

const CLIENT_ID: &str = "tc-worker/queue";

/// What the command was told.
#[derive(Debug, Clone)]
pub struct QueueCommand {
    /// Port on the loopback address; 0 takes any.
    pub port: u16,
    /// Certificate and key, for https.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How long a claim holds.
    pub claim_timeout_secs: u64,
    /// Where everything is kept over restarts; without it, nothing is kept.
    pub data_dir: Option<PathBuf>,
    /// Where to write the variables, too; readable for the user only.
    pub env_file: Option<PathBuf>,
}

/// Serves until `stop` ends. The variables that clients need go to standard output, and nothing else does.
pub async fn run(command: QueueCommand, stop: impl Future<Output = ()>) -> io::Result<()> {
    serve_foreground(command, io::stdout(), stop).await
}

/// The same with any place to write the variables to.
pub async fn serve_foreground(
    command: QueueCommand,
    mut out: impl io::Write,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    if command.claim_timeout_secs == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a claim timeout of 0 s would let every claim expire at once"));
    }
    let temporary = match &command.data_dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("tc-worker-queue-").tempdir()?),
    };
    let store = temporary.as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default();
    let random = SystemRandom;
    let token = match &command.data_dir {
        Some(dir) => access_token(dir, &random)?,
        None => slugid(&random) + &slugid(&random),
    };
    let server = Server::start(Options {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, command.port)),
        tls: command.tls.map(|(cert, key)| TlsFiles { cert, key }),
        claim_timeout: Duration::from_secs(command.claim_timeout_secs),
        data_dir: command.data_dir,
        ..Options::new(store, (CLIENT_ID.to_owned(), token.clone()))
    })
    .await?;
    let variables = format!(
        "export TASKCLUSTER_ROOT_URL={}\nexport TASKCLUSTER_CLIENT_ID={CLIENT_ID}\nexport TASKCLUSTER_ACCESS_TOKEN={token}\n",
        server.root_url()
    );
    if let Some(path) = &command.env_file {
        SystemDisk
            .replace(path, variables.as_bytes(), 0o600, Lasting::Process)
            .map_err(|error| io::Error::new(error.kind(), format!("write \"{}\": {error}", path.display())))?;
    }
    out.write_all(variables.as_bytes())?;
    out.flush()?;
    stop.await;
    server.shutdown().await;
    Ok(())
}
