//! `run`: the worker as a service.

use std::{path::Path, sync::Arc};

use super::{
    INTERNAL_ERROR,
    args::RunArgs,
    engine,
    log::{self, Amount},
    problems::Failure,
    signals::{self, Signals},
};
use crate::{
    api::HttpTransport,
    config::{self, Config},
    seam::{SystemClock, SystemDisk, SystemHost, SystemRandom},
    worker::{self, Control, Parts},
};

/// Works until told to go.
pub async fn run(arguments: RunArgs) -> Result<u8, Failure> {
    log::start(Amount::Everything);
    // First of all, so that no signal ends a worker that has claimed something.
    let signals = Signals::listen().map_err(|error| Failure::new(INTERNAL_ERROR, "listen to signals").because(&error))?;
    let config = load(&arguments.config)?;
    let engine = engine::engine(config.own.containment)?;
    let transport = HttpTransport::new(config.own.ca_file.as_deref(), false)
        .map_err(|error| Failure::new(config::INVALID, "set up the connection to the root URL").because_of(error))?;
    let (control, input) = Control::new();
    let parts = Parts {
        config: Arc::new(config),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        disk: Arc::new(SystemDisk),
        host: Arc::new(SystemHost),
        transport: Arc::new(transport),
        engine,
        events: None,
        log_header_from_task: false,
    };
    let ended = tokio::select! {
        biased;
        ended = worker::run(parts, input) => ended,
        () = signals::steer(signals, control) => return Ok(INTERNAL_ERROR),
    };
    Ok(ended.code)
}

/// Reads the configuration and says in the log what its owner should know about it.
fn load(path: &Path) -> Result<Config, Failure> {
    match config::load(path) {
        Ok(loaded) => {
            for warning in loaded.warnings {
                tracing::warn!("{warning}");
            }
            Ok(loaded.config)
        }
        Err(error) => {
            let mut failure = Failure::new(error.exit_code, format!("load the configuration \"{}\"", path.display()));
            for problem in &error.problems {
                failure = failure.because_of(problem.to_string());
            }
            Err(failure)
        }
    }
}
