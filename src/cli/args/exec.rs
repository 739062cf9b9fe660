//! What can be said to `exec`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};
use regex::Regex;

use super::{EngineName, OccasionArgs};

/// Arguments of `exec`.
#[derive(Debug, Args)]
#[command(
    after_help = "A file is a task definition if it has the key `payload`, else a bare payload; dates, ids, scopes and metadata that it
lacks are filled in, dates that have passed are moved, those of artifacts, too. `dependencies` name other files' tasks, by label or by the value
of the key `taskId` beside `payload`; entries that name none are left out, with a warning, and in a graph are an error
unless they are ids. Tasks are begun in the order given, each after those it waits for. A file may also be a graph as
taskgraph writes it, task-graph.json, and a YAML text may have several documents, each of them a task. What waits for a
task that did not complete is not run. Tasks of the task queues built-in/succeed and built-in/fail run nothing: the queue
itself ends them at once, for others that wait for them. Container tasks need Docker or the engine that DOCKER_HOST names;
without it they are not run, and everything that does not wait for them is.

A file with the keys `version` and `tasks` is a template, .taskcluster.yml. --tasks-for says what it is rendered for and
--event with which event, as Taskcluster-GitHub would: with the names tasks_for, event, now, taskcluster_root_url and
as_slugid, and those of --parameter. Policies and scopes of repositories do not count here.

The log goes to standard output, everything else to standard error. Several tasks have their labels in front of their
lines, and a line of more than 64 KiB becomes several lines; at a terminal there is a live table of what runs instead (--output text goes back to lines). With --output json
each line is an object with the key `event`: created, started, line, artifact, ended, and finished at the end.

A task's label is the value of the key `label` beside `payload`, else the name of its file without its extension, or with
its path if another task is called that.
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
  tc-worker exec --jobs 4 tests/
  tc-worker exec --list task-graph.json
  tc-worker exec --with-deps '^test-' task-graph.json
  tc-worker exec .taskcluster.yml --tasks-for github-push --event push.json --only build
  tc-worker exec --output json --trace trace.json tests/ > events.jsonl
  tc-worker exec --no-cache build.yml
  generate-task | tc-worker exec -

Output:
  build | compiling                                        a line of a task's log, in a pipe
    0:02  lint  checked 106 files                          a running task and its last line, in the table
  completed  build  0.0 s  ./artifacts/build               a task that is over, in the summary
  failed     test   0.0 s  ./artifacts/test  (exit status 3)
  2 tasks: 1 completed, 1 failed
  {\"event\":\"line\",\"label\":\"build\",\"taskId\":\"bycXchZ0QTKG3zssGMuOkA\",\"runId\":0,\"line\":\"compiling\"}      --output json
  test   HGm0RTR-QqGXbsKclA2G6w  proj/linux  build         --list: label, id, task queue, what it waits for

Signals:
  The first Ctrl-C ends the tasks and cleans up, a second ends the process at once.

Exit Codes:
  0    every task completed, or there was none (for this event, in this graph)
  1    a task failed
  2    usage: a file that cannot be read, parsed or rendered, an option that does not exist
  3    a task ended as an exception, is invalid, or has no engine to run on; with several files, 3 goes before 1
  69   standard output cannot be written, because a disk is full say; tasks are run to their ends all the same. A reader
       that goes away (`| head`) has seen what it wanted and changes no exit code
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
    /// Write when each task ran to this file, with the phases of its runs, for the trace viewer of a browser
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    pub trace: Option<PathBuf>,
    /// How tasks are isolated
    #[arg(long, value_name = "ENGINE", default_value = "insecure")]
    pub engine: EngineName,
    /// Show the worker's own log, too
    #[arg(long, short)]
    pub verbose: bool,
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

/// The last line of the library's message says what is wrong; the lines before it draw the pattern.
fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string().lines().last().unwrap_or_default().to_owned())
}
