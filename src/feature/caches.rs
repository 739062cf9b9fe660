//! Writable caches of a container task: leased before it starts, mounted into its container, given back when it is quiet.
//!
//! ```text
//! start: purge requests asked for ─▶ all caches leased at once ─▶ mounts for the container
//! stop:  verdict over the run ─▶ each cache kept, or discarded
//! ```
//!
//! Nobody changes the owners of what is in a cache: a container's users are those of its image.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tc_engine::{Bind, Quiet};
use tracing::{info, warn};

use super::{switched_off, table::Part};
use crate::{
    cache::{CacheError, CacheStore, Lease, PurgeRequest, Returned, Verdict},
    log::format::one_line,
    run::{
        context::{CommandsState, RunContext},
        outcome::{Blame, Phase, RunError},
    },
};

/// Longest time for taking or giving back all caches of a task: a few renames and small writes on a disk that is busy.
const STORE_BOUND: Duration = Duration::from_secs(120);

/// The caches of one run.
#[derive(Default)]
pub struct Caches(Arc<Mutex<Held>>);

/// What the run has. Once it is closed, caches that arrive late go back at once.
#[derive(Default)]
struct Held {
    leases: Vec<Lease>,
    closed: bool,
}

#[async_trait]
impl Part<RunContext> for Caches {
    fn name(&self) -> &'static str {
        "Mounts/Caches"
    }

    fn stops_in(&self) -> Phase {
        Phase::Return
    }

    fn admit(&self, cx: &RunContext) -> Result<(), RunError> {
        if !cx.shop.config.enable_mounts {
            return Err(switched_off(cx, self.name()));
        }
        // That the task may have these caches was checked together with its other scopes.
        Ok(())
    }

    async fn start(&self, cx: &RunContext) -> Result<(), RunError> {
        match cx.shop.purges.ask(cx.shop.clock.wall()).await {
            Ok(requests) => {
                for line in purge(Arc::clone(&cx.shop.caches), requests).await {
                    cx.log.info(&format!("[mounts] {line}"));
                }
            }
            Err(error) => {
                cx.log.warn("[mounts] Could not reach purgecache service to see if caches need purging:");
                cx.log.warn(&one_line(&format!("[mounts] {error}")));
            }
        }
        let names: Vec<String> = wanted(cx).map(|(name, _)| name.to_owned()).collect();
        let (held, store) = (Arc::clone(&self.0), Arc::clone(&cx.shop.caches));
        // The leases are put away over there, so that they are not lost when nobody waits for them any more.
        let leasing = tokio::task::spawn_blocking(move || {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            store.lease(&names).map(|leases| put_away(&held, leases))
        });
        match tokio::time::timeout(STORE_BOUND, leasing).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(blame(&error)),
            Ok(Err(error)) => return Err(RunError::new(Blame::Worker, format!("[mounts] make caches: {error}"))),
            Err(_) => return Err(RunError::new(Blame::Service, "[mounts] caches could not be made in time")),
        }
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((name, path), lease) in wanted(cx).zip(&held.leases) {
            let what = if lease.was_there() { "Using the cache" } else { "Using a new cache for" };
            cx.log.info(&format!("[mounts] {what} {name:?} at {path:?}"));
            cx.add_bind(Bind { source: lease.directory(), target: path.to_owned() });
        }
        Ok(())
    }

    async fn stop(&self, cx: &RunContext, quiet: Option<&dyn Quiet>) -> Vec<RunError> {
        let leases = {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            held.closed = true;
            std::mem::take(&mut held.leases)
        };
        if leases.is_empty() {
            return Vec::new();
        }
        let (verdict, why) = verdict(cx.commands_state(), &cx.payload.on_exit.purge_caches, quiet.is_some());
        if let Some(why) = why {
            cx.log.info(&format!("[mounts] {why}"));
        }
        let returning = tokio::task::spawn_blocking(move || {
            let back = |lease: Lease| (lease.name().to_owned(), lease.give_back(verdict));
            leases.into_iter().map(back).collect::<Vec<_>>()
        });
        let Ok(Ok(returned)) = tokio::time::timeout(STORE_BOUND, returning).await else {
            // They are neither free nor lost: what cannot be given back is discarded, now or at the next start.
            warn!("Caches of task {} could not be given back in time", cx.task_id);
            return Vec::new();
        };
        for (name, returned) in returned {
            let line = match returned {
                Ok(Returned::Kept) if verdict == Verdict::Keep => format!("Cache {name:?} is kept for other tasks"),
                Ok(Returned::Discarded) if verdict == Verdict::Discard => format!("Cache {name:?} is discarded"),
                Ok(Returned::Kept | Returned::Discarded) => continue,
                Ok(Returned::Outdated) => format!("Cache {name:?} is discarded: a purge was requested while it was in use"),
                Ok(Returned::Vanished) => format!("Cache {name:?} cannot be kept: somebody has removed it from this machine"),
                // The task has done its work; without the cache the next one has more to do, and that is all.
                Err(error) => {
                    warn!("Cache {name:?} of task {} could not be kept: {error}", cx.task_id);
                    format!("Cache {name:?} could not be kept: {error}")
                }
            };
            cx.log.info(&format!("[mounts] {line}"));
        }
        Vec::new()
    }
}

