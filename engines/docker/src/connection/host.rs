//! Where an engine is, and why it cannot be reached there.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tc_engine::{EngineError, Fault};
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::stream::RawStream;

/// The engine's socket where nothing else is said.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Port of an engine that listens on TCP, where the address does not say one.
const DEFAULT_PORT: u16 = 2375;

/// Longest that a connection may take to come about. On one machine it is instant or the engine is stuck.
const CONNECT_BOUND: Duration = Duration::from_secs(10);

/// The address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// A Unix socket: an engine of this machine, rootless or not, or Podman's service.
    Unix(PathBuf),
    /// `host:port`, not encrypted.
    Tcp(String),
}

impl Host {
    /// Understands what `DOCKER_HOST` may say: `unix://PATH`, `tcp://HOST[:PORT]`, `http://HOST[:PORT]`, or a bare path.
    pub(crate) fn parse(text: &str) -> Result<Self, EngineError> {
        let unfit =
            |why: &str| Err(EngineError::new(Fault::Worker, format!("the address of the Docker engine, {text:?}, {why}")));
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.starts_with('/').then_some(text)) {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { unfit("is no absolute path") };
        }
        let Some(address) = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")) else {
            return unfit("is no absolute path and begins with none of unix://, tcp:// and http://");
        };
        let address = address.trim_end_matches('/');
        if address.is_empty() || address.contains('/') {
            return unfit("names no host and port");
        }
        let name_end = address.rfind(']').map_or(0, |bracket| bracket + 1);
        Ok(Self::Tcp(if address[name_end..].contains(':') { address.to_owned() } else { format!("{address}:{DEFAULT_PORT}") }))
    }

    /// Opens a stream of bytes to the engine.
    pub(crate) async fn connect(&self) -> io::Result<RawStream> {
        let connected = timeout(CONNECT_BOUND, async {
            match self {
                Self::Unix(path) => UnixStream::connect(path).await.map(RawStream::Unix),
                Self::Tcp(address) => TcpStream::connect(address).await.and_then(|stream| {
                    stream.set_nodelay(true)?;
                    Ok(RawStream::Tcp(stream))
                }),
            }
        })
        .await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| {
            let kind = error.kind();
            io::Error::new(kind, Unreachable(self.explain(&error)))
        })
    }

    /// Says what an operator has to know when no connection comes about.
    fn explain(&self, error: &io::Error) -> String {
        match (self, error.kind()) {
            (Self::Unix(path), io::ErrorKind::NotFound) => {
                format!("there is no socket {}: the Docker engine is not installed or not running", path.display())
            }
            (Self::Unix(path), io::ErrorKind::PermissionDenied) => format!(
                "no permission to use {}: add the worker's user to the group {} and start the worker anew, \
                 or point DOCKER_HOST to an engine of its own",
                path.display(),
                group_of(path).unwrap_or_else(|| "docker".to_owned()),
            ),
            (_, io::ErrorKind::ConnectionRefused) => format!("nobody answers at {self}: the Docker engine is not running"),
            (_, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
                format!("the Docker engine at {self} accepts no connection: it is stuck or out of reach")
            }
            _ => format!("the Docker engine at {self} cannot be reached: {error}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// The name of the group that a socket belongs to.
fn group_of(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let gid = std::fs::metadata(path).ok()?.gid().to_string();
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.split(':').nth(2) == Some(&gid))?;
    line.split(':').next().map(str::to_owned)
}

/// Marks an error as one before the first byte was sent: whatever was to be asked of the engine has not been asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreachable(pub(crate) String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_docker_host() {
        let parsed = |text: &str| Host::parse(text).map(|host| host.to_string()).map_err(|error| error.message);
        assert_eq!(parsed("unix:///var/run/docker.sock").as_deref(), Ok("unix:///var/run/docker.sock"));
        assert_eq!(parsed("/run/podman/podman.sock").as_deref(), Ok("unix:///run/podman/podman.sock"));
        assert_eq!(parsed("tcp://build-3:2376/").as_deref(), Ok("tcp://build-3:2376"));
        assert_eq!(parsed("tcp://[::1]").as_deref(), Ok("tcp://[::1]:2375"));
        assert_eq!(parsed("http://localhost").as_deref(), Ok("tcp://localhost:2375"));
        for unfit in ["", "ssh://host", "unix://relative", "tcp://", "tcp://host/path", "npipe:////./pipe/docker_engine"] {
            assert!(parsed(unfit).is_err(), "{unfit:?}");
        }
        let said = parsed("npipe://x").expect_err("it is unfit");
        assert!(["unix://", "tcp://", "http://", "absolute path"].iter().all(|form| said.contains(form)), "{said}");
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("docker.sock");
        let host = Host::Unix(path.clone());
        let missing = host.connect().await.expect_err("nothing is there");
        assert!(missing.to_string().ends_with("docker.sock: the Docker engine is not installed or not running"), "{missing}");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        let refused = host.connect().await.expect_err("nobody listens");
        assert!(refused.to_string().ends_with("docker.sock: the Docker engine is not running"), "{refused}");
        let denied = host.explain(&io::ErrorKind::PermissionDenied.into());
        assert!(denied.contains("add the worker's user to the group"), "{denied}");
    }
}
