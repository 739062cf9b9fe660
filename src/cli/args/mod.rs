//! What can be said on the command line, and the help for it: what all commands share, and a file for each that has arguments.

mod check;
mod exec;
mod keypair;
mod occasion;
mod queue;
mod run;

use clap::{Parser, Subcommand, ValueEnum};

pub use check::{CheckArgs, CheckOutput, KindName};
pub use exec::{ExecArgs, OutputForm};
pub use keypair::KeypairArgs;
pub use occasion::OccasionArgs;
pub use queue::QueueArgs;
pub use run::RunArgs;

/// A worker agent for Taskcluster.
#[derive(Debug, Parser)]
#[command(
    name = "tc-worker",
    disable_version_flag = true,
    arg_required_else_help = true,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  tc-worker exec examples/hello.yml      run a task here, without a deployment
  tc-worker check examples/hello.yml     say what is wrong with it, without running it
  tc-worker run --config worker.yml      work on the tasks of a deployment
  tc-worker queue --port 8080            serve a queue for clients on this machine

Each command has --help, with its exit codes. The environment variable TC_WORKER_LOG filters the worker's log,
for instance TC_WORKER_LOG=debug or TC_WORKER_LOG=tc_worker::api=trace,warn."
)]
pub struct Arguments {
    /// Print what this is
    #[arg(long, short = 'V')]
    pub version: bool,
    /// Print the version's number only
    #[arg(long)]
    pub short_version: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// One command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Work on the tasks of a deployment, until told to go
    Run(RunArgs),
    /// Run task files here, without a deployment
    Exec(ExecArgs),
    /// Say what is wrong with task files, graphs, templates and configurations
    Check(CheckArgs),
    /// Serve a queue for clients and workers on this machine
    Queue(QueueArgs),
    /// Print which tasks run now
    #[command(
        after_help = "The answer is JSON: {\"currentTaskIds\": [...]}, and with \"notClaiming\" or \"nativeTasksOnly\" the reason
why no task, or none for a container, is taken now. It comes from worker-status.json in the temporary directory (TMPDIR,
else /tmp), which a worker keeps up to date.

Exit Codes:
  0   printed
  84  the file is there and cannot be read"
    )]
    Status,
    /// Make a signing key; the public key goes to standard output
    NewEd25519Keypair(KeypairArgs),
    /// Print the JSON schema of payloads
    #[command(after_help = "Example:
  tc-worker show-payload-schema > payload.json")]
    ShowPayloadSchema,
}

/// How tasks are isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// Tasks run as the user that the worker runs as
    Insecure,
    /// Each task runs as a user of its own (not there yet)
    Multiuser,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn half_a_command_line_is_usage() {
        let cases: [(&[&str], ErrorKind); 13] = [
            (&["exec"], ErrorKind::MissingRequiredArgument),
            (&["exec", "--jobs", "0", "x"], ErrorKind::ValueValidation),
            (&["exec", "--no-cache", "--cache-dir", "x", "x"], ErrorKind::ArgumentConflict),
            (&["exec", "--engine", "x", "x"], ErrorKind::InvalidValue),
            (&["queue", "--tls-cert", "x"], ErrorKind::MissingRequiredArgument),
            (&["queue", "--claim-timeout", "0"], ErrorKind::ValueValidation),
            (&["queue", "--claim-timeout", "2592001"], ErrorKind::ValueValidation),
            (&["queue", "--port", "80", "--listen", "127.0.0.1:80"], ErrorKind::ArgumentConflict),
            (&["queue", "--listen", "80"], ErrorKind::ValueValidation),
            (&["queue", "--rtt", "x"], ErrorKind::ValueValidation),
            (&["queue", "--bandwidth", "0"], ErrorKind::ValueValidation),
            (&["queue", "--fault", "PUT artifact: cut aftr 1MB"], ErrorKind::ValueValidation),
            (&["rum"], ErrorKind::InvalidSubcommand),
        ];
        for (arguments, expected) in cases {
            let error = Arguments::try_parse_from(["tc-worker"].iter().chain(arguments)).expect_err("refused");
            assert_eq!(error.kind(), expected, "{arguments:?}");
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }
}