/// Names and paths of the caches that the task wants, always in the same order.
fn wanted(cx: &RunContext) -> impl Iterator<Item = (&str, &str)> {
    cx.container.iter().flat_map(|container| &container.caches).map(|(name, path)| (name.as_str(), path.as_str()))
}

fn blame(error: &CacheError) -> RunError {
    let blame = if error.is_full() { Blame::Service } else { Blame::Worker };
    RunError::new(blame, format!("[mounts] {error}"))
}

fn put_away(held: &Mutex<Held>, leases: Vec<Lease>) {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    if !held.closed {
        held.leases = leases;
        return;
    }
    drop(held);
    for lease in leases {
        if let Err(error) = lease.give_back(Verdict::Unused) {
            warn!("A cache that was not needed could not be given back: {error}");
        }
    }
}

/// What becomes of the caches of a run, and what its log says about it if they go.
fn verdict(commands: CommandsState, purge_on: &[i64], is_quiet: bool) -> (Verdict, Option<String>) {
    match commands {
        _ if !is_quiet => {
            (Verdict::Discard, Some("Purging caches since processes of the task may still write to them".to_owned()))
        }
        CommandsState::NotStarted => (Verdict::Unused, None),
        CommandsState::Unfinished => {
            let why = "Purging caches since the task was aborted and may have left them in an inconsistent state";
            (Verdict::Discard, Some(why.to_owned()))
        }
        CommandsState::Ended(Some(code)) if purge_on.contains(&code) => {
            let why = format!(
                "Purging caches since last command had exit code {code} which is listed in \
                 task.Payload.OnExitStatus.PurgeCaches array"
            );
            (Verdict::Discard, Some(why))
        }
        CommandsState::Ended(_) => (Verdict::Keep, None),
    }
}

async fn purge(store: Arc<CacheStore>, requests: Vec<PurgeRequest>) -> Vec<String> {
    if requests.is_empty() {
        return Vec::new();
    }
    let purging = tokio::task::spawn_blocking(move || store.purge(&requests));
    match tokio::time::timeout(STORE_BOUND, purging).await {
        Ok(Ok(lines)) => lines,
        Ok(Err(error)) => vec![format!("Caches could not be purged: {error}")],
        Err(_) => vec!["Caches could not be purged in time".to_owned()],
    }
}

/// Asks for purge requests beside a task that has no caches and does not wait for the answer.
pub struct PurgeRequests;

#[async_trait]
impl Part<RunContext> for PurgeRequests {
    fn name(&self) -> &'static str {
        "Purge Requests"
    }

    async fn start(&self, cx: &RunContext) -> Result<(), RunError> {
        let shop = Arc::clone(&cx.shop);
        // Bounded by the patience of the call and of the store. A second one beside it does the same, which is no harm.
        tokio::spawn(async move {
            let (store, now) = (Arc::clone(&shop.caches), shop.clock.wall());
            let count = tokio::task::spawn_blocking(move || store.count()).await;
            if count.is_ok_and(|count| count == 0) {
                shop.purges.nothing_to_purge(now);
                return;
            }
            match shop.purges.ask(now).await {
                Ok(requests) => {
                    for line in purge(Arc::clone(&shop.caches), requests).await {
                        info!("{line}");
                    }
                }
                Err(error) => warn!("Could not ask for purge requests: {error}"),
            }
        });
        Ok(())
    }
}

#[cfg(test)]
#[path = "caches_tests.rs"]
mod tests;
