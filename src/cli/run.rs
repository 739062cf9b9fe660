//! `run`: the worker as a service.

use std::{path::Path, sync::Arc};

use super::{
    INTERNAL_ERROR,
    args::{EngineName, RunArgs},
    engine,
    log::{self, Amount},
    names::Name,
    problems::Failure,
    signals::{self, Signals},
};
use crate::{
    api::HttpTransport,
    config::{self, Config},
    observe::status,
    seam::{SystemClock, SystemDisk, SystemHost, SystemRandom},
    worker::{self, Control, Parts},
};

/// The exit code when there is no connection to worker-runner.
const NO_RUNNER: u8 = 78;

/// Works until told to go.
pub async fn run(arguments: RunArgs, name: &Name) -> Result<u8, Failure> {
    log::start(Amount::Everything);
    check(&arguments, name)?;
    // First of all, so that no signal ends a worker that has claimed something.
    let signals = Signals::listen().map_err(|error| Failure::new(INTERNAL_ERROR, "listen to signals").because(&error))?;
    let config = load(&arguments.config)?;
    let engine = engine::engine(config.own.containment)?;
    let docker = engine::docker(&config, true)?;
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
        docker,
        events: None,
        status_file: Some(status::path()),
        images_as_they_are: false,
        log_header_from_task: false,
    };
    let ended = tokio::select! {
        biased;
        ended = worker::run(parts, input) => ended,
        () = signals::steer(signals, control) => return Ok(INTERNAL_ERROR),
    };
    Ok(ended.code)
}

/// Refuses what comes later: a pool that relies on it must not get less.
fn check(arguments: &RunArgs, name: &Name) -> Result<(), Failure> {
    if arguments.engine == EngineName::Multiuser || name.promises_multiuser() {
        let failure =
            Failure::new(config::INVALID, "run tasks as users of their own: the engine multiuser comes with a later version");
        return Err(
            failure.with_hint("the engine insecure is there, as `tc-worker run`: tasks then run as the worker's own user")
        );
    }
    if arguments.with_worker_runner || arguments.worker_runner_protocol_pipe.is_some() {
        return Err(Failure::new(NO_RUNNER, "work under worker-runner: its protocol comes with a later version").with_hint(
            "leave --with-worker-runner and --worker-runner-protocol-pipe out, and put credentials in the configuration",
        ));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, path::PathBuf};

    use super::*;

    #[test]
    fn what_comes_later_is_refused() {
        let plain = || RunArgs {
            config: PathBuf::new(),
            engine: EngineName::Insecure,
            with_worker_runner: false,
            worker_runner_protocol_pipe: None,
        };
        let code =
            |arguments: RunArgs, name| check(&arguments, &Name::of(Some(OsStr::new(name)))).map_err(|failure| failure.code);
        assert_eq!(code(plain(), "/bin/generic-worker"), Ok(()));
        assert_eq!(code(plain(), "/bin/generic-worker-multiuser"), Err(73));
        assert_eq!(code(RunArgs { engine: EngineName::Multiuser, ..plain() }, "tc-worker"), Err(73));
        assert_eq!(code(RunArgs { with_worker_runner: true, ..plain() }, "tc-worker"), Err(78));
        assert_eq!(code(RunArgs { worker_runner_protocol_pipe: Some("p".into()), ..plain() }, "tc-worker"), Err(78));
    }
}
