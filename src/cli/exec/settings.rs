//! The configuration of the worker inside of `exec`: everything that a file would say, for a queue of one's own.

use std::path::Path;

use crate::{
    api::Secret,
    config::{Config, ExecValues},
};

/// The pool: tasks that name none go there, and scopes that name it are for it.
pub const PROVISIONER_ID: &str = "local";
/// Its second half.
pub const WORKER_TYPE: &str = "exec";

/// How long an engine may be away before the session ends.
const ENGINE_PATIENCE_SECS: u64 = 60;

/// The configuration of a worker for the embedded queue.
pub fn config(root_url: &str, (client_id, access_token): (&str, &str), dir: &Path, jobs: u8) -> Config {
    let mut config = Config::for_exec(ExecValues {
        root_url: root_url.to_owned(),
        client_id: client_id.to_owned(),
        access_token: Secret::new(access_token),
        dir: dir.to_owned(),
        capacity: jobs,
        number_of_tasks_to_run: 0,
    });
    // On somebody's own machine whoever starts a container may.
    config.d2g.enable_d2g = true;
    // Somebody waits here.
    config.own.docker.give_up_after_secs = ENGINE_PATIENCE_SECS;
    // Nobody else cancels tasks of this queue.
    config.own.cancel_poll_secs = 0;
    config
}
