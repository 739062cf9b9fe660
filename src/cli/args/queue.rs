//! What can be said to `queue`.

use std::{net::SocketAddr, num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{Args, value_parser};

use crate::local::{amount, command::LONGEST_CLAIM_SECS, faults::Rule};

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
    garbage                 an answer that is no JSON; `garbage http`, and wherever an answer is no JSON anyway (artifact): no HTTP
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
    #[arg(long, value_name = "SECS", default_value_t = 1200, value_parser = value_parser!(u64).range(1..=LONGEST_CLAIM_SECS))]
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
