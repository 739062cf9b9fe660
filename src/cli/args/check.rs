//! What can be said to `check`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::OccasionArgs;

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
  2   usage: a file that cannot be read or is too large, an event that is broken, an option that does not exist
  69  standard output cannot be written"
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
    #[arg(long, conflicts_with_all = ["files", "kind", "config", "tasks_for", "event", "parameter", "strict"])]
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
