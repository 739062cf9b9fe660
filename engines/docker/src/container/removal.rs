//! Removing what was made for a run, until the engine says that it is not there.
//!
//! Engines answer 500 for moments, are busy removing what somebody else removes, and are restarted. All of that passes, so
//! every removal is tried until a deadline. What another process has removed is removed.

use std::{collections::HashMap, time::Duration};

use bollard::query_parameters::{
    ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use tokio::time::{Instant, sleep};

use super::end::describe;
use crate::{
    connection::Failure,
    engine::Shared,
    labels::{OWNER, RUN},
};

/// First pause between two attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Pauses between attempts, until a deadline, or until the engine has been absent for so long that it is not merely restarted.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    shared: &'a Shared,
    pause: Duration,
    deadline: Instant,
}

impl<'a> Patience<'a> {
    pub(crate) fn until(shared: &'a Shared, deadline: Instant) -> Self {
        Self { shared, pause: FIRST_PAUSE, deadline }
    }

    /// Waits before the next attempt; false if there should be none.
    pub(crate) async fn wait(&mut self) -> bool {
        let absent = self.shared.connection.absent_for() >= self.shared.bounds.absent;
        if absent || Instant::now() + self.pause >= self.deadline {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

/// Removes a container, by name or id, with its anonymous volumes, whether it runs or not.
pub(crate) async fn container(shared: &Shared, name: &str, deadline: Instant) -> Result<(), String> {
    let mut patience = Patience::until(shared, deadline);
    loop {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let docker = shared.connection.docker();
        let removed = shared.connection.call(shared.bounds.removal_call, docker.remove_container(name, Some(options))).await;
        let last = match removed {
            // A removal that is under way is answered with a conflict; it is over when the name is free.
            Ok(()) | Err(Failure::Answer { status: 404 | 409, .. }) => {
                match describe(&shared.connection, shared.bounds.call, name).await {
                    Err(failure) if failure.is_missing() => return Ok(()),
                    Ok(_) => removed.err().map_or_else(|| "it is still there".to_owned(), |failure| failure.to_string()),
                    Err(failure) => failure.to_string(),
                }
            }
            Err(failure) => failure.to_string(),
        };
        if !patience.wait().await {
            return Err(format!("remove container {name}: {last}"));
        }
    }
}

/// Only what belongs to one run of this worker.
fn of_run(shared: &Shared, run: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{OWNER}={}", shared.owner.worker), format!("{RUN}={run}")])])
}

/// Removes the networks of a run. There may be several of one name when a call's reply was lost.
pub(crate) async fn networks(shared: &Shared, run: &str, deadline: Instant) -> Result<(), String> {
    let (mut patience, docker) = (Patience::until(shared, deadline), shared.connection.docker());
    let mut last = None;
    loop {
        let options = ListNetworksOptionsBuilder::default().filters(&of_run(shared, run)).build();
        match shared.connection.call(shared.bounds.call, docker.list_networks(Some(options))).await {
            Ok(found) if found.is_empty() => return Ok(()),
            Ok(found) => {
                for id in found.into_iter().filter_map(|network| network.id) {
                    if let Err(failure) = shared.connection.call(shared.bounds.call, docker.remove_network(&id)).await {
                        last = Some(failure.to_string());
                    }
                }
            }
            Err(failure) => last = Some(failure.to_string()),
        }
        if !patience.wait().await {
            return Err(format!("remove the network of run {run}: {}", last.unwrap_or_else(|| "it is still there".to_owned())));
        }
    }
}

/// Removes the named volumes of a run.
pub(crate) async fn volumes(shared: &Shared, run: &str, deadline: Instant) -> Result<(), String> {
    let (mut patience, docker) = (Patience::until(shared, deadline), shared.connection.docker());
    let mut last = None;
    loop {
        let options = ListVolumesOptionsBuilder::default().filters(&of_run(shared, run)).build();
        match shared.connection.call(shared.bounds.call, docker.list_volumes(Some(options))).await {
            Ok(found) => {
                let names: Vec<_> = found.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect();
                if names.is_empty() {
                    return Ok(());
                }
                for name in names {
                    let options = RemoveVolumeOptionsBuilder::default().force(true).build();
                    let removed = docker.remove_volume(&name, Some(options));
                    if let Err(failure) = shared.connection.call(shared.bounds.removal_call, removed).await {
                        last = Some(failure.to_string());
                    }
                }
            }
            Err(failure) => last = Some(failure.to_string()),
        }
        if !patience.wait().await {
            let last = last.unwrap_or_else(|| "they are still there".to_owned());
            return Err(format!("remove the volumes of run {run}: {last}"));
        }
    }
}
