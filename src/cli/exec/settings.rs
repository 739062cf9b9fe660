//! The configuration of the worker inside of `exec`: everything that a file would say, for a queue of one's own.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{
    api::Secret,
    cli::args::ExecArgs,
    config::{Config, ExecValues},
};

/// The pool: tasks that name none go there, and scopes that name it are for it.
pub const PROVISIONER_ID: &str = "local";
/// Its second half.
pub const WORKER_TYPE: &str = "exec";

/// How long an engine may be away before the session ends.
const ENGINE_PATIENCE_SECS: u64 = 60;
/// Where the caches of tasks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caches {
    /// Here, also after the session.
    Kept(PathBuf),
    /// In the session's own directory, as long as that exists.
    Fresh,
}

/// What the command line and the environment say about caches.
pub fn caches(arguments: &ExecArgs) -> Caches {
    if arguments.no_cache {
        return Caches::Fresh;
    }
    let dir = arguments.cache_dir.clone().or_else(|| usual_caches(|name| std::env::var_os(name)));
    // Without a current directory or a home there is no place that another session would find again.
    dir.and_then(|dir| std::path::absolute(dir).ok()).map_or(Caches::Fresh, Caches::Kept)
}

/// The place that the XDG Base Directory Specification names, which also says that relative ones do not count.
fn usual_caches(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(caches?.join("tc-worker"))
}

/// The configuration of a worker for the embedded queue.
pub fn config(root_url: &str, (client_id, access_token): (&str, &str), dir: &Path, jobs: u8, caches: Caches) -> Config {
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
    // By this name an engine knows whose containers are whose; others may use it from other machines and containers.
    config.worker_id = worker_id(&nix::unistd::gethostname().unwrap_or_default().to_string_lossy());
    // Nobody else cancels tasks of this queue.
    config.own.cancel_poll_secs = 0;
    match caches {
        Caches::Kept(dir) => config.caches_dir = dir.join("caches"),
        Caches::Fresh => config.own.fresh_caches = true,
    }
    config
}

/// An id for a worker on this host: 38 of the characters that ids have.
fn worker_id(host: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    let id: String = host.chars().map(plain).take(38).collect();
    if id.is_empty() { "local".to_owned() } else { id }
}

#[cfg(test)]
mod tests {
    use super::{usual_caches, worker_id};

    #[test]
    fn any_host_name_gives_an_id() {
        assert_eq!(worker_id("desk-7.example"), "desk-7-example");
        assert_eq!(worker_id(""), "local");
        assert_eq!(worker_id(&"ü".repeat(50)), "-".repeat(38));
    }

    #[test]
    fn caches_are_where_the_specification_says() {
        let of = |xdg: &str, home: &str| {
            let (xdg, home) = (xdg.to_owned(), home.to_owned());
            let value = move |name: &str| Some(if name == "HOME" { home.clone() } else { xdg.clone() }.into());
            usual_caches(value).map(|path| path.display().to_string())
        };
        assert_eq!(of("/x", "/h").as_deref(), Some("/x/tc-worker"));
        assert_eq!(of("", "/h").as_deref(), Some("/h/.cache/tc-worker"));
        assert_eq!(of("relative", "/h").as_deref(), Some("/h/.cache/tc-worker"));
        assert_eq!(of("", ""), None);
    }
}
