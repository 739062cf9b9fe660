//! The `queue` command: the embedded queue in the foreground.

use std::{
    fmt::Write as _,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Faults, Network, Options, Roster, Server, TlsFiles, exposure, ledger::secrets::access_token};
use crate::{
    api::Secret,
    seam::{Disk as _, Lasting, SystemDisk, SystemRandom, slugid},
};

pub use exposure::Given;

const CLIENT_ID: &str = "tc-worker/queue";

/// 30 days. The credentials of a run end with its claim, and begin a little before; none are valid for more than 31 days.
pub(crate) const LONGEST_CLAIM_SECS: u64 = 30 * 24 * 3600;

/// What the command was told.
#[derive(Debug, Clone)]
pub struct QueueCommand {
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// Certificate and key, for https.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How long a claim holds.
    pub claim_timeout_secs: u64,
    /// Where everything is kept over restarts; without it, nothing is kept.
    pub data_dir: Option<PathBuf>,
    /// Where to write the variables, too; readable for the user only.
    pub env_file: Option<PathBuf>,
    /// Credentials of the client that has all scopes, from the environment; some are made up without them.
    pub given: Given,
    /// A file of clients and roles.
    pub clients: Option<PathBuf>,
    /// What goes wrong on purpose.
    pub faults: Faults,
    /// The network that clients are made to feel.
    pub network: Network,
}

impl Default for QueueCommand {
    /// A server without anything special on any port of the loopback address.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            claim_timeout_secs: super::CLAIM_TIMEOUT.as_secs(),
            data_dir: None,
            env_file: None,
            given: Given::default(),
            clients: None,
            faults: Faults::default(),
            network: Network::default(),
        }
    }
}

impl QueueCommand {
    /// Whether a server may be started like this, and what people should know if it may.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn check(&self) -> Result<Option<String>, String> {
        if self.claim_timeout_secs == 0 {
            return Err("a claim timeout of 0 s would let every claim expire at once".to_owned());
        }
        if self.claim_timeout_secs > LONGEST_CLAIM_SECS {
            return Err(format!("a claim timeout of more than {LONGEST_CLAIM_SECS} s is longer than credentials are valid"));
        }
        exposure::check(self.listen, self.tls.is_some(), &self.given, self.clients.is_some())
    }
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
    if let Some(warning) = command.check().map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))? {
        tracing::warn!("{warning}");
    }
    let roster = command.clients.as_deref().map(Roster::read).transpose();
    let roster = roster.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?.unwrap_or_default();
    let access = Access::of(&command.given, command.data_dir.as_deref())?;
    if roster.has_client(&access.client_id) {
        // Either of them would get the rights or the token of the other one.
        let why = format!("client \"{}\" of the clients file has the name of the one that may do everything", access.client_id);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let temporary = match &command.data_dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("tc-worker-queue-").tempdir()?),
    };
    let store = temporary.as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default();
    if !command.faults.rules.is_empty() {
        tracing::info!("The seed of the faults is {}; --seed {0} repeats them", command.faults.seed);
    }
    let server = Server::start(Options {
        listen: command.listen,
        tls: command.tls.map(|(cert, key)| TlsFiles { cert, key }),
        claim_timeout: Duration::from_secs(command.claim_timeout_secs),
        roster,
        faults: command.faults,
        network: command.network,
        data_dir: command.data_dir,
        ..Options::new(store, (access.client_id.clone(), access.token.expose().to_owned()))
    })
    .await?;
    let root_url = server.root_url();
    if let Some(path) = &command.env_file {
        SystemDisk
            .replace(path, access.variables(&root_url, true).as_bytes(), 0o600, Lasting::Process)
            .map_err(|error| io::Error::new(error.kind(), format!("write \"{}\": {error}", path.display())))?;
    }
    out.write_all(access.variables(&root_url, access.made_up).as_bytes())?;
    out.flush()?;
    stop.await;
    server.shutdown().await;
    Ok(())
}

/// The credentials of the client that has all scopes.
struct Access {
    client_id: String,
    token: Secret,
    made_up: bool,
    /// Whether clients would take a certificate in their environment for a part of these credentials.
    certificate: bool,
}

impl Access {
    /// With a data directory, what is made up stays the same over restarts.
    fn of(given: &Given, data_dir: Option<&Path>) -> io::Result<Self> {
        let certificate = given.certificate;
        match given.pair() {
            Ok(Some((id, token))) => Ok(Self { client_id: id.to_owned(), token: token.clone(), made_up: false, certificate }),
            pair => {
                if let Err(why) = pair {
                    tracing::warn!("{why}; they are not used, others are made up");
                }
                let random = SystemRandom;
                let token = match data_dir {
                    Some(dir) => access_token(dir, &random)?,
                    None => slugid(&random) + &slugid(&random),
                };
                Ok(Self { client_id: CLIENT_ID.to_owned(), token: Secret::new(token), made_up: true, certificate })
            }
        }
    }

    /// Lines for a shell. Who gave us a token has it, and where standard output goes it may not belong.
    fn variables(&self, root_url: &str, with_token: bool) -> String {
        let mut text = String::new();
        let mut export = |name: &str, value: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "export TASKCLUSTER_{name}={}", quoted(value));
        };
        export("ROOT_URL", root_url);
        export("CLIENT_ID", &self.client_id);
        if with_token {
            export("ACCESS_TOKEN", self.token.expose());
        }
        if self.certificate {
            text.push_str("unset TASKCLUSTER_CERTIFICATE\n");
        }
        text
    }
}

/// The text as a shell reads it back.
fn quoted(text: &str) -> String {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:@%+,[]".contains(&byte));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
