//! What can be said to `run`.

use std::path::PathBuf;

use clap::Args;

use super::EngineName;

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tc-worker run --config worker.yml
  tc-worker run --config /etc/generic-worker.config

Signals:
  SIGINT   takes no more tasks, lets the running ones finish
  SIGTERM  ends the running tasks as worker-shutdown, which a queue retries
  A second signal of either kind ends the running tasks, a third ends the process at once.

Exit Codes:
  0   numberOfTasksToRun tasks were run
  2   the command line is wrong
  64  the configuration file is missing, unreadable, or not understood
  68  idle for longer than idleTimeoutSecs
  69  this machine cannot work
  71  SIGINT
  72  SIGTERM, or a second signal
  73  the configuration is invalid, or the engine multiuser is asked for, which comes with a later version
  78  worker-runner is asked for, which comes with a later version")]
pub struct RunArgs {
    /// The configuration, JSON or YAML
    #[arg(long, value_name = "FILE", default_value = "generic-worker.config")]
    pub config: PathBuf,
    /// How tasks are isolated
    #[arg(long, value_name = "ENGINE", default_value = "insecure")]
    pub engine: EngineName,
    /// Be started by worker-runner (not there yet)
    #[arg(long)]
    pub with_worker_runner: bool,
    /// Where worker-runner listens (not there yet)
    #[arg(long, value_name = "PIPE")]
    pub worker_runner_protocol_pipe: Option<PathBuf>,
}
