//! `queue`: the embedded queue in the foreground.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
};

use super::{
    INTERNAL_ERROR,
    args::QueueArgs,
    engine,
    log::{self, Amount},
    problems::Failure,
    signals::Signals,
};
use crate::{
    api::Secret,
    local::{
        Faults, Network,
        command::{self, Given, QueueCommand},
    },
    seam::{Random as _, SystemRandom},
};

/// The exit code for options that do not go together, as for those that do not exist.
const USAGE: u8 = 2;

/// Serves until a signal comes; a second one ends the process at once.
pub async fn run(arguments: QueueArgs) -> Result<u8, Failure> {
    log::start(Amount::Everything);
    engine::close_memory_to_others();
    let mut signals =
        Signals::listen_at_terminal().map_err(|error| Failure::new(INTERNAL_ERROR, "listen to signals").because(&error))?;
    let command = QueueCommand {
        listen: arguments.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port))),
        tls: arguments.tls_cert.zip(arguments.tls_key),
        claim_timeout_secs: arguments.claim_timeout,
        env_file: arguments.env_file,
        given: given(),
        clients: arguments.clients,
        faults: Faults { rules: arguments.faults, seed: arguments.seed.unwrap_or_else(seed) },
        network: Network { rtt: arguments.rtt, bytes_per_sec: arguments.bandwidth },
    };
    let (told, stop) = tokio::sync::oneshot::channel::<()>();
    let serve = command::run(command, async move {
        // A sender that is gone means the same as one that was used.
        drop(stop.await);
    });
    let steer = async move {
        signals.next().await;
        drop(told);
        let asked = signals.next().await;
        std::process::exit(i32::from(asked.shell_code()))
    };
    tokio::select! {
        biased;
        served = serve => served.map(|()| 0).map_err(|error| {
            let code = if error.kind() == ErrorKind::InvalidInput { USAGE } else { INTERNAL_ERROR };
            Failure::new(code, "serve a queue").because(&error)
        }),
        () = steer => Ok(0),
    }
}

/// Credentials in the environment: never in arguments, which every user of the machine can read.
fn given() -> Given {
    let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    Given {
        client_id: text("TASKCLUSTER_CLIENT_ID"),
        access_token: text("TASKCLUSTER_ACCESS_TOKEN").map(Secret::new),
        certificate: text("TASKCLUSTER_CERTIFICATE").is_some(),
    }
}

/// A seed that is easily copied.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    SystemRandom.fill(&mut bytes[..4]);
    u64::from_le_bytes(bytes)
}
