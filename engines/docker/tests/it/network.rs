//! A run's own network.

use tc_engine::{Engine, Exit, Names};

use crate::support::{Collected, Rig, created, hosts};

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_like_the_default_one_and_goes_with_the_run() {
    for (name, host) in hosts("a_network_is_like_the_default_one_and_goes_with_the_run") {
        let rig = Rig::new(&host).await;
        let default = rig.straight.docker().inspect_network("bridge", None).await.expect("the default network");
        let ipv6 = default.enable_ipv6.unwrap_or(false);
        let ground = rig.engine.reserve(Names { network: true, ..rig.names() }).await.expect("space");
        let address = ground.host_address().await.expect("an address").expect("an address");
        assert!(address.is_ipv4(), "{name}: {address}");
        let network = rig.left().await.pop().expect("a network");
        let made = rig.straight.docker().inspect_network(&network, None).await.expect("the network");
        assert_eq!(made.enable_ipv6.unwrap_or(false), ipv6, "{name}");
        let sandbox = created(ground.create(rig.plan(&["cat", "/proc/net/route", "/proc/net/if_inet6"])).await);
        let sink = std::sync::Arc::new(Collected::default());
        let mut handle = sandbox.start(sink.clone());
        assert_eq!(handle.run(0).await.expect("an end").exit, Exit::Code(0), "{name}");
        let tc_engine_address = match address {
            std::net::IpAddr::V4(address) => u32::from_le_bytes(address.octets()),
            std::net::IpAddr::V6(_) => unreachable!("seen above"),
        };
        assert!(sink.text().contains(&format!("{tc_engine_address:08X}")), "{name}: {address} in {}", sink.text());
        let has_ipv6 = sink.text().lines().any(|line| line.starts_with("fd") && line.contains("eth0"));
        assert_eq!(has_ipv6, ipv6, "{name}: {}", sink.text());
        handle.quiesce().await.expect("quiet").destroy(false).await.expect("gone");
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_one_the_default_networks_gateway_is_the_host() {
    for (name, host) in hosts("without_one_the_default_networks_gateway_is_the_host") {
        let rig = Rig::new(&host).await;
        let ground = rig.reserve().await;
        assert!(ground.host_address().await.expect("an address").is_some(), "{name}");
        ground.quiesce().await.destroy(false).await.expect("gone");
        rig.assert_clean().await;
    }
}
