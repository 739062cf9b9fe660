//! A network of a run's own: a bridge that looks like the engine's default one.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv6Addr},
};

use bollard::{
    models::{Ipam, IpamConfig, NetworkCreateRequest},
    query_parameters::InspectNetworkOptions,
};
use tc_engine::{EngineError, Fault};
use tokio::time::Instant;

use crate::{
    connection::{Failure, Version},
    container::removal,
    engine::Shared,
    labels::name_of,
};

/// The engine's own network, which containers are in that ask for none.
const DEFAULT: &str = "bridge";
/// From this version of the API on (engine 27), engines find IPv6 subnets by themselves.
const CHOOSES_IPV6: Version = Version(46);
/// How often a subnet is chosen that turns out to be taken.
const ATTEMPTS: u8 = 4;

/// Makes the network of a run. It has IPv6 exactly when the default network has it.
pub(crate) async fn create(shared: &Shared, run: &str) -> Result<String, EngineError> {
    let ipv6 = match inspect(shared, DEFAULT).await {
        Ok(found) => found.enable_ipv6.unwrap_or(false),
        // Podman calls its own differently; engines may be told to have none.
        Err(failure) if failure.is_missing() => false,
        Err(failure) => return Err(failure.because(Fault::Resource, "look at the engine's default network")),
    };
    create_with(shared, run, ipv6).await
}

/// The same, with IPv6 or without.
pub(crate) async fn create_with(shared: &Shared, run: &str, ipv6: bool) -> Result<String, EngineError> {
    let failed = |failure: Failure| failure.because(Fault::Resource, "make a network");
    let name = name_of(run);
    // Asked anew, as it costs little and the engine may have been replaced since the last run.
    let version = shared.connection.negotiate().await.map_err(failed)?;
    let mut chosen = (ipv6 && version < CHOOSES_IPV6).then_some(0);
    loop {
        let body =
            body(&name, shared.owner.labels(run), ipv6, chosen.map(|attempt| subnet(&shared.owner.worker, run, attempt)));
        let created = shared.connection.docker().create_network(body);
        let Err(failure) = shared.connection.call(shared.bounds.create, created).await else { return Ok(name) };
        let next = chosen.map_or(0, |attempt| attempt + 1);
        match &failure {
            Failure::Answer { message, .. } if ipv6 && is_about_subnet(message) && next < ATTEMPTS => chosen = Some(next),
            Failure::Answer { .. } | Failure::Unreachable { .. } => return Err(failed(failure)),
            _ => {
                // The reply was lost; the network may be there.
                let removed = removal::networks(shared, run, Instant::now() + shared.bounds.kill).await;
                let left = removed.err().map_or_else(String::new, |left| format!("; {left}"));
                return Err(EngineError::new(Fault::Resource, format!("make a network: {failure}{left}")));
            }
        }
    }
}

/// Whether the engine did not like the subnet, or could not find one.
fn is_about_subnet(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["overlap", "address pool", "subnet", "ipv6"].iter().any(|word| message.contains(word))
}

fn body(name: &str, labels: HashMap<String, String>, ipv6: bool, subnet: Option<String>) -> NetworkCreateRequest {
    let ipam = subnet.map(|subnet| Ipam {
        config: Some(vec![IpamConfig { subnet: Some(subnet), ..IpamConfig::default() }]),
        ..Ipam::default()
    });
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        enable_ipv6: Some(ipv6),
        ipam,
        labels: Some(labels),
        ..NetworkCreateRequest::default()
    }
}

/// A unique local subnet of 2^64 addresses (RFC 4193) that follows from who needs it, so that two workers rarely meet.
fn subnet(worker: &str, run: &str, attempt: u8) -> String {
    let mut hasher = DefaultHasher::new();
    (worker, run, attempt).hash(&mut hasher);
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&hasher.finish().to_be_bytes());
    octets[0] = 0xfd;
    format!("{}/64", Ipv6Addr::from(octets))
}

/// Under which address containers in a network reach this machine: the gateway, IPv4 if there is one. `None` is the default
/// network.
pub(crate) async fn host_address(shared: &Shared, network: Option<&str>) -> Result<Option<IpAddr>, EngineError> {
    let found =
        inspect(shared, network.unwrap_or(DEFAULT)).await.map_err(|f| f.because(Fault::Resource, "look at a network"))?;
    let configs = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    let mut addresses: Vec<IpAddr> = configs
        .into_iter()
        .filter_map(|config| config.gateway)
        // Some versions append the length of the prefix.
        .filter_map(|gateway| gateway.split('/').next().and_then(|address| address.parse().ok()))
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    Ok(addresses.first().copied())
}

async fn inspect(shared: &Shared, name: &str) -> Result<bollard::models::NetworkInspect, Failure> {
    let inspected = shared.connection.docker().inspect_network(name, None::<InspectNetworkOptions>);
    shared.connection.call(shared.bounds.call, inspected).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_local_and_differ() {
        let one = subnet("g/w", "r", 0);
        assert!(one.starts_with("fd") && one.ends_with("/64"), "{one}");
        assert_eq!(one, subnet("g/w", "r", 0));
        assert_ne!(one, subnet("g/w", "r", 1));
        assert_ne!(one, subnet("g/w", "s", 0));
    }

    /// An engine that does not choose IPv6 subnets itself, and a subnet that is taken: neither default network of the test
    /// engines can show this.
    #[tokio::test]
    async fn a_subnet_that_is_taken_is_not_the_last() {
        let Some(host) = std::env::var("TC_DOCKER_CLASSIC").ok().filter(|host| !host.is_empty()) else {
            // The integration tests note that this engine is missing.
            println!("NOT RUN: TC_DOCKER_CLASSIC names no engine");
            return;
        };
        let owner = crate::OwnerIdentity::new(format!("test/network-{}", std::process::id()));
        let shared = Shared {
            connection: crate::Connection::new(&host).expect("an address"),
            bounds: crate::Bounds::default(),
            identity: tc_engine::Identity { uid: 0, gid: 0, groups: Vec::new() },
            owner,
            declared: std::sync::Arc::default(),
        };
        let (docker, worker) = (shared.connection.docker(), &shared.owner.worker);
        let taken = subnet(worker, "one", 0);
        let stranger = body("tc-worker.stranger", shared.owner.labels("stranger"), true, Some(taken.clone()));
        docker.create_network(stranger).await.expect("a network in the way");
        let name = create_with(&shared, "one", true).await.expect("a network all the same");
        let made = inspect(&shared, &name).await.expect("it is there");
        let subnets: Vec<_> = made.ipam.and_then(|ipam| ipam.config).into_iter().flatten().filter_map(|c| c.subnet).collect();
        for run in ["one", "stranger"] {
            let deadline = Instant::now() + std::time::Duration::from_secs(30);
            removal::networks(&shared, run, deadline).await.expect("no network any more");
        }
        assert!(made.enable_ipv6 == Some(true) && !subnets.contains(&taken), "{subnets:?}");
        assert!(subnets.iter().any(|subnet| subnet.starts_with("fd")) && subnets.len() == 2, "IPv4, too: {subnets:?}");
    }
}
