//! The way to the engine.

use bollard::{API_DEFAULT_VERSION, Docker};
use tc_engine::{EngineError, Fault};

/// Longest that an ordinary call may take, in seconds. Streams have bounds of their own.
const CALL_BOUND_SECS: u64 = 120;

/// The engine's socket where nothing else is said.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// A way to one engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    docker: Docker,
    host: String,
}

impl Connection {
    /// Connects to `host` (`unix://…` or `tcp://…`) and agrees on a version of the API.
    pub async fn open(host: &str) -> Result<Self, EngineError> {
        let unreachable = |error: bollard::errors::Error| {
            EngineError::new(Fault::Resource, format!("reach the Docker engine at {host}: {error}"))
        };
        let docker = if host.starts_with("unix://") {
            Docker::connect_with_unix(host, CALL_BOUND_SECS, API_DEFAULT_VERSION)
        } else {
            Docker::connect_with_http(host, CALL_BOUND_SECS, API_DEFAULT_VERSION)
        };
        let docker = docker.map_err(unreachable)?.negotiate_version().await.map_err(unreachable)?;
        Ok(Self { docker, host: host.to_owned() })
    }

    /// The client.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// The address.
    pub fn host(&self) -> &str {
        &self.host
    }
}
