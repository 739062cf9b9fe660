//! What can be said on the command line, and the help for it.

use std::{net::SocketAddr, num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use regex::Regex;

use super::exec::input::parameter;
use crate::local::{amount, faults::Rule};

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
        after_help = "The answer is JSON: {\"currentTaskIds\": [...]}. It comes from worker-status.json in the temporary directory
(TMPDIR, else /tmp), which a worker keeps up to date.

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

/// Arguments of `exec`.
#[derive(Debug, Args)]
#[command(
    after_help = "A file is a task definition if it has the key `payload`, else a bare payload; dates, ids, scopes and metadata that it
lacks are filled in, dates that have passed are moved. `dependencies` name other files' tasks, by label or by the value
of the key `taskId` beside `payload`; entries that name none are left out, with a warning. Tasks are begun in the order
given, each after those it waits for. A file may also be a graph as taskgraph writes it, task-graph.json, and a YAML text
may have several documents, each of them a task. What waits for a task that did not complete is not run.

A file with the keys `version` and `tasks` is a template, .taskcluster.yml. --tasks-for says what it is rendered for and
--event with which event, as Taskcluster-GitHub would: with the names tasks_for, event, now, taskcluster_root_url and
as_slugid, and those of --parameter. Policies and scopes of repositories do not count here.

The log goes to standard output, everything else to standard error. Several tasks have their labels in front of their
lines; at a terminal there is a live table of what runs instead (--output text goes back to lines). With --output json
each line is an object with the key `event`: created, started, line, artifact, ended, and finished at the end.

A task's label is the value of the key `label` beside `payload`, else the name of its file without its extension.
Artifacts are written to DIR/<label>/<name of the artifact>, with their content encoding removed; the id of the task
stands in for a label that cannot name a directory or is not the only one of its kind. Files that are there already are
replaced, others are left alone.

Tasks run in a directory below TMPDIR if that is set, else below /var/tmp. It is removed at the end.

Writable caches of container tasks stay in a directory that several runs may use at once: a cache that is in use elsewhere
is not waited for, the task gets another one of that name. Caches that a task may have left half-written are discarded, and
anything in that directory may be deleted at any time.

Examples:
  tc-worker exec examples/hello.yml
  tc-worker exec --artifacts out task.json > task.log
  tc-worker exec --jobs 4 tests/*.yml
  tc-worker exec --list task-graph.json
  tc-worker exec --with-deps '^test-' task-graph.json
  tc-worker exec .taskcluster.yml --tasks-for github-push --event push.json --only build
  tc-worker exec --output json --trace trace.json tests/ > events.jsonl
  tc-worker exec --no-cache build.yml
  generate-task | tc-worker exec -

Signals:
  The first Ctrl-C ends the tasks and cleans up, a second ends the process at once.

Exit Codes:
  0    every task completed, or there was none for this event
  1    a task failed
  2    usage: a file that cannot be read, parsed or rendered, an option that does not exist
  3    a task ended as an exception, or its payload is invalid; with several files, 3 goes before 1
  130  Ctrl-C"
)]
pub struct ExecArgs {
    /// Task definitions, bare payloads, graphs or templates, YAML or JSON; directories of such files; `-` is standard input
    #[arg(required = true, value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Where to write artifacts
    #[arg(long, value_name = "DIR", default_value = "./artifacts")]
    pub artifacts: PathBuf,
    /// Where tasks' caches stay between runs [default: $XDG_CACHE_HOME/tc-worker, else ~/.cache/tc-worker]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    pub cache_dir: Option<PathBuf>,
    /// Begin with empty caches and remove them at the end
    #[arg(long)]
    pub no_cache: bool,
    /// How many tasks run at a time [default: one per processor]
    #[arg(long, short, value_name = "N", value_parser = value_parser!(u8).range(1..))]
    pub jobs: Option<u8>,
    /// Run only tasks whose label matches, without those that they wait for
    #[arg(long, value_name = "REGEX", value_parser = regex)]
    pub only: Option<Regex>,
    /// Run only tasks whose label matches, and those that they wait for
    #[arg(long, value_name = "REGEX", value_parser = regex)]
    pub with_deps: Option<Regex>,
    /// Print what would run, and run nothing
    #[arg(long)]
    pub list: bool,
    /// What templates are rendered for.
    #[command(flatten)]
    pub occasion: OccasionArgs,
    /// What standard output gets [default: table at a terminal if there are several tasks, else text]
    #[arg(long, value_name = "FORM")]
    pub output: Option<OutputForm>,
    /// Write when each task ran to this file, for the trace viewer of a browser
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    pub trace: Option<PathBuf>,
    /// How tasks are isolated
    #[arg(long, value_name = "ENGINE", default_value = "insecure")]
    pub engine: EngineName,
    /// Show the worker's own log, too
    #[arg(long, short)]
    pub verbose: bool,
}

/// What templates are rendered for.
#[derive(Debug, Args)]
pub struct OccasionArgs {
    /// Render .taskcluster.yml for this: github-push, github-pull-request, github-release, cron, action …
    #[arg(long, value_name = "KIND")]
    pub tasks_for: Option<String>,
    /// The event that a template is rendered with, JSON or YAML [default: an empty one]
    #[arg(long, value_name = "FILE", requires = "tasks_for")]
    pub event: Option<PathBuf>,
    /// A further name that a template may use; the value is JSON, else a text. May be repeated
    #[arg(long, value_name = "NAME=VALUE", requires = "tasks_for", value_parser = parameter)]
    pub parameter: Vec<(String, serde_json::Value)>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "What a file is, is told by what is in it: a task definition (it has `payload`) or a bare payload, a graph as taskgraph
writes it, a .taskcluster.yml (it has `tasks`), the configuration of a worker. Files that are given together are checked
together: a task may wait for one of another file, as with `exec`. Nothing is run, and nobody is asked.

Of a .taskcluster.yml only the shape is checked, unless --tasks-for says what to render it for, as with `exec`: then its
tasks are checked like tasks of a deployment. A problem in one has the place in the template that it comes from, as far as
that is certain, and names the task and the field. taskcluster_root_url is https://tc.example.com unless --parameter says
otherwise. Files of other kinds are checked as ever.

What `exec` would fill in (dates, scopes, metadata) is not missed in task files, but in graphs. Payloads of the queue itself
(built-in/…), of scriptworkers, and those that taskgraph's tags worker-implementation and os say are for other programs or
systems are not looked into. What roles (assume:…) stand for cannot be told offline.

Problems go to standard output, in the order of each file, at most 500 of one file; the last line counts them all. With
--output json each problem is a JSON object on a line of its own, with file, line, column, rule, severity, message, and
where they are known field, task and hint; there is no other line.

Files: graphs in JSON up to 256 MiB and a million tasks, all others up to 10 MiB, 512 MiB together.

Examples:
  tc-worker check examples
  tc-worker check --strict task-graph.json
  tc-worker check --config worker.yml tasks/*.yml
  tc-worker check .taskcluster.yml --tasks-for github-push --event push.json
  tc-worker check --output json .taskcluster.yml
  generate-task | tc-worker check -
  tc-worker check --rules

Exit Codes:
  0   nothing worse than warnings
  1   there are errors, or with --strict warnings; a template cannot be rendered
  2   usage: a file that cannot be read or is too large, an event that is broken, an option that does not exist"
)]
pub struct CheckArgs {
    /// Files, JSON or YAML; directories of such files; `-` is standard input
    #[arg(required_unless_present = "rules", value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Take all files for this kind
    #[arg(long, value_name = "KIND")]
    pub kind: Option<KindName>,
    /// Hold tasks of this worker's queue, and those that name none, against its configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What templates are rendered for.
    #[command(flatten)]
    pub occasion: OccasionArgs,
    /// How problems are written
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: CheckOutput,
    /// Let warnings count as errors
    #[arg(long)]
    pub strict: bool,
    /// Print all rules
    #[arg(long, conflicts_with_all = ["files", "kind", "config", "tasks_for", "strict"])]
    pub rules: bool,
}

/// What a file can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindName {
    /// A task definition or a bare payload
    Task,
    /// A graph of tasks
    Graph,
    /// A .taskcluster.yml
    Template,
    /// The configuration of a worker
    Config,
}

/// How problems are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckOutput {
    /// For people
    Text,
    /// For programs
    Json,
}

/// The last line of the library's message says what is wrong; the lines before it draw the pattern.
fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string().lines().last().unwrap_or_default().to_owned())
}

/// What standard output gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// The logs, each line behind the label of its task if there are several
    Text,
    /// A live table of running tasks, and a line for each that is over
    Table,
    /// One JSON object on a line for each thing that happens
    Json,
}

/// How tasks are isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// Tasks run as the user that the worker runs as
    Insecure,
    /// Each task runs as a user of its own (not there yet)
    Multiuser,
}

/// Arguments of `queue`.
#[derive(Debug, Args)]
#[command(
    after_help = "Prints `export TASKCLUSTER_…=…` lines and serves on the loopback address until SIGINT or SIGTERM. The client in these
variables may do everything; its credentials are those in TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN if they are set
(the token is not printed then), else they are made up. An address that other machines can reach needs those, with a token of
22 characters or more, or --clients.

Examples:
  tc-worker queue --port 8080 --env-file queue.env &
  tc-worker queue --tls-cert cert.pem --tls-key key.pem
  tc-worker queue --listen 192.0.2.1:443 --tls-cert cert.pem --tls-key key.pem --clients clients.yml
  tc-worker queue --rtt 50 --bandwidth 10MB/s
  tc-worker queue --fault 'PUT artifact: cut after 1MB, 10%' --fault 'claimWork: status 503, first 3'

Faults:
  A fault is `WHERE: WHAT, LIMIT, …`. WHERE is an endpoint's name as in the services' references (createTask, queue.status,
  report*), a path (/api/index/v1/*), or `*` for all, with an HTTP method before it or alone. `artifact` stands for the
  signed PUT and GET of bytes; the endpoint of that name is queue.artifact. A star stands for anything.
  WHAT happens:
    drop                    the connection ends without an answer; `drop request` before the call took effect, `drop answer`
                            after it, `drop` either
    delay 2s                the call waits; delays add up, of all other faults the first one decides
    status 503              a refusal instead of the call, 400 to 599, perhaps `retry after 2s`; `late status 504`: after it
    garbage                 an answer that is no JSON; `garbage http`: no HTTP
    cut after 1MB           the connection ends in the upload of a PUT, in the answer of all others; `cut request after 10`,
                            `cut answer after half`, `half body`
    wrong length            Content-Length is larger or smaller than the answer
    expired                 a signed URL is refused as S3 does it, now and later; a fresh one works
    stolen                  the run's claim expires before the call (after it for claimWork), and the task is given to others
  LIMIT: `first 3`, `every 5th`, `10%`, `after 20`; all of them have to agree. They count requests that match and that no
  fault before has spoiled.
    PUT artifact: cut after 1MB, 10%        claimWork: status 503 retry after 5s, first 3
    reclaimTask: stolen, after 2, first 1   GET /api/index/*: delay 500ms, every 5th
    createTask: drop answer, 20%            *: drop, 1%

Exit Codes:
  0   told to go
  2   the command line is wrong, or other machines would be let in without credentials
  69  it cannot serve: the port is taken, a file cannot be read"
)]
pub struct QueueArgs {
    /// Port on the loopback address; 0 takes any
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "listen")]
    pub port: u16,
    /// Address and port to listen on, when it is not the loopback address
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Clients and roles, in a file that only its owner can read
    #[arg(long, value_name = "FILE")]
    pub clients: Option<PathBuf>,
    /// Serve https with this certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// How long a claim holds
    #[arg(long, value_name = "SECS", default_value_t = 1200, value_parser = value_parser!(u64).range(1..))]
    pub claim_timeout: u64,
    /// Let clients feel a network with this round trip, in milliseconds: one for a new connection, one for each request
    #[arg(long, value_name = "MS", default_value = "0", value_parser = amount::millis)]
    pub rtt: Duration,
    /// Let clients feel a network that carries no more than this in each direction, for all connections together
    #[arg(long, value_name = "BYTES/s", value_parser = amount::bytes_per_sec)]
    pub bandwidth: Option<NonZeroU64>,
    /// Let something go wrong, see below; may be given several times
    #[arg(long = "fault", value_name = "RULE")]
    pub faults: Vec<Rule>,
    /// Repeat the faults of a server with this seed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Keep everything in this directory, over restarts and kill -9; it is made if it is missing
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Write the variables to this file, too, readable for its owner only
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

/// Arguments of `new-ed25519-keypair`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  tc-worker new-ed25519-keypair --file /etc/tc-worker/key > key.pub

Exit Codes:
  0   made
  75  the key could not be written")]
pub struct KeypairArgs {
    /// Where to write the private key, readable for its owner only
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
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
        let cases: [(&[&str], ErrorKind); 12] = [
            (&["exec"], ErrorKind::MissingRequiredArgument),
            (&["exec", "--jobs", "0", "x"], ErrorKind::ValueValidation),
            (&["exec", "--no-cache", "--cache-dir", "x", "x"], ErrorKind::ArgumentConflict),
            (&["exec", "--engine", "x", "x"], ErrorKind::InvalidValue),
            (&["queue", "--tls-cert", "x"], ErrorKind::MissingRequiredArgument),
            (&["queue", "--claim-timeout", "0"], ErrorKind::ValueValidation),
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
