//! `queue`: the embedded queue in the foreground.

use super::{
    INTERNAL_ERROR,
    args::QueueArgs,
    engine,
    log::{self, Amount},
    problems::Failure,
    signals::Signals,
};
use crate::local::command::{self, QueueCommand};

/// Serves until a signal comes; a second one ends the process at once.
pub async fn run(arguments: QueueArgs) -> Result<u8, Failure> {
    log::start(Amount::Everything);
    engine::close_memory_to_others();
    let mut signals =
        Signals::listen_at_terminal().map_err(|error| Failure::new(INTERNAL_ERROR, "listen to signals").because(&error))?;
    let command = QueueCommand {
        port: arguments.port,
        tls: arguments.tls_cert.zip(arguments.tls_key),
        claim_timeout_secs: arguments.claim_timeout,
        data_dir: arguments.data_dir,
        env_file: arguments.env_file,
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
        served = serve => served.map(|()| 0).map_err(|error| Failure::new(INTERNAL_ERROR, "serve a queue").because(&error)),
        () = steer => Ok(0),
    }
}
