//! Removing what this worker's dead runs left on the engine.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder};
use tc_engine::{Keep, Swept};
use tokio::time::Instant;

use crate::{
    connection::Failure,
    container::removal,
    engine::Shared,
    labels::{OWNER, name_of},
};

/// What was found of a run.
#[derive(Debug, Default)]
struct Found {
    container: bool,
    volumes: bool,
    networks: bool,
}

/// Removes what is a leftover, run by run: containers before the volumes and networks that they use.
pub(crate) async fn sweep(shared: &Arc<Shared>, worker: &str, keep: &Keep) -> Swept {
    let mut swept = Swept::default();
    let found = match find(shared, worker, keep).await {
        Ok(found) => found,
        Err(failure) => {
            swept.failed.push(format!("look for what earlier runs left on the Docker engine: {failure}"));
            return swept;
        }
    };
    let mut runs: Vec<_> = found.into_iter().collect();
    runs.sort_by(|a, b| a.0.cmp(&b.0));
    for (run, found) in runs {
        match remove(shared, &run, &found).await {
            Ok(()) => swept.removed.push(run),
            Err(left) => swept.failed.push(left),
        }
    }
    swept
}

async fn remove(shared: &Shared, run: &str, found: &Found) -> Result<(), String> {
    let deadline = Instant::now() + shared.bounds.kill;
    if found.container {
        removal::container(shared, &name_of(run), deadline).await?;
    }
    if found.volumes {
        removal::volumes(shared, run, deadline).await?;
    }
    if found.networks {
        removal::networks(shared, run, deadline).await?;
    }
    Ok(())
}

async fn find(shared: &Shared, worker: &str, keep: &Keep) -> Result<HashMap<String, Found>, Failure> {
    let (docker, bound) = (shared.connection.docker(), shared.bounds.call);
    let ours = HashMap::from([("label".to_owned(), vec![format!("{OWNER}={worker}")])]);
    let containers = ListContainersOptionsBuilder::default().all(true).filters(&ours).build();
    let volumes = ListVolumesOptionsBuilder::default().filters(&ours).build();
    let networks = ListNetworksOptionsBuilder::default().filters(&ours).build();
    let (containers, volumes, networks) = tokio::join!(
        shared.connection.call(bound, docker.list_containers(Some(containers))),
        shared.connection.call(bound, docker.list_volumes(Some(volumes))),
        shared.connection.call(bound, docker.list_networks(Some(networks))),
    );
    let mut runs: HashMap<String, Found> = HashMap::new();
    let leftover =
        |name: &str, labels: &HashMap<String, String>| shared.owner.leftover(worker, name, labels, keep).map(str::to_owned);
    for container in containers? {
        let labels = container.labels.unwrap_or_default();
        // A container that is linked to has more than one name.
        let names: BTreeSet<_> = container.names.unwrap_or_default().into_iter().collect();
        let run = names.iter().find_map(|name| leftover(name.trim_start_matches('/'), &labels));
        if let Some(run) = run {
            runs.entry(run).or_default().container = true;
        }
    }
    for volume in volumes?.volumes.unwrap_or_default() {
        if let Some(run) = shared.owner.leftover_volume(worker, &volume.name, &volume.labels, keep) {
            runs.entry(run.to_owned()).or_default().volumes = true;
        }
    }
    for network in networks? {
        if let Some(run) = leftover(&network.name.unwrap_or_default(), &network.labels.unwrap_or_default()) {
            runs.entry(run).or_default().networks = true;
        }
    }
    Ok(runs)
}
