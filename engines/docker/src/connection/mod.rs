//! The way to the engine: its address, the version of the API that was agreed on, calls, and streams.
//!
//! ```text
//!            negotiate()                  the engine cannot be reached, or says "client version … is too old"
//! Unknown ───────────────▶ Agreed(1.xx) ─────────────────────────────────────────────────────────────────────┐
//!    ▲                                                                                                       │
//!    └───────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Every call has a connection of its own. On one machine that costs some microseconds, and it makes an engine that was
//! restarted between two calls invisible: a pooled connection would break under the first call after the restart, and nobody
//! could say whether that call was carried out. For the same reason errors before the first byte ([`Failure::Unreachable`])
//! are told from those after it.
//!
//! Calls go through bollard, whose requests are sent by our own transport, so that answers are bounded and carry the agreed
//! version. `Connection::exchange` is for what bollard cannot do: seeing that the engine has *begun* to answer, and taking
//! the stream over.

mod absence;
mod exchange;
mod failure;
mod host;
mod stream;

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bollard::{BollardRequest, ClientVersion, Docker};
use tc_engine::{EngineError, Fault};
use tokio::time::{Instant, timeout};

use absence::Absence;
pub(crate) use exchange::Exchange;
pub use failure::Failure;
pub use host::DEFAULT_HOST;
use host::Host;
pub(crate) use stream::BlockingStream;
pub use stream::RawStream;

/// Longest that any call may take until the engine begins to answer. Whoever calls has a bound that fits; this one is for the
/// call that takes longest: some engines begin to answer a load of an image when it is done.
pub(crate) const CALL_BOUND: Duration = Duration::from_secs(3600);

/// Longest that the first question may take, which engines answer from memory.
const VERSION_BOUND: Duration = Duration::from_secs(15);

/// The newest version of the API whose answers are understood here: that of bollard's models.
const NEWEST: Version = Version(53);
/// The oldest that is asked for: engine 19.03 and Podman speak it.
const OLDEST: Version = Version(40);

/// A version of the Engine API, 1.x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        text.strip_prefix("1.")?.parse().ok().map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// What is known about the way, shared by all clones.
#[derive(Debug)]
struct Way {
    host: Host,
    /// The agreed minor version; 0 while there is none.
    agreed: AtomicU32,
    absence: Absence,
}

impl Way {
    fn agreed(&self) -> Option<Version> {
        match self.agreed.load(Ordering::Relaxed) {
            0 => None,
            minor => Some(Version(minor)),
        }
    }
}

/// A way to one engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    docker: Docker,
    way: Arc<Way>,
    shown: Arc<str>,
}

impl Connection {
    /// Notes where the engine is, without going there.
    ///
    /// # Errors
    /// When `host` is no address of a kind that is understood: `unix://…`, `tcp://…`, `http://…` or an absolute path.
    pub fn new(host: &str) -> Result<Self, EngineError> {
        let way = Arc::new(Way { host: Host::parse(host)?, agreed: AtomicU32::new(0), absence: Absence::default() });
        let transport = {
            let way = Arc::clone(&way);
            move |request: BollardRequest| {
                let way = Arc::clone(&way);
                async move { exchange::send(&way, request).await }
            }
        };
        // The version in the addresses that bollard makes is dropped by bollard itself; `exchange` adds ours.
        let version = ClientVersion { major_version: 1, minor_version: NEWEST.0 as usize };
        let docker = Docker::connect_with_custom_transport(transport, Some("http://docker"), CALL_BOUND.as_secs(), &version)
            .map_err(|error| EngineError::new(Fault::Worker, format!("set up a client for {host}: {error}")))?;
        let shown = way.host.to_string().into();
        Ok(Self { docker, way, shown })
    }

    /// Connects to `host` (`unix://…` or `tcp://…`) and agrees on a version of the API.
    pub async fn open(host: &str) -> Result<Self, EngineError> {
        let connection = Self::new(host)?;
        connection.negotiate().await.map_err(|failure| EngineError::new(Fault::Resource, failure.to_string()))?;
        Ok(connection)
    }

    /// Agrees on a version of the API, whatever was agreed on before.
    pub async fn negotiate(&self) -> Result<Version, Failure> {
        self.way.agreed.store(0, Ordering::Relaxed);
        let said = self.call(VERSION_BOUND, self.docker.version()).await?;
        let said = said.api_version.unwrap_or_default();
        let theirs = Version::parse(&said).ok_or_else(|| Failure::Garbage(format!("it speaks version {said:?} of the API")))?;
        if theirs < OLDEST {
            return Err(Failure::Garbage(format!("it speaks version {theirs} of the API, {OLDEST} is needed")));
        }
        let agreed = theirs.min(NEWEST);
        self.way.agreed.store(agreed.0, Ordering::Relaxed);
        Ok(agreed)
    }

    /// The agreed version; it is agreed on now if there is none.
    pub async fn version(&self) -> Result<Version, Failure> {
        match self.way.agreed() {
            Some(version) => Ok(version),
            None => self.negotiate().await,
        }
    }

    /// Makes one call under a bound.
    ///
    /// The version is forgotten when the failure may mean that the engine is not the one it was.
    pub async fn call<T>(
        &self,
        bound: Duration,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Failure> {
        match timeout(bound, call).await {
            Ok(done) => self.noted(done.map_err(Failure::from)),
            Err(_) => self.noted(Err(Failure::TimedOut(bound))),
        }
    }

    /// Draws the consequences of what came of a call.
    fn noted<T>(&self, came: Result<T, Failure>) -> Result<T, Failure> {
        let failure = came.as_ref().err();
        if failure.is_some_and(Failure::may_mean_another_engine) {
            self.way.agreed.store(0, Ordering::Relaxed);
        }
        self.way.absence.note(matches!(failure, Some(Failure::Unreachable { absent: true, .. })), Instant::now());
        came
    }

    /// For how long nobody has been there, as far as calls of late have shown; zero if somebody was.
    pub(crate) fn absent_for(&self) -> Duration {
        self.way.absence.lasts(Instant::now())
    }

    /// A new stream of bytes to the engine, on which nothing was sent yet.
    pub async fn raw(&self) -> io::Result<RawStream> {
        self.way.host.connect().await
    }

    /// The client.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// The address.
    pub fn host(&self) -> &str {
        &self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert!(Version::parse("1.9") < Version::parse("1.41"));
        assert_eq!(Version::parse("2.0"), None);
        assert_eq!(Version::parse("1.41.3"), None);
    }
}
