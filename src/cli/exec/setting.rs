//! What a session needs around it: a port, an engine for containers, and somebody who listens to signals.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZero,
    process,
    sync::Arc,
};

use tc_engine::Engine;
use tokio::{net::TcpListener, sync::watch};

use super::summary::EXCEPTION;
use crate::{
    cli::{
        engine,
        problems::Failure,
        signals::{Asked, Signals},
    },
    config::Config,
};

/// Only this machine reaches the embedded queue; any port does.
pub const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A failure of this machine and not of a task.
pub fn unable(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(EXCEPTION, what).because(error)
}

/// Where the embedded queue will be. Known before it starts, because tasks refer to it.
pub struct Listener {
    /// It listens already.
    pub socket: TcpListener,
    address: SocketAddr,
}

/// Takes a port.
pub async fn listen() -> Result<Listener, Failure> {
    let socket = TcpListener::bind(LOOPBACK).await.map_err(|error| unable("listen on the loopback address", &error))?;
    let address = socket.local_addr().map_err(|error| unable("listen on the loopback address", &error))?;
    Ok(Listener { socket, address })
}

impl Listener {
    /// The root URL of the queue.
    pub fn root_url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// What to do where no engine answers.
const NO_ENGINE: &str = "start Docker, or name another engine with DOCKER_HOST, for instance Podman's socket";
/// What to do where one is that this user may not use.
const NO_PERMISSION: &str = "have this user added to the socket's group, usually docker, and log in again; \
                             or set DOCKER_HOST to the socket of an engine of your own, for instance rootless Docker's or Podman's";

/// The engine for container tasks. Without it none of them is begun: whoever sits here knows what to do better than a worker
/// that waits.
pub async fn container_engine(config: &Config) -> Result<Arc<dyn Engine>, Failure> {
    let unusable = || Failure::new(EXCEPTION, "run container tasks");
    let engine = engine::docker(config, false).map_err(|failure| failure.with_code(EXCEPTION))?;
    let Some(engine) = engine else { return Err(unusable().with_hint(NO_ENGINE)) };
    engine.health().await.map_err(|why| {
        // The reason says by itself what to do about permissions; nothing has to be started.
        let hint = if why.contains("no permission to use") { NO_PERMISSION } else { NO_ENGINE };
        unusable().because_of(why).with_hint(hint)
    })?;
    Ok(engine)
}

/// As many tasks at a time as there are processors, if there are as many tasks.
pub fn usual_jobs(tasks: usize) -> u8 {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    u8::try_from(tasks.min(processors).max(1)).unwrap_or(u8::MAX)
}

/// What somebody wants who sends signals. The first is told, the second ends the process, whatever else holds it up.
#[derive(Clone)]
pub struct Told(watch::Receiver<Option<Asked>>);

impl Told {
    /// Listens from now on, in a task of its own: nothing that the rest waits for, a stalled terminal say, keeps it from hearing.
    pub fn listen(mut signals: Signals) -> Self {
        let (tell, told) = watch::channel(None);
        // Ends with the process: it only waits, and holds nothing.
        tokio::spawn(async move {
            tell.send_replace(Some(signals.next().await));
            process::exit(i32::from(signals.next().await.shell_code()));
        });
        Self(told)
    }

    /// What was asked for until now.
    pub fn so_far(&self) -> Option<Asked> {
        *self.0.borrow()
    }

    /// Waits for it. Cancel safe.
    pub async fn asked(&self) {
        if self.0.clone().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
